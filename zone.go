package multivalue

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coredns/coredns/plugin/metrics"

	"github.com/miekg/dns"
)

// zones finds the stanza for a name: the one with the most specific zone that holds it. A name under except is found
// too, without a stanza. Keys are lower case and end in a dot.
type zones map[string]*zone

// zone is a zone of a stanza, or a name that one exempts.
type zone struct {
	name   string
	stanza *stanza // nil for an exempt name

	resolving sync.Mutex // one writer of counters at a time
	counters  atomic.Pointer[map[servedBy]*answerMetrics]
	first     atomic.Pointer[served] // of the server and view that asked first, which are mostly the only ones
}

// servedBy is the server and view that answer, as metrics name them.
type servedBy struct{ server, view string }

type served struct {
	by       servedBy
	counters *answerMetrics
}

// find walks up the labels of a name. However many zones there are, it looks up one a label.
func (z zones) find(name string) *zone {
	name = strings.ToLower(name) // which allocates only where a resolver plays with the case
	for offset, end := 0, false; !end; offset, end = dns.NextLabel(name, offset) {
		if found := z[name[offset:]]; found != nil {
			return found
		}
	}
	return z["."]
}

// metrics returns the counters of the zone on the server and view that ctx names, resolved the first time.
func (z *zone) metrics(ctx context.Context) *answerMetrics {
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
	next := make(map[servedBy]*answerMetrics)
	if known := z.counters.Load(); known != nil {
		next = maps.Clone(*known)
	}
	if next[by] == nil {
		next[by] = newAnswerMetrics(by.server, z.name, by.view)
	}
	z.counters.Store(&next)
	z.first.CompareAndSwap(nil, &served{by, next[by]})
	return next[by]
}
