package multivalue

import (
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

const (
	// sightingSlots is how many names with their types are remembered, sightingTries how many places a name may have. Where
	// all are taken, it is not listed, and can be explained all the same.
	sightingSlots = 4096
	sightingTries = 8
	// sightingSweeps is after how many sweeps of the pool a name is forgotten that nobody asks for: as many as a target.
	sightingSweeps = int(keepUnasked / sweepEvery)
)

// sightings are the names whose answers were judged of late, and what became of the last one. There are some only while a
// status listener is there to show them. Queries write them without a lock, and write nothing that is there already.
type sightings [sightingSlots]atomic.Pointer[sighting]

// sighting is a name and a type.
type sighting struct {
	question
	last  atomic.Uint64 // packed: outcome, kept and total
	asked atomic.Bool   // since the last sweep
	idle  int           // sweeps since it was asked for; the pool's
	leads [leadPlaces]atomic.Pointer[leads]
}

// note takes note of an answer that was judged, of a server block by its place.
func (s *sightings) note(q *dns.Question, r answer.Report, m *dns.Msg, place int) {
	packed := uint64(r.Outcome)<<56 | uint64(min(r.Kept, 1<<28-1))<<28 | uint64(min(r.Total, 1<<28-1))
	first := sightingHash(q)
	var free *atomic.Pointer[sighting]
	for i := range uint64(sightingTries) {
		slot := &s[(first+i)%sightingSlots]
		seen := slot.Load()
		switch {
		case seen == nil && free == nil:
			free = slot
		case seen != nil && seen.qtype == q.Qtype && strings.EqualFold(seen.name, q.Name):
			seen.note(packed, m, place)
			return
		}
	}
	if free == nil {
		return
	}
	seen := &sighting{question: question{strings.ToLower(q.Name), q.Qtype}}
	seen.note(packed, m, place)
	free.CompareAndSwap(nil, seen) // where another was quicker, the next query repeats it
}

// note keeps the last report, and where the answer led.
func (x *sighting) note(packed uint64, m *dns.Msg, place int) {
	if x.last.Load() != packed {
		x.last.Store(packed)
	}
	if !x.asked.Load() {
		x.asked.Store(true)
	}
	had, print := &x.leads[place%leadPlaces], leadsPrint(m)
	if old := had.Load(); old == nil || old.print != print {
		had.Store(leadsOf(m, print))
	}
}

// report is what became of the last answer.
func (x *sighting) report() answer.Report {
	packed := x.last.Load()
	return answer.Report{Outcome: answer.Outcome(packed >> 56), Kept: int(packed >> 28 & (1<<28 - 1)), Total: int(packed & (1<<28 - 1))}
}

// sweep forgets what nobody asks for any longer.
func (s *sightings) sweep() {
	for i := range s {
		x := s[i].Load()
		if x == nil {
			continue
		}
		if x.idle++; x.asked.Swap(false) {
			x.idle = 0
		}
		if x.idle > sightingSweeps {
			s[i].Store(nil)
		}
	}
}

// sightingHash hashes a question without regard to case.
func sightingHash(q *dns.Question) uint64 { return hash.Mix(hash.Name(q.Name), uint64(q.Qtype)) }

// relead forgets where names led: other server blocks may stand in the places of those that noted it.
func (s *sightings) relead() {
	if s == nil {
		return
	}
	for i := range s {
		if x := s[i].Load(); x != nil {
			for place := range x.leads {
				x.leads[place].Store(nil)
			}
		}
	}
}
