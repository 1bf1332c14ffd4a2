package etcd

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
		c.RoundTrip = time.Duration(e.writer.trip.Load())
		out = append(out, c.Contact)
	}
	return out
}

// show refreshes the metrics and what people see.
func (l *loop) show(now time.Time) {
	all := make([]contact, 0, len(l.authors))
	alive, silent := 0, 0
	var oldest time.Duration
	for _, a := range l.authors {
		// A member that is there and not heard, or never, counts as silent.
		if a.fact.epoch == 0 { // votes without a member
			continue
		}
		switch {
		case a.met && a.heard:
			alive++
		case a.met:
			silent++
		}
		if a.met && !a.heardAt.IsZero() {
			oldest = max(oldest, now.Sub(a.heardAt))
		}
		all = append(all, contact{membership.Contact{Name: a.id, Site: a.fact.site, Version: a.fact.version, Gone: !a.there}, a.heardAt})
	}
	slices.SortFunc(all, func(a, b contact) int { return strings.Compare(a.Name, b.Name) })
	l.contacts.Store(&all)
	if l.left.Load() {
		return
	}
	metrics.Fleet.Members.WithLabelValues("alive").Set(float64(alive))
	metrics.Fleet.Members.WithLabelValues("silent").Set(float64(silent))
	metrics.Fleet.BeatAge.Set(oldest.Seconds())
	metrics.Fleet.Behind.Set(float64(max(0, l.latest.Load()-l.rev)))
	current := 0.0
	if l.current {
		current = 1
	}
	metrics.Fleet.Current.Set(current)
}

// clearMetrics drops the gauges. Counters stay.
func clearMetrics() {
	metrics.Fleet.Members.DeleteLabelValues("alive")
	metrics.Fleet.Members.DeleteLabelValues("silent")
	metrics.Fleet.BeatAge.Set(0)
	metrics.Fleet.Behind.Set(0)
	metrics.Fleet.Current.Set(0)
}
