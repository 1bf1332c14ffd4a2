package inspect

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Here is what is known of the health of addresses that are all served, where the outcome does not tell: all of them are drained,
// some are forced up, or the only one is down. Queries do not look the only one up, and it is not probed because of its set. But
// another name may have it probed, and a file may force it.

// lookAlone looks up the only member of a set, as a query does with the members of a larger one.
func (e *explainer) lookAlone(d *decision) {
	if !d.Alone || len(d.Candidates) == 0 {
		return
	}
	// A host of one address is one as well. Of a host whose addresses are not known, nothing is.
	if all := e.addresses(d.Candidates[0]); len(all) == 1 {
		d.Candidates[0].Verdict = lookAt(d.stanza, d.Owner, all[0])
	}
}

// lookAt is what a stanza believes of an address in a record of the owner that names this port, 0 for none. Nothing is watched for it.
func lookAt(s *rules.Stanza, owner string, at netip.AddrPort) verdict.Brief {
	return s.ReadOnly().Look(verdict.RecordSet{Owner: owner}, at.Addr(), at.Port(), 0)
}

// isKnown reports whether anything is known of the only member of a set.
func (d *decision) isKnown() bool { return d.Checked() || d.health() != 0 }

// health is what the outcome of a set does not tell of the health of its members.
func (d *decision) health() (h health) {
	// Other outcomes say themselves what is wrong.
	if d.Outcome != answer.Whole && d.Outcome != answer.Sample || d.Signed || len(d.Candidates) == 0 {
		return h
	}
	if d.Alone {
		return healthAlone(d.Candidates[0].Verdict)
	}
	// One that is not drained is enough: then the others wait, or the outcome tells that they do not.
	h = allDrained
	for i, c := range d.Candidates {
		// A backup that waits changes nothing. What only the limit leaves out is in other answers.
		if c.Verdict.ForcedUp() && (i < d.Served || c.Tier.IsPrimary()) {
			h |= forcedUp
		}
		if !c.Verdict.Drained() {
			h &^= allDrained
		}
	}
	return h
}

// health is a set of what is so, of which the worst is told.
type health uint8

const (
	// onlyDown: the only member of a set is down.
	onlyDown health = 1 << iota
	// allDrained: all members of a set are drained, so that none counts as drained.
	allDrained
	// forcedUp: a member that is served counts as up by hand alone.
	forcedUp
)

// String is the value in JSON, empty for nothing. A test holds it together with the words of the page.
func (h health) String() string {
	switch {
	case h&onlyDown != 0:
		return "down"
	case h&allDrained != 0:
		return "drained"
	case h&forcedUp != 0:
		return "forced"
	}
	return ""
}

// healthOf is what the report on an answer has of it. Of an only member the report knows nothing.
func healthOf(r answer.Report) (h health) {
	if r.Outcome > answer.Sample {
		return h
	}
	if r.Drained {
		h |= allDrained
	}
	if r.Forced {
		h |= forcedUp
	}
	return h
}

// addHealth adds to the last answer for a name what is known now: of the only address of its set, which the report on the answer has
// not, and whether an address has gone down since, so that the next answer has fewer.
func (l *linker) addHealth(x *seen.Name) {
	last := l.lastOf(x)
	// Other outcomes say themselves that something is down.
	if last == nil || last.Outcome != answer.Whole.String() && last.Outcome != answer.Sample.String() {
		return
	}
	h := healthOf(x.Report())
	x.EachDestinations(func(had *seen.Destinations) {
		for _, b := range l.blocks {
			for i := range had.All {
				last.Fell = last.Fell || hasFallen(b, x, had, &had.All[i])
				// Views may answer a name differently: the worst of what they answered is told.
				s, at, ok := alone(b, x, had, &had.All[i])
				if !ok {
					continue
				}
				v := lookAt(s, had.All[i].Owner, at)
				last.Checked = last.Checked || v.State() == verdict.Up || v.State() == verdict.Down
				h |= healthAlone(v)
			}
		}
	})
	last.Health = h.String()
}

// hasFallen reports whether a destination of an answer that had all that it should has lost one of its first addresses since. A backup
// that is down changes no such answer, and neither does a check that another one of the stanza outvotes.
func hasFallen(b *rules.Block, x *seen.Name, had *seen.Destinations, d *seen.Destination) bool {
	s := b.StanzaFor(d.Owner, x.Name)
	if s == nil || !s.Rule.Types.Has(x.Type) {
		return false
	}
	addrs := addressesOf(b, had, d)
	// Where all are backups, those of the lowest rank are not.
	first, down := answer.MaxRank, 0
	for _, addr := range addrs {
		first = min(first, s.Rule.Policy.RankOf(addr))
	}
	for _, addr := range addrs {
		v := lookAt(s, d.Owner, netip.AddrPortFrom(addr, d.Port))
		if v.State() == verdict.Down && !v.Drained() && s.Rule.Policy.RankOf(addr) == first {
			down++
		}
	}
	if d.Host != "" { // the record stays while the host has a healthy address
		return down > 0 && down == len(addrs)
	}
	return down > 0
}

// healthAlone is what is told of the only member of a set.
func healthAlone(v verdict.Brief) health {
	switch {
	case v.State() == verdict.Down:
		return onlyDown
	case v.Drained():
		return allDrained
	case v.ForcedUp():
		return forcedUp
	}
	return 0
}

// lastOf is the last answer for a name in the snapshot; nil if it is not in there.
func (l *linker) lastOf(x *seen.Name) *status.Last {
	// Names are sorted by now, as links need them. A query may have added one since the snapshot began.
	i, known := slices.BinarySearchFunc(l.shot.Names, x.Name, func(n status.Name, name string) int { return cmp.Compare(n.Name, name) })
	if !known {
		return nil
	}
	// A name that was learned by its targets alone has no answers.
	answers := l.shot.Names[i].Answers
	at := slices.IndexFunc(answers, func(a status.Last) bool { return a.Type == dns.TypeToString[x.Type] })
	if at < 0 {
		return nil
	}
	return &answers[at]
}

// alone returns where a destination leads, if it is the only one of a set that is served whatever its health is, and by which stanza.
func alone(b *rules.Block, x *seen.Name, had *seen.Destinations, d *seen.Destination) (s *rules.Stanza, at netip.AddrPort, ok bool) {
	s = b.StanzaFor(d.Owner, x.Name)
	if s == nil || s.Rule.Policy.AllDownText() != "serve" || !s.Rule.Types.Has(x.Type) {
		return s, at, false
	}
	addrs := addressesOf(b, had, d)
	switch x.Type {
	case dns.TypeA, dns.TypeAAAA:
		if d.Host != "" {
			return s, at, false
		}
	case dns.TypeSRV, dns.TypeMX:
		// A record that names a host is the only one of its set, and the host has one address.
		// The records of one owner are one set, whatever hosts they name.
		set := 0
		for i := range had.All {
			if had.All[i].Owner == d.Owner && had.All[i].Host != "" {
				set++
			}
		}
		if d.Host == "" || set != 1 {
			return s, at, false
		}
	default: // a hint always stays
		return s, at, false
	}
	if len(addrs) != 1 {
		return s, at, false
	}
	return s, netip.AddrPortFrom(addrs[0], d.Port), true
}
