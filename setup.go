package multivalue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(name)

func init() { plugin.Register(name, setup) }

// Directives returns the list with multivalue directly above cache, which is its place, for dnsserver.SetDirectives.
// Without cache in the list it comes last.
func Directives(list []string) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(d string) bool { return d == name })
	if i := slices.Index(list, "cache"); i >= 0 {
		return slices.Insert(list, i, name)
	}
	return append(list, name)
}

// setup reads the stanzas of a server block, and ties what runs for them to the life of the Corefile's instance. Caddy calls
// it once a server block, before any server starts. The plugins below, and the servers, are known only in OnStartup: what
// depends on them is checked there.
func setup(c *caddy.Controller) error {
	configs, err := corefile.Parse(c)
	if err != nil {
		return plugin.Error(name, err)
	}
	if err := theProcess.validate(configs); err != nil {
		return plugin.Error(name, err)
	}
	config := dnsserver.GetConfig(c)
	g := generationOf(c)
	stanzas, err := g.addStanzas(config.Root, configs)
	if err != nil {
		return plugin.Error(name, err)
	}
	b := g.newBlock(c.ServerBlockKeys, c.ServerBlockIndex, configs, stanzas)
	c.OnStartup(func() error {
		// A CoreDNS that others have built handles its option -version before it knows any plugin, so ours is in the log.
		g.process.saysVersion.Do(func() { log.Infof("version %s", Version) })
		b.ServerKeys = g.serverKeys
		chain := chain{configs, config.Handlers(), dnsserver.Directives}
		g.identify(b.Keys+" "+config.ViewName, stanzas)
		if err := g.connect(b, stanzas, chain); err != nil {
			return plugin.Error(name, err)
		}
		for _, warning := range chain.warnings() {
			log.Warning(warning)
		}
		return nil
	})
	// CoreDNS calls this once, from the last plugin of the block to the first, after all setups.
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		b.Resolver.SetNext(next)
		return Multivalue{Next: next, block: b, process: theProcess}
	})
	return nil
}

// validate finds what a Corefile asks for that this program, or this address, cannot give.
func (p *process) validate(configs []*corefile.Config) error {
	for _, s := range configs {
		if s.Annotations != nil && p.kubernetes == nil {
			return s.ErrorAt("annotations", "annotations is not part of this CoreDNS: build cmd/coredns, or use the other line of plugin.cfg.example")
		}
		if s.Zoned != nil && p.kubernetes == nil {
			return s.ErrorAt("topology", "topology kubernetes is not part of this CoreDNS: build cmd/coredns, or use the other line of plugin.cfg.example")
		}
		if s.Fleet != nil && p.fleet.Open == nil {
			return s.ErrorAt("fleet", "fleet is not part of this CoreDNS: build cmd/coredns, or use the other line of plugin.cfg.example")
		}
	}
	return nil
}

// addStanzas makes the stanzas of a server block, and gives them to the pool, where nothing happens to them until the generation
// joins. Relative paths are below root.
func (g *generation) addStanzas(root string, configs []*corefile.Config) ([]*rules.Stanza, error) {
	var stanzas []*rules.Stanza
	file := func(path string) string { return force.Path(root, path) }
	for _, c := range configs {
		s := rules.NewStanza(c, g.process.newSpec)
		if c.Force != "" {
			s.Force(g.forced.Open(file(c.Force)))
		}
		if c.Topology != "" {
			s.Topology = g.sites.Open(file(c.Topology))
		}
		if c.Zoned != nil {
			zones, err := g.zoned.Open(topology.At(*c.Zoned), g.process.kubernetes)
			if err != nil {
				return nil, c.ErrorAt("topology", "topology kubernetes: %w", err)
			}
			s.Topology = zones
		}
		if c.State != "" {
			if err := g.nameState(root, c.State, c.Where("state")); err != nil {
				return nil, err
			}
		}
		if err := g.fleets.Include(c, file); err != nil {
			return nil, err
		}
		if c.Annotations != nil {
			if err := g.followers.Subscribe(annotation.At(*c.Annotations), g.process.kubernetes, s.Overrides); err != nil {
				return nil, c.ErrorAt("annotations", "annotations: %w", err)
			}
		}
		if err := g.pages.Include(c, file); err != nil {
			return nil, err
		}
		g.process.pool.AddGroup(&g.pool, s.Group)
		stanzas = append(stanzas, s)
	}
	return stanzas, nil
}

// newBlock makes the block of some stanzas. It takes over what the running Corefile knows of the same server block.
func (g *generation) newBlock(keys []string, index int, configs []*corefile.Config, stanzas []*rules.Stanza) *rules.Block {
	b := rules.NewBlock(keys, configs, stanzas)
	b.Keys, b.Index, b.Rank = strings.Join(keys, " "), index, len(g.blocks)
	b.Resolver.Adopt(g.process.resolver(b.Keys))
	g.blocks = append(g.blocks, b)
	return b
}

// connect checks the plugins of a server block, once all of them are known, and takes from them what the stanzas need. With
// the last block, the annotations that are known from before come into force: all stanzas have their zones by then, so that
// no Service is taken for one that no stanza judges.
func (g *generation) connect(b *rules.Block, stanzas []*rules.Stanza, chain chain) error {
	if err := chain.check(); err != nil {
		return err
	}
	if err := chain.preload(b); err != nil {
		return err
	}
	if err := chain.setClusterZones(b, stanzas, g.process.kubernetes); err != nil {
		return err
	}
	if g.connected++; g.connected == len(g.blocks) {
		g.followers.Begin()
	}
	return nil
}

// identify tells the stanzas which server block they are in: by its keys and its view, and if several have the same, by their
// order. Those are what stays the same when a Corefile is edited elsewhere. Views are known when all of it has been read.
func (g *generation) identify(block string, stanzas []*rules.Stanza) {
	if g.identified == nil {
		g.identified = make(map[string]int)
	}
	g.identified[block]++
	for _, s := range stanzas {
		s.Group.Identify(fmt.Sprintf("%s %d", block, g.identified[block]))
	}
}

type generationKey struct{}

// generationOf is the generation of the Corefile that c is part of. The first block to ask ties it to the life of the
// instance. It joins the pool before the new servers listen; it is confirmed when they run; and if they never do, which
// nothing tells it, the old instance takes it away.
func generationOf(c *caddy.Controller) *generation {
	if g, ok := c.Get(generationKey{}).(*generation); ok {
		return g
	}
	g := theProcess.newGeneration()
	c.Set(generationKey{}, g)
	c.OnStartup(func() error {
		g.files.AwaitRead()
		g.serverKeys = rules.ServerKeys(c)
		if err := theProcess.join(g); err != nil {
			return plugin.Error(name, err)
		}
		return nil
	})
	c.OnShutdown(func() error {
		metrics.ReloadFailed.Set(0) // a newer Corefile runs, with this plugin or without
		theProcess.end(g)
		return nil
	})
	c.OnRestartFailed(func() error {
		metrics.ReloadFailed.Set(1)
		theProcess.abandon()
		return nil
	})
	hookStartup()
	return g
}

// hookStartup has started called for every instance. The hooks belong to the process, and registering a known name panics;
// but SIGUSR1 drops them all before a reload, so that each setup has to register again.
func hookStartup() {
	defer func() { _ = recover() }()
	caddy.RegisterEventHook(name, started)
}

// started is called by Caddy when the servers of an instance run, of a reload too.
func started(event caddy.EventName, info any) error {
	instance, ok := info.(*caddy.Instance)
	if event != caddy.InstanceStartupEvent || !ok {
		return nil
	}
	instance.StorageMu.RLock()
	g, ok := instance.Storage[generationKey{}].(*generation)
	instance.StorageMu.RUnlock()
	if ok {
		theProcess.confirm(g)
	}
	return nil
}
