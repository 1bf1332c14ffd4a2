package rules

import (
	"math"
	"net/netip"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Stanza is one multivalue stanza of a Corefile, ready to judge by. It is the answer.Health of its rule and the
// pool.Checks of its group.
type Stanza struct {
	Rule      answer.Rule
	Within    network.List // where may be probed
	Forced    *force.File  // nil if the stanza names none
	Topology  Topology     // the sites of select nearest; nil without it
	Overrides *Overrides   // the checks that annotations name; nil if the stanza does not go by them
	Group     *pool.Group
	Need      int // how many of the checks have to pass; 0 for all

	checks []pool.CheckSpec // all must pass, unless Need says how many
	maxTTL uint32           // the highest TTL, in seconds, that can go out while verdicts bound it

	loggedOpen     logonce.Line // every sweep allows it again, and the next two
	loggedBackup   logonce.Line
	loggedInstead  logonce.Line
	loggedSigned   logonce.Line
	loggedMetadata logonce.Line // whether queries have metadata was looked at
	loggedGaps     [verdict.Gaps]logonce.Line
}

// NewSpec prepares a check for the pool: pool.NewCheckSpec, except in tests whose network is not real.
type NewSpec func(*check.Check) pool.CheckSpec

// NewStanza makes a stanza of what the Corefile says. What other plugins have to say is added before its server starts.
func NewStanza(c *corefile.Config, newSpec NewSpec) *Stanza {
	s := &Stanza{
		Rule:   answer.Rule{Types: c.Types, Policy: c.Policy},
		Within: c.Within,
		Need:   c.Need(),
		maxTTL: c.Policy.TTL.Longest(math.MaxUint32, c.Pace.LongestHold()),
	}
	for _, x := range c.Checks {
		spec := newSpec(x)
		shareWith(c, x, &spec)
		spec.SetPace(c.Pace)
		s.checks = append(s.checks, spec)
	}
	s.Rule.Health = s
	s.Group = &pool.Group{
		At: c.At, Zones: strings.Join(c.Zones, " "), Max: c.MaxTargets, DryRun: c.Policy.DryRun, Warms: c.Policy.Warmup > 0,
		Allow: func(addr netip.Addr) bool { return s.Within.Allows(addr) }, Checks: s,
	}
	if c.Annotations != nil {
		s.Overrides = newOverrides(s, c, newSpec)
	}
	return s
}

// shareWith has the targets of a check shared as the stanza says. What belongs to this host is asked here alone.
func shareWith(c *corefile.Config, x *check.Check, spec *pool.CheckSpec) {
	if c.Fleet == nil || x.OfThisHost() {
		return
	}
	terms := fleet.Terms{Vantage: c.Fleet.Vantage, Quorum: c.Fleet.Quorum}
	for _, n := range c.Within {
		terms.Within = append(terms.Within, n.Prefix)
	}
	spec.Share(terms)
}

// Force has a file decide about the stanza's addresses before their checks do. It is called once, before the stanza is used.
func (s *Stanza) Force(f *force.File) {
	s.Forced = f
	s.Group.Forced, s.Group.ForcedBy = s.ShowForced, f.Path()
}

// ShowForced returns what is forced for an address, for the status page. A set of one address, and one outside within, can be
// forced too, although no check covers it.
func (s *Stanza) ShowForced(addr netip.Addr) status.Force {
	if s.Forced == nil {
		return status.Force{}
	}
	forced := s.Forced.Value()
	shown := status.Force{Forced: forced.For(addr).String()}
	// Most lines have neither a reason nor an end.
	if line := forced.Note(addr); line != nil {
		shown.Note, shown.Until = line.Reason, line.Until
	}
	return shown
}

// Open implements answer.Health.
func (s *Stanza) Open(owner string, rrtype uint16) verdict.RecordSet {
	return s.Group.Open(owner, rrtype)
}

// Look is what is believed of an address: what the checks say together, unless it is forced. The pool is asked for a forced
// address too, because looking is watching; only what lies outside within is not. It allocates nothing.
func (s *Stanza) Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	v := verdict.Outside.Brief()
	if s.Within.Allows(addr) {
		v = s.believe(at, addr, port, min(ttl, s.maxTTL))
	} else if s.Within.Spares(addr) {
		v = verdict.Special.Brief()
	}
	if s.Forced != nil {
		return s.Forced.Value().For(addr).Apply(v)
	}
	return v
}

// believe is what the checks say together: the worst of them, or of as many as have to pass.
func (s *Stanza) believe(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	if s.Need > 0 {
		var all [corefile.MaxRequire]verdict.Brief
		for i := range s.checks { // all are asked, because looking is watching
			all[i] = s.Group.Look(&s.checks[i], at, addr, port, ttl)
		}
		return verdict.Quorum(all[:len(s.checks)], s.Need)
	}
	worst := s.Group.Look(&s.checks[0], at, addr, port, ttl)
	for i := 1; i < len(s.checks); i++ {
		worst = verdict.Worse(worst, s.Group.Look(&s.checks[i], at, addr, port, ttl))
	}
	return worst
}

// RuleFor is how sets of an owner name are judged: by the check that an annotation names for it, or by the stanza's own.
func (s *Stanza) RuleFor(owner string) *answer.Rule {
	if other := s.Overrides.forName(owner); other != nil {
		return &other.Rule
	}
	return &s.Rule
}

// For implements pool.Checks.
func (s *Stanza) For(owner string) []pool.CheckSpec {
	if other := s.Overrides.forName(owner); other != nil {
		return other.checks
	}
	return s.checks
}

// All implements pool.Checks.
func (s *Stanza) All() []pool.CheckSpec {
	if s.Overrides == nil {
		return s.checks
	}
	return append(s.checks[:len(s.checks):len(s.checks)], s.Overrides.checks...)
}

// with is the stanza with another check in place of its own. It has a rule of its own and needs that one check
// to pass; network, forced file and group are the stanza's.
func (s *Stanza) with(spec pool.CheckSpec) *Stanza {
	other := &Stanza{Rule: s.Rule, Within: s.Within, Forced: s.Forced, Topology: s.Topology, Group: s.Group, checks: []pool.CheckSpec{spec}, maxTTL: s.maxTTL}
	other.Rule.Health = other
	other.Rule.Policy.Reports = spec.Reports()
	return other
}

// ReadOnly is the stanza's health without a trace: what it returns is what Look would, and nothing is watched for it.
func (s *Stanza) ReadOnly() answer.Health { return readOnly{s} }

type readOnly struct{ *Stanza }

// Open is the stanza's, without a note.
func (r readOnly) Open(owner string, _ uint16) verdict.RecordSet {
	return verdict.RecordSet{Owner: owner}
}

// Look is the stanza's, without a note that a query asked.
func (r readOnly) Look(at verdict.RecordSet, addr netip.Addr, port uint16, _ uint32) verdict.Brief {
	v := verdict.Outside.Brief()
	if r.Within.Allows(addr) {
		v = r.combined(at.Owner, netip.AddrPortFrom(addr, port))
	} else if r.Within.Spares(addr) {
		v = verdict.Special.Brief()
	}
	if r.Forced != nil {
		return r.Forced.Value().For(addr).Apply(v)
	}
	return v
}

// combined is what believe says, without a note. A test holds the two together for every combination of states.
func (r readOnly) combined(owner string, at netip.AddrPort) verdict.Brief {
	all := make([]verdict.Brief, len(r.checks))
	var worst verdict.Brief
	for i := range r.checks {
		k, _ := r.checks[i].Key(owner, at)
		if all[i] = r.Group.Peek(k); i == 0 {
			worst = all[i]
		}
		worst = verdict.Worse(worst, all[i])
	}
	if r.Need > 0 {
		return verdict.Quorum(all, r.Need)
	}
	return worst
}

// Targets are what the stanza asks of an address in a record of the owner that names this port, 0 for none.
func (s *Stanza) Targets(owner string, at netip.AddrPort) []pool.Key {
	if !s.Within.Allows(at.Addr()) {
		return nil
	}
	var all []pool.Key
	for i := range s.checks {
		if k, ok := s.checks[i].Key(owner, at); ok {
			all = append(all, k)
		}
	}
	return all
}
