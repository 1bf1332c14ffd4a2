// Package seen remembers the names that queries asked for lately, the outcome of the last answer for each, and where it
// led. The status page lists them.
//
// Names is the main type. The handler notes every judged answer in it, without a lock, while a status page is there to
// show them; package inspect reads it. Without a page there is no Names, and nothing is noted.
package seen

import (
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"

	"github.com/miekg/dns"
)

const (
	// slots is how many names, with their types, are remembered; tries how many slots a name may be in. A name whose slots
	// are all taken is not listed, and can be explained all the same.
	slots = 4096
	tries = 8
)

// Names are the names whose answers were judged lately. New makes them. Queries write what is not there yet, and only that.
type Names struct {
	slots  [slots]atomic.Pointer[Name]
	sweeps int
}

// New returns an empty set. A name is forgotten after so many sweeps in which no query asked for it.
func New(sweeps int) *Names { return &Names{sweeps: sweeps} }

// Name is a name and a type.
type Name struct {
	lookup.Question
	last         atomic.Uint64 // packed: what is known of its health, whether it was a dry run, outcome, kept and total
	asked        atomic.Bool   // since the last sweep
	idle         int           // sweeps since it was asked for; for Sweep alone
	destinations [blocks]atomic.Pointer[Destinations]
}

// Note notes an answer that was judged, of a server block with that rank.
func (s *Names) Note(q *dns.Question, r answer.Report, m *dns.Msg, rank int) {
	packed := uint64(r.Outcome)<<56 | uint64(min(r.Kept, 1<<28-1))<<28 | uint64(min(r.Total, 1<<28-1))
	if r.Checked {
		packed |= checked
	}
	if r.Enforced != r.Outcome {
		packed |= tried
	}
	if r.Drained {
		packed |= drained
	}
	if r.Forced {
		packed |= forced
	}
	first := slotHash(q)
	var free *atomic.Pointer[Name]
	for i := range uint64(tries) {
		slot := &s.slots[(first+i)%slots]
		name := slot.Load()
		switch {
		case name == nil && free == nil:
			free = slot
		case name != nil && name.Type == q.Qtype && strings.EqualFold(name.Name, q.Name):
			name.note(packed, m, rank)
			return
		}
	}
	if free == nil {
		return
	}
	name := &Name{Question: lookup.Question{Name: strings.ToLower(q.Name), Type: q.Qtype}}
	name.note(packed, m, rank)
	free.CompareAndSwap(nil, name) // if another query was quicker, the next one repeats it
}

// note keeps the last report, and where the answer led.
func (x *Name) note(packed uint64, m *dns.Msg, rank int) {
	if x.last.Load() != packed {
		x.last.Store(packed)
	}
	if !x.asked.Load() {
		x.asked.Store(true)
	}
	had, print := &x.destinations[rank%blocks], fingerprint(m)
	if old := had.Load(); old == nil || old.fingerprint != print {
		had.Store(destinationsOf(m, print))
	}
}

// These bits say what Report has, and tried that an outcome is one that a dry run alone has. The outcome is below them.
const (
	checked = 1 << 63
	tried   = 1 << 62
	drained = 1 << 61
	forced  = 1 << 60
	bits    = checked | tried | drained | forced
)

// Report describes the last answer: its outcome, how many records were kept, and of how many, and what is known of its health. Of what
// was enforced it says only whether that is the outcome.
func (x *Name) Report() answer.Report {
	packed := x.last.Load()
	r := answer.Report{
		Outcome: answer.Outcome(packed &^ bits >> 56), Kept: int(packed >> 28 & (1<<28 - 1)), Total: int(packed & (1<<28 - 1)),
		Checked: packed&checked != 0, Drained: packed&drained != 0, Forced: packed&forced != 0,
	}
	if packed&tried == 0 {
		r.Enforced = r.Outcome
	}
	return r
}

// EachDestinations calls take with where the last answer of each server block led, as far as that is known.
func (x *Name) EachDestinations(take func(*Destinations)) {
	for i := range x.destinations {
		if had := x.destinations[i].Load(); had != nil && had.All != nil {
			take(had)
		}
	}
}

// Each calls take with every name. A nil set has none.
func (s *Names) Each(take func(*Name)) {
	if s == nil {
		return
	}
	for i := range s.slots {
		if x := s.slots[i].Load(); x != nil {
			take(x)
		}
	}
}

// Sweep forgets what has not been asked for in as many calls as New says. It is called once a minute, from one goroutine.
func (s *Names) Sweep() {
	for i := range s.slots {
		x := s.slots[i].Load()
		if x == nil {
			continue
		}
		if x.idle++; x.asked.Swap(false) {
			x.idle = 0
		}
		if x.idle > s.sweeps {
			s.slots[i].Store(nil)
		}
	}
}

// ForgetDestinations forgets where names led: after a reload other server blocks may have the ranks of those that noted it.
func (s *Names) ForgetDestinations() {
	s.Each(func(x *Name) {
		for i := range x.destinations {
			x.destinations[i].Store(nil)
		}
	})
}

// slotHash hashes a question without regard to case.
func slotHash(q *dns.Question) uint64 { return hash.Mix(hash.Name(q.Name), uint64(q.Qtype)) }
