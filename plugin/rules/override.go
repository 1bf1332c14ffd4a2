package rules

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/pool"

	"github.com/miekg/dns"
)

// Overrides are the checks that annotations of Services name for a stanza: for the names of such a Service another stanza
// takes its place, which differs from it in the check alone. It is an annotation.Subscriber.
type Overrides struct {
	stanza  *Stanza
	block   *Block
	config  *corefile.Config
	newSpec NewSpec

	// suffixes are what follows the name and the namespace of a Service in its names, such as ".svc.cluster.local.", the
	// longest first. They are known before there is a table.
	suffixes []string

	table atomic.Pointer[map[string]*Stanza] // by Service, as NAME.NAMESPACE; replaced, never changed; never nil

	// These belong to the pool's loop once the stanza's generation has joined.
	current map[string]*check.Check // what the table was made of; nil before the first Apply
	byCheck map[string]*Stanza      // those in the table, by the text of their check, which holds no secret
	checks  []pool.CheckSpec        // of them
}

func newOverrides(s *Stanza, c *corefile.Config, newSpec NewSpec) *Overrides {
	a := &Overrides{stanza: s, config: c, newSpec: newSpec}
	a.table.Store(new(map[string]*Stanza))
	return a
}

// forName is the stanza that takes the place for names of annotated Services, or nil for other names.
func (a *Overrides) forName(owner string) *Stanza {
	if a == nil {
		return nil
	}
	table := *a.table.Load()
	if len(table) == 0 {
		return nil
	}
	return table[a.service(owner)]
}

// service is the Service that a name belongs to: its own, or one below that, of an endpoint or a port. For other names it
// is a word that no Service has.
func (a *Overrides) service(owner string) string {
	owner = strings.ToLower(owner) // which allocates only where a resolver varies the case
	for _, suffix := range a.suffixes {
		if rest, ok := strings.CutSuffix(owner, suffix); ok {
			namespace := strings.LastIndexByte(rest, '.')
			return rest[strings.LastIndexByte(rest[:max(namespace, 0)], '.')+1:]
		}
	}
	return ""
}

// SetZones tells the zones of the cluster, as the plugin *kubernetes* has them. It is called once, before the first table.
// It reports whether there are names of Services in them, which reverse zones have not.
func (a *Overrides) SetZones(b *Block, zones []string) (some bool) {
	a.block = b
	for _, zone := range zones {
		if zone = dns.Fqdn(strings.ToLower(zone)); !dns.IsSubDomain("arpa.", zone) {
			a.suffixes = append(a.suffixes, ".svc."+zone)
		}
	}
	slices.SortFunc(a.suffixes, func(x, y string) int { return cmp.Or(len(y)-len(x), strings.Compare(x, y)) })
	return len(a.suffixes) > 0
}

// ServiceZone is where the names of Services are, for error messages.
func (a *Overrides) ServiceZone() string { return a.suffixes[0][1:] }

// HasServices reports whether names of any Service can fall to the stanza.
func (a *Overrides) HasServices() bool {
	for _, suffix := range a.suffixes {
		services := suffix[1:]
		if z := a.block.Zones.Find(services); z != nil && z.Stanza == a.stanza {
			return true
		}
		for origin, z := range a.block.Zones {
			if z.Stanza == a.stanza && origin != services && dns.IsSubDomain(services, origin) {
				return true
			}
		}
	}
	return false
}

// Judges implements annotation.Subscriber.
func (a *Overrides) Judges(service string) bool {
	for _, suffix := range a.suffixes {
		name := service + suffix
		if z := a.block.Zones.Find(name); z != nil && z.Stanza == a.stanza {
			return true
		}
		for origin, z := range a.block.Zones {
			if z.Stanza == a.stanza && dns.IsSubDomain(name, origin) {
				return true
			}
		}
	}
	return false
}

// Current implements annotation.Subscriber.
func (a *Overrides) Current() map[string]*check.Check { return a.current }

// Apply implements annotation.Subscriber. A stanza stays the same one while its check does, so that an edit elsewhere
// changes nothing for it.
func (a *Overrides) Apply(checks map[string]*check.Check) (changed bool) {
	changed = !maps.EqualFunc(a.current, checks, func(x, y *check.Check) bool { return x.String() == y.String() })
	a.current = checks
	if !changed {
		return false
	}
	before, next := a.byCheck, make(map[string]*Stanza, len(checks))
	a.byCheck, a.checks = make(map[string]*Stanza), nil
	for service, c := range checks {
		name := c.String()
		s := a.byCheck[name]
		if s == nil {
			if s = before[name]; s == nil {
				s = a.stanza.with(a.spec(c))
			}
			a.byCheck[name] = s
			a.checks = append(a.checks, s.checks[0])
		}
		next[service] = s
	}
	a.table.Store(&next)
	return true
}

// spec prepares a check of an annotation for the pool, at the stanza's pace.
func (a *Overrides) spec(c *check.Check) pool.CheckSpec {
	spec := a.newSpec(c)
	spec.Annotated = true
	shareWith(a.config, c, &spec)
	spec.SetPace(a.config.Pace)
	return spec
}
