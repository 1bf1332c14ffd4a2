package pool

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// Prober is a check as the pool needs it. Probe returns nil, the reason why the target is unfit, or an error that wraps
// check.ErrAbstain if it could not ask, which proves nothing.
type Prober interface {
	Probe(ctx context.Context, addr netip.AddrPort) error
}

// CheckSpec is a check with the pace at which one stanza asks it. It is made by NewCheckSpec, and complete after SetPace.
type CheckSpec struct {
	Name      string // for logs and metrics: the check's canonical text
	Annotated bool   // an annotation names it, and no Corefile

	identity    verdict.Identity
	withoutPace verdict.Identity
	prober      Prober
	forOwner    func(owner string) Prober // nil unless each owner is asked for
	talk        wire.Talk                 // nil if only the prober can ask
	fault       func() string             // why its files are not used as they are now; nil for tests
	hold        bool                      // keep the connection of a good probe
	reuse       bool                      // ask on it again
	newLease    func() check.Lease        // of a connection that is asked again; nil without reuse
	reports     bool                      // answers may say something of the backend
	agent       bool                      // and may take it down with one word
	pace        verdict.Pace
	secret      uint64       // identifies what the name does not show
	seed        uint64       // for the table
	terms       *fleet.Terms // on which its targets are shared; nil if they are not
	fleetGroup  fleet.Group  // of the terms
	port        uint16       // to dial, where neither the check nor the record names another; 0 for none

	portNamed bool // the port of a record does not matter: the check names one, or its protocol has none
}

// NewCheckSpec prepares a check for the pool, without a pace.
func NewCheckSpec(c *check.Check) CheckSpec {
	spec := CheckSpec{prober: c, Name: c.String(), secret: c.Secret(), port: c.Port(), portNamed: c.PortNamed(), hold: c.Hold(), fault: c.Fault}
	spec.reports, spec.agent, spec.reuse = c.Reports(), c.IsAgent(), c.Reuses()
	if spec.reuse {
		spec.newLease = c.NewLease
	}
	if talk := c.Talk(); talk != nil {
		spec.talk = talk
	}
	if c.AsksOwner() {
		spec.forOwner = func(owner string) Prober { return c.ForOwner(owner) }
	}
	spec.withoutPace = verdict.Identify(spec.Name, spec.secret)
	return spec
}

// WithProber returns the check with something else that answers its probes, from a goroutine each. It is for tests whose
// network or time is not real.
func (c CheckSpec) WithProber(p Prober) CheckSpec {
	c.prober, c.talk, c.reuse = p, nil, false
	if c.forOwner != nil {
		c.forOwner = func(string) Prober { return p }
	}
	return c
}

// Share has the targets of the check shared with the other members of a fleet that have the same terms. Its check and pace are filled
// in here. It is called before SetPace.
func (c *CheckSpec) Share(terms fleet.Terms) { c.terms = &terms }

// SetPace completes a check once its whole stanza has been read.
func (c *CheckSpec) SetPace(pace verdict.Pace) {
	c.pace = pace
	secret := c.secret
	if c.terms != nil { // a check that is shared has other targets than the same one that is not
		terms := *c.terms
		terms.Check, terms.Pace = c.Name, pace
		c.terms, c.fleetGroup = &terms, terms.Group()
		secret = hash.Mix(secret, binary.BigEndian.Uint64(c.fleetGroup[:]))
	}
	c.identity = verdict.Identify(c.Name+" "+pace.String(), secret)
	c.seed = table.Seed(c.identity)
}

// Pace is how often the check is asked. It is there after SetPace.
func (c *CheckSpec) Pace() verdict.Pace { return c.pace }

// Identity identifies the check with its pace: an unchanged line of a Corefile has the same one after a reload.
func (c *CheckSpec) Identity() verdict.Identity { return c.identity }

// SameCheck reports whether both ask the same question, at whatever pace.
func (c *CheckSpec) SameCheck(other *CheckSpec) bool { return c.withoutPace == other.withoutPace }

// PerOwner reports whether the check asks for the owner name of the record, so that it has a target for each name.
func (c *CheckSpec) PerOwner() bool { return c.forOwner != nil }

// Reports reports whether answers to the check may say how much of its weight a backend wants.
func (c *CheckSpec) Reports() bool { return c.reports }

// NeedsPort reports whether the check can only ask an address whose record names a port.
func (c *CheckSpec) NeedsPort() bool { return c.port == 0 && !c.portNamed }

// PaceText is the pace in words, which follows the name in the identity.
func (c *CheckSpec) PaceText() string { return c.identity.String()[len(c.Name)+1:] }

// label is the check in metrics. All that annotations name have one, so that the owners of Services make no series.
func (c *CheckSpec) label() string {
	if c.Annotated {
		return "annotation"
	}
	return c.Name
}

// target is what the check asks of an address in a record that names this port, with the seed of its hash. The port is the
// one in the check's URL, else the record's, else the scheme's; and 0 for protocols without ports, such as icmp.
func (c *CheckSpec) target(owner string, addr netip.Addr, port uint16) (verdict.Target, uint64) {
	if port == 0 || c.portNamed {
		port = c.port
	}
	id, seed := c.identityFor(owner)
	return verdict.Target{Identity: id, Addr: netip.AddrPortFrom(addr, port)}, seed
}

// hasNoPort reports whether neither the check nor the record says which port to ask.
func (c *CheckSpec) hasNoPort(t verdict.Target) bool { return t.Addr.Port() == 0 && !c.portNamed }

// Key is a target with what finds it in the table.
type Key struct {
	verdict.Target
	Check *CheckSpec
	owner string
	seed  uint64
}

// Key returns the target of an address in a record of the owner that names this port, 0 for none. It returns false if
// nothing says which port to ask.
func (c *CheckSpec) Key(owner string, at netip.AddrPort) (Key, bool) {
	t, seed := c.target(owner, at.Addr(), at.Port())
	return Key{t, c, owner, seed}, !c.hasNoPort(t)
}

// checkState is a check as the pool runs it.
type checkState struct {
	CheckSpec
	checkMetrics
	labelled string       // of its series; empty before it has any
	live     bool         // a confirmed generation has it
	abstains logonce.Line // a line that every sweep allows again
	faulty   string       // what was last said of its files; empty if they are used
	saysFile logonce.Line // a line about that, which every sweep allows again
	saysOdd  [report.Oddities]logonce.Line
	seats    *fleet.Seats // of its targets; nil if they are not shared now
}
