package gossip

import (
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

// contact is another member, for people.
type contact struct {
	membership.Contact
	heard time.Time // the zero time if it was not
}

// Contacts are the other members, by name.
func (e *engine) Contacts() []membership.Contact {
	all := e.contacts.Load()
	if all == nil {
		return nil
	}
	out := make([]membership.Contact, 0, len(*all))
	for _, c := range *all {
		c.Heard = -1
		if !c.heard.IsZero() {
			c.Heard = time.Since(c.heard)
		}
		out = append(out, c.Contact)
	}
	return out
}

// show refreshes the metrics and what people see.
func (l *loop) show(now time.Time) {
	// A member that is there counts as silent if it was not heard, or never: its votes do not count then.
	all := make([]contact, 0, len(l.peers))
	alive, silent := 0, 0
	var oldest time.Duration
	for _, p := range l.peers {
		if p.gone {
			continue
		}
		switch {
		case p.present() && p.heard:
			alive++
		case p.anyAlive():
			silent++
		}
		if p.met && !p.beatAt.IsZero() {
			oldest = max(oldest, now.Sub(p.beatAt))
		}
		c := contact{membership.Contact{Name: p.name, Address: p.name, Gone: !p.anyAlive() || p.stopped}, p.beatAt}
		// One that never sent a beat has no epoch that counts, but memberlist knows what it says of itself.
		epoch := p.epoch
		for other := range p.nodes {
			if !p.chosen {
				epoch = other
			}
		}
		if n := p.nodes[epoch]; n != nil {
			c.Site, c.Version = n.site, n.version
			c.RoundTrip = l.watcher.trip(sender{p.addr, epoch}.nodeName())
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b contact) int { return strings.Compare(a.Name, b.Name) })
	l.contacts.Store(&all)
	if !l.left.Load() {
		metrics.Fleet.Members.WithLabelValues("alive").Set(float64(alive))
		metrics.Fleet.Members.WithLabelValues("silent").Set(float64(silent))
		metrics.Fleet.BeatAge.Set(oldest.Seconds())
	}
}

// clearMetrics drops the gauges. Counters stay.
func clearMetrics() {
	metrics.Fleet.Members.DeleteLabelValues("alive")
	metrics.Fleet.Members.DeleteLabelValues("silent")
	metrics.Fleet.BeatAge.Set(0)
}
