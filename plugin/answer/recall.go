package answer

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Seat is where the verdict on one address stands.
type Seat interface {
	// Verdict does what Look of Health does for the address, unless the address has left the seat.
	Verdict(ttl uint32) (v verdict.Brief, there bool)
}

// Seater is a Health that can tell where it keeps verdicts.
type Seater interface {
	Health
	// Seat returns the seat of an address in records that name no port, or nil if it has to be looked up.
	Seat(addr netip.Addr) Seat
}

const (
	// recallSlots is how many sets a Recall remembers; recallOdds says how seldom a new one takes the place of another, so
	// that many sets which share a slot do not make every query pay for remembering.
	recallSlots = 512
	recallOdds  = 32
)

// Recall remembers where the verdicts on the addresses of a set stand: the same sets come by again and again, and to find
// the addresses in a table each time is most of what judging them costs. It holds no verdict, and it never decides: a set
// that differs from the one remembered in a single address, or whose addresses have left their seats, is looked up.
type Recall struct {
	slots [recallSlots]atomic.Pointer[recollection]
}

// recollection is one set. It is never changed.
type recollection struct {
	addrs []netip.Addr
	seats []Seat
}

// slot is where a set may be remembered. The set is the whole answer.
func (r *Recall) slot(answer []dns.RR) *atomic.Pointer[recollection] {
	first, _ := Address(answer[0])
	last, _ := Address(answer[len(answer)-1])
	return &r.slots[(hash(first)*31^hash(last)+len(answer))&(recallSlots-1)]
}

// recalled lists the addresses of a set with their verdicts, if the rule remembers where those stand.
func (room *scratch) recalled(s *set) ([]candidate, bool) {
	answer := room.out.Answer
	if s.rule.Recall == nil || s.size != len(answer) || s.size > lent {
		return nil, false
	}
	slot := s.rule.Recall.slot(answer)
	known := slot.Load()
	if known == nil || len(known.addrs) != len(answer) {
		return nil, false
	}
	all := room.candidates[:len(answer)]
	for i, rr := range answer {
		addr, ok := Address(rr)
		if !ok || addr != known.addrs[i] {
			return nil, false
		}
		ttl := rr.Header().Ttl
		v, there := known.seats[i].Verdict(ttl)
		if !there {
			slot.CompareAndSwap(known, nil)
			return nil, false
		}
		all[i] = candidate{addr: addr, index: int32(i), ttl: ttl, verdict: v}
	}
	return all, true
}

// remember keeps where the verdicts on a set's addresses stand, if all of them have a seat.
func (room *scratch) remember(s *set, all []candidate) {
	answer := room.out.Answer
	if s.rule.Recall == nil || len(all) != len(answer) || len(all) > lent {
		return
	}
	health, ok := s.rule.Health.(Seater)
	if !ok || health.Seat(all[0].addr) == nil {
		return
	}
	slot := s.rule.Recall.slot(answer)
	if slot.Load() != nil && rand.IntN(recallOdds) > 0 {
		return
	}
	known := &recollection{make([]netip.Addr, len(all)), make([]Seat, len(all))}
	for i := range all {
		known.addrs[i] = all[i].addr
		if known.seats[i] = health.Seat(all[i].addr); known.seats[i] == nil {
			return
		}
	}
	slot.Store(known)
}
