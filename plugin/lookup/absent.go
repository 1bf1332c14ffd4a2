package lookup

import (
	"maps"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// absentFor is how long a set that is gone is reported: an hour more than the pool remembers an address at most.
	absentFor = 25 * time.Hour
	// maxAbsent bounds the sets of a zone that are remembered as gone. The pool forgets the rest as it does what no query
	// asks for.
	maxAbsent = 65536
)

// zoneSets are the sets of a preloaded zone, with those that are gone. They outlive a reload.
type zoneSets struct {
	mu   sync.Mutex // because both generations may read the zone during a reload
	last []*dns.Msg // of the last reading
	// gone has the sets that were in the zone, with the time when they were first missed. Each is reported at every reading
	// until it is back, or absentFor has passed.
	gone map[Question]time.Time
}

// compare notes which sets a reading found, and with that which are gone, and which are back.
func (z *zoneSets) compare(sets []*dns.Msg, now time.Time) {
	there := make(map[Question]bool, len(sets))
	for _, m := range sets {
		there[questionOf(m)] = true
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	maps.DeleteFunc(z.gone, func(q Question, _ time.Time) bool { return there[q] })
	for _, m := range z.last {
		if q := questionOf(m); !there[q] && len(z.gone) < maxAbsent {
			z.gone[q] = now
		}
	}
	z.last = sets
}

// report tells the host of each set that is gone.
func (z *zoneSets) report(host Host, now time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	maps.DeleteFunc(z.gone, func(_ Question, since time.Time) bool { return now.Sub(since) > absentFor })
	for q := range z.gone {
		host.Absent(q)
	}
}
