package lookup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// stuck answers from a zone, but never answers questions for names that begin with "stuck".
func stuck(z *zone) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		if strings.HasPrefix(r.Question[0].Name, "stuck") {
			<-ctx.Done()
			return dns.RcodeServerFailure, nil
		}
		return z.ServeDNS(ctx, w, r)
	})
}

func stuckNames(n int) (all []Question) {
	for i := range n {
		all = append(all, Question{fmt.Sprintf("stuck%d.example.org.", i), dns.TypeA})
	}
	return all
}

// A watched name is renewed on time, however many questions are never answered. The TTL of 5 s makes 12 renewals a
// minute, each of which may be a second late (B91).
func TestWatchedNamesGoFirst(t *testing.T) {
	for _, unanswered := range []int{16, 500} {
		z := hosts()
		z.records[0].Header().Ttl = 5
		inBubble(t, stuck(z), func(t *testing.T, l *Resolver) {
			l.Watch([]Question{{"a.example.org.", dns.TypeA}}, time.Second)
			for range 120 {
				for _, q := range stuckNames(unanswered) {
					need(l, q)
				}
				pooltest.Elapse(500 * time.Millisecond)
			}
			if got := z.count("a.example.org.", dns.TypeA); got < 10 || got > 13 {
				t.Errorf("beside %d questions that are never answered, the watched name was asked %d times in a minute, want 10 to 13", unanswered, got)
			}
		})
	}
}

// Questions that are never answered delay another one, but do not starve it: each comes at its time (B91).
func TestNoQuestionStarves(t *testing.T) {
	for what, watched := range map[string]bool{"watched": true, "not watched": false} {
		z := hosts()
		inBubble(t, stuck(z), func(t *testing.T, l *Resolver) {
			others := stuckNames(100)
			if watched {
				l.Watch(others, time.Second)
				others = nil
			}
			q := Question{"a.example.org.", dns.TypeA}
			for range 180 {
				for _, x := range append(slices.Clone(others), q) {
					need(l, x)
				}
				pooltest.Elapse(time.Second)
			}
			// A round of a hundred takes 100 x 3 s / 6 = 50 s.
			if got := z.count(q.Name, q.Type); got < 3 {
				t.Errorf("beside 100 that are %s and never answered, a question was asked %d times in three minutes, want 3 or more", what, got)
			}
		})
	}
}

// Questions that are due are asked in the order of their due times.
func TestDueOrder(t *testing.T) {
	start := time.Now()
	var list []*entry
	for _, seconds := range rand.Perm(100) {
		list = insertByDue(list, &entry{due: start.Add(time.Duration(seconds) * time.Second)})
	}
	if len(list) != maxAsking {
		t.Fatalf("%d entries are kept, want %d", len(list), maxAsking)
	}
	for i, x := range list {
		if got := x.due.Sub(start); got != time.Duration(i)*time.Second {
			t.Errorf("at %d is one that is due after %s", i, got)
		}
	}
}

// The pause after a failure doubles from 5 s up to a minute, and begins at 5 s again after an answer (B91).
func TestPausesGrow(t *testing.T) {
	z := hosts()
	var mu sync.Mutex
	var asked []time.Time
	noting := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		mu.Lock()
		asked = append(asked, time.Now())
		mu.Unlock()
		return z.ServeDNS(ctx, w, r)
	})
	pauses := func() (all []time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for i := 1; i < len(asked); i++ {
			all = append(all, asked[i].Sub(asked[i-1]).Round(time.Second))
		}
		asked = asked[len(asked)-1:]
		return all
	}
	inBubble(t, noting, func(t *testing.T, l *Resolver) {
		z.fail(true)
		l.Watch([]Question{{"a.example.org.", dns.TypeA}}, time.Second)
		l.SkipWait()
		l.Start()
		pooltest.Elapse(200 * time.Second)
		if got := fmt.Sprint(pauses()); got != "[5s 10s 20s 40s 1m0s 1m0s]" {
			t.Errorf("pauses after failures: %s", got)
		}
		z.fail(false)
		pooltest.Elapse(time.Minute)
		z.fail(true)
		pooltest.Elapse(time.Minute)
		if got := pauses(); len(got) < 4 || fmt.Sprint(got[len(got)-2:]) != "[5s 10s]" {
			t.Errorf("pauses with an answer between failures: %s, want 5 s and 10 s at the end", got)
		}
	})
}
