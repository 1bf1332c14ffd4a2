package rules

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coredns/coredns/plugin/metrics"

	"github.com/miekg/dns"
)

// Zones finds the stanza for a name: the one with the most specific zone that holds it. A name under except is found too,
// without a stanza. Keys are lower case and end in a dot.
type Zones map[string]*Zone

// Zone is a zone of a stanza, or a name that one exempts.
type Zone struct {
	Name   string
	Stanza *Stanza // nil for an exempt name

	resolving sync.Mutex // one writer of counters at a time
	counters  atomic.Pointer[map[servedBy]*Counters]
	first     atomic.Pointer[served] // of the server and view that asked first, which are mostly the only ones
}

// servedBy is the server and view that answer, as metrics name them. Both are the plugin *metrics*' words, from the context.
type servedBy struct{ server, view string }

type served struct {
	by       servedBy
	counters *Counters
}

// Find walks up the labels of a name. However many zones there are, it does one map look-up a label.
func (z Zones) Find(name string) *Zone {
	name = strings.ToLower(name) // which allocates only where a resolver varies the case
	for offset, end := 0, false; !end; offset, end = dns.NextLabel(name, offset) {
		if found := z[name[offset:]]; found != nil {
			return found
		}
	}
	return z["."]
}

// Counters returns the counters of the zone's answers on the server and view that ctx names. They are resolved the first
// time; after that it takes no lock and allocates nothing.
func (z *Zone) Counters(ctx context.Context) *Counters {
	by := servedBy{metrics.WithServer(ctx), metrics.WithView(ctx)}
	if first := z.first.Load(); first != nil && first.by == by {
		return first.counters
	}
	if known := z.counters.Load(); known != nil {
		if m := (*known)[by]; m != nil {
			return m
		}
	}
	z.resolving.Lock()
	defer z.resolving.Unlock()
	next := make(map[servedBy]*Counters)
	if known := z.counters.Load(); known != nil {
		next = maps.Clone(*known)
	}
	if next[by] == nil {
		next[by] = newCounters(by.server, z.Name, by.view)
	}
	z.counters.Store(&next)
	z.first.CompareAndSwap(nil, &served{by, next[by]})
	return next[by]
}
