package multivalue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/force"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(name)

// thePool is the one pool of the process. It outlives every Corefile, so that a reload keeps what it knows.
var thePool = newPool()

func init() { plugin.Register(name, setup) }

// Directives returns the list with multivalue directly above cache, its place, for dnsserver.SetDirectives. Without
// cache in the list it comes last.
func Directives(list []string) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(d string) bool { return d == name })
	if i := slices.Index(list, "cache"); i >= 0 {
		return slices.Insert(list, i, name)
	}
	return append(list, name)
}

func setup(c *caddy.Controller) error {
	stanzas, err := parse(c)
	if err != nil {
		return plugin.Error(name, err)
	}
	config := dnsserver.GetConfig(c)
	g := generationOf(c)
	for _, s := range stanzas {
		g.add(s, thePool)
		if s.force != "" {
			if g.files == nil {
				g.files = thePool.forced.Files()
			}
			s.forced = g.files.Open(force.Path(config.Root, s.force))
			s.account.forced = s.forced
		}
		if s.cluster != nil {
			if err := g.heed(s, thePool); err != nil {
				return plugin.Error(name, err)
			}
		}
	}
	b := newBlock(stanzas)
	b.origins = plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys)
	b.place, b.rank = c.ServerBlockIndex, len(g.learners)
	b.learner.keys = strings.Join(c.ServerBlockKeys, " ")
	b.learner.adopt(thePool.before(b.learner.keys))
	g.learners = append(g.learners, b.learner)
	c.OnStartup(func() error {
		b.sites = g.sites
		handlers := config.Handlers()
		if err := fit(stanzas, handlers, dnsserver.Directives); err != nil {
			return plugin.Error(name, err)
		}
		if err := b.learner.list(stanzas, handlers); err != nil {
			return plugin.Error(name, err)
		}
		if err := b.attach(stanzas, handlers, thePool); err != nil {
			return plugin.Error(name, err)
		}
		g.begin()
		for _, warning := range misfits(stanzas, handlers, dnsserver.Directives) {
			log.Warning(warning)
		}
		return nil
	})
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		b.learner.next.Store(&next)
		return Multivalue{Next: next, block: b}
	})
	return nil
}

// newBlock makes the table of a server block's zones. parse has made sure that no name is in it twice.
func newBlock(stanzas []*parsedStanza) *block {
	b := &block{zones: make(zones), confined: true}
	b.learner = newLearner(b)
	var watched []question
	for _, s := range stanzas {
		b.types |= s.rule.Types
		b.confined = b.confined && len(s.within) > 0
		watched = append(watched, s.questions()...)
		for _, origin := range s.zones {
			b.zones[origin] = &zone{name: origin, stanza: &s.stanza}
		}
		for _, exempt := range s.except {
			b.zones[exempt] = &zone{name: exempt}
		}
	}
	if len(watched) > 0 {
		b.learner.census = newCensus(watched)
		for _, q := range watched {
			b.learner.add(q, true)
		}
	}
	return b
}

type generationKey struct{}

// generationOf is the generation of the Corefile that c is part of. The first block to ask ties it to the life of the
// instance. It joins the pool before the new servers listen; it is confirmed when they run; and if they never do,
// which nobody tells it, the old instance takes it away.
func generationOf(c *caddy.Controller) *generation {
	if g, ok := c.Get(generationKey{}).(*generation); ok {
		return g
	}
	g := new(generation)
	c.Set(generationKey{}, g)
	c.OnStartup(func() error {
		if g.files != nil {
			g.files.AwaitRead()
		}
		g.sites = sitesOf(c)
		if err := thePool.join(g); err != nil {
			return plugin.Error(name, err)
		}
		return nil
	})
	c.OnShutdown(func() error { g.end(thePool); return nil })
	c.OnRestartFailed(func() error { thePool.abandon(); return nil })
	hookStartup()
	return g
}

// hookStartup has started called for every instance. The hooks are the process's, and they panic on a name they know;
// but SIGUSR1 drops them all before a reload, so that each setup has to register again.
func hookStartup() {
	defer func() { _ = recover() }()
	caddy.RegisterEventHook(name, started)
}

func started(event caddy.EventName, info any) error {
	instance, ok := info.(*caddy.Instance)
	if event != caddy.InstanceStartupEvent || !ok {
		return nil
	}
	instance.StorageMu.RLock()
	g, ok := instance.Storage[generationKey{}].(*generation)
	instance.StorageMu.RUnlock()
	if ok {
		thePool.confirm(g)
	}
	return nil
}

// fit refuses a block whose plugins would make a stanza do harm.
func fit(stanzas []*parsedStanza, handlers []plugin.Handler, order []string) error {
	if err := needWithin(stanzas, handlers); err != nil {
		return err
	}
	for _, h := range handlers {
		if h.Name() != "cache" || slices.Index(order, "cache") > slices.Index(order, name) {
			continue
		}
		for _, s := range stanzas {
			if s.rule.Policy.Client {
				return fmt.Errorf("%s - select client below cache would give every client what the first one got: want multivalue above cache in the list of plugins, or select random", s.at)
			}
		}
	}
	return nil
}

// remote are the plugins that pass on what the owner of some other zone answers.
var remote = []string{"forward", "grpc", "secondary", "fanout", "recursor", "unbound"}

// needWithin refuses a stanza that would let the owners of remote zones choose what is probed.
func needWithin(stanzas []*parsedStanza, handlers []plugin.Handler) error {
	for _, h := range handlers {
		if !slices.Contains(remote, h.Name()) {
			continue
		}
		for _, s := range stanzas {
			if len(s.within) == 0 {
				return fmt.Errorf("%s - within is missing, and required beside %s: without it, whoever owns a remote zone chooses what is probed; name the networks of your servers, such as within 192.0.2.0/24",
					s.at, h.Name())
			}
		}
	}
	return nil
}

// misfits says what of the block does not go well with the place of multivalue in the chain.
func misfits(stanzas []*parsedStanza, handlers []plugin.Handler, order []string) []string {
	var warnings []string
	ours := slices.Index(order, name)
	for _, h := range handlers {
		at := slices.Index(order, h.Name())
		switch {
		case h.Name() == "cache" && at < ours:
			warnings = append(warnings, "multivalue stands below cache: what is cached keeps dead addresses until its TTL ends, and every client gets the same choice")
		case h.Name() == "dnssec" && at > ours:
			warnings = append(warnings, "multivalue stands above dnssec: answers to queries with the DO bit are signed before they come by, and stay whole")
		case h.Name() == "dnssec" && slices.ContainsFunc(stanzas, samples):
			warnings = append(warnings, "multivalue stands below dnssec and may answer with a sample: each draw is a new signature; limit off avoids that")
		}
	}
	return warnings
}

func samples(s *parsedStanza) bool { return s.rule.Policy.Limit > 0 }
