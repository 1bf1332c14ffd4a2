package multivalue

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// annotated is what the annotations of Services change in a stanza: for the names of some Services another stanza stands
// in its place, which differs from it in the check alone.
type annotated struct {
	stanza *stanza
	block  *block
	pace   verdict.Pace
	specOf func(*check.Check) CheckSpec // specOf, but where a test's time is not real

	// suffixes are what follows the name and the namespace of a Service in its names, such as ".svc.cluster.local.", the
	// longest first. They are known before there is a table.
	suffixes []string

	table  atomic.Pointer[map[string]*stanza] // by Service, as NAME.NAMESPACE; never changed once it is published; nil before
	checks []CheckSpec                        // in the table, each once; the pool's loop's
}

func newAnnotated(s *parsedStanza) *annotated {
	a := &annotated{stanza: &s.stanza, pace: s.pace, specOf: NewCheckSpec}
	a.table.Store(new(map[string]*stanza))
	return a
}

// of is the stanza that stands in for names of annotated Services, or nil if the name is of none.
func (a *annotated) of(owner string) *stanza {
	if a == nil {
		return nil
	}
	table := *a.table.Load()
	if len(table) == 0 {
		return nil
	}
	return table[a.service(owner)]
}

// service is the Service that a name belongs to: its own, or one below that, of an endpoint or a port. It is nonsense, and
// so none that there is, for other names.
func (a *annotated) service(owner string) string {
	owner = strings.ToLower(owner) // which allocates only where a resolver plays with the case
	for _, suffix := range a.suffixes {
		if rest, ok := strings.CutSuffix(owner, suffix); ok {
			namespace := strings.LastIndexByte(rest, '.')
			return rest[strings.LastIndexByte(rest[:max(namespace, 0)], '.')+1:]
		}
	}
	return ""
}

// settle tells the zones of the cluster, as its plugin has them. Reverse zones hold no names of Services.
func (a *annotated) settle(b *block, zones []string) {
	a.block = b
	for _, zone := range zones {
		if zone = dns.Fqdn(strings.ToLower(zone)); !dns.IsSubDomain("arpa.", zone) {
			a.suffixes = append(a.suffixes, ".svc."+zone)
		}
	}
	slices.SortFunc(a.suffixes, func(x, y string) int { return cmp.Or(len(y)-len(x), strings.Compare(x, y)) })
}

// reaches reports whether names of any Service can fall to the stanza.
func (a *annotated) reaches() bool {
	for _, suffix := range a.suffixes {
		services := suffix[1:]
		if z := a.block.zones.find(services); z != nil && z.stanza == a.stanza {
			return true
		}
		for origin, z := range a.block.zones {
			if z.stanza == a.stanza && origin != services && dns.IsSubDomain(services, origin) {
				return true
			}
		}
	}
	return false
}

// judges reports whether names of a Service fall to the stanza.
func (a *annotated) judges(service string) bool {
	for _, suffix := range a.suffixes {
		name := service + suffix
		if z := a.block.zones.find(name); z != nil && z.stanza == a.stanza {
			return true
		}
		for origin, z := range a.block.zones {
			if z.stanza == a.stanza && dns.IsSubDomain(name, origin) {
				return true
			}
		}
	}
	return false
}

// build makes the next table of what the annotations say. wrong gets those for which there is no room.
func (a *annotated) build(known map[string]notice, judged map[string]bool, wrong map[string]string) map[string]*stanza {
	bids := a.bids(known, judged, wrong)
	newRoom().grant(bids)
	made, next := make(map[verdict.Identity]*stanza), make(map[string]*stanza)
	for _, s := range *a.table.Load() {
		made[s.checks[0].identity] = s
	}
	for _, b := range bids {
		if b.refused != "" && wrong[b.service] == "" {
			wrong[b.service] = b.refused
		}
		if b.has == nil {
			continue
		}
		if made[b.has.identity] == nil {
			made[b.has.identity] = a.stanza.with(*b.has)
		}
		next[b.service] = made[b.has.identity]
	}
	return next
}

func (a *annotated) spec(c *check.Check) *CheckSpec {
	spec := a.specOf(c)
	spec.annotated = true
	spec.SetPace(a.pace)
	return &spec
}

// publish puts a table into force, and reports whether it is another one. It is for the pool's loop.
func (a *annotated) publish(next map[string]*stanza) bool {
	if maps.Equal(*a.table.Load(), next) {
		return false
	}
	a.checks = nil
	for _, s := range next {
		if !slices.ContainsFunc(a.checks, func(c CheckSpec) bool { return c.identity == s.checks[0].identity }) {
			a.checks = append(a.checks, s.checks[0])
		}
	}
	a.table.Store(&next)
	return true
}

// with is the stanza with another check in the place of its own.
func (s *stanza) with(spec CheckSpec) *stanza {
	other := *s
	other.checks, other.need, other.annotated = []CheckSpec{spec}, 0, nil
	other.rule.Health = &other
	return &other
}

// ruleOf is how a set of that name is judged.
func (s *stanza) ruleOf(owner string) *answer.Rule {
	if other := s.annotated.of(owner); other != nil {
		return &other.rule
	}
	return &s.rule
}

// clusterAt is how a Corefile names a cluster. Empty words stand for the Pod's own.
type clusterAt struct{ kubeconfig, context string }

// parseAnnotations takes note of the cluster. The words are those of the plugin kubernetes.
func parseAnnotations(s *parsedStanza, c *caddy.Controller, args []string) error {
	if thePool.kubernetes == nil {
		return c.Errf("annotations: this CoreDNS was built without what reads them: build cmd/coredns, or with the other line of plugin.cfg.example")
	}
	s.cluster = new(clusterAt)
	if len(args) > 0 {
		if s.cluster.kubeconfig = args[0]; args[0] == "" {
			return c.Errf("annotations names no file: want the path of a kubeconfig")
		}
	}
	if len(args) > 1 {
		s.cluster.context = args[1]
	}
	return nil
}

// checkAnnotations looks for a stanza that would let the owners of Services aim probes at anything.
func (s *parsedStanza) checkAnnotations() error {
	if s.cluster != nil && len(s.within) == 0 {
		return s.errorAt("annotations", "annotations needs within: without it, whoever owns a Service chooses what is probed; name the networks of your Pods, such as within 10.244.0.0/16")
	}
	return nil
}

// attach tells the block's stanzas of the cluster, once all plugins are known, and has them begin with what is known of it.
func (b *block) attach(stanzas []*parsedStanza, handlers []plugin.Handler, p *pool) error {
	for _, s := range stanzas {
		if s.cluster == nil {
			continue
		}
		var zones []string
		for _, h := range handlers {
			more, told := p.kubernetes.Zones(h)
			if told && s.cluster.kubeconfig == "" {
				return s.errorAt("annotations", "annotations is about the cluster that CoreDNS runs in, and kubernetes in this server block may be about another: want annotations KUBECONFIG, for the same one")
			}
			zones = append(zones, more...)
		}
		if s.annotated.settle(b, zones); len(s.annotated.suffixes) == 0 {
			return s.errorAt("annotations", "annotations is about names of Services: want the plugin kubernetes in this server block")
		}
		if !s.annotated.reaches() {
			return s.errorAt("annotations", "annotations is about names of Services, and none falls to this stanza: want a zone above or below %s", s.annotated.suffixes[0][1:])
		}
	}
	return nil
}
