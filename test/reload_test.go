package test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const calm = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
    }
}`

// A reload keeps the verdicts of checks that did not change, whatever else changed, and also of a check whose
// intervals alone changed. The backends, which are probed once a day, see no probe because of the reloads (B69, T37).
func TestReloadKeepsVerdicts(t *testing.T) {
	for name, edited := range map[string]string{
		"nothing changed": calm,
		"another policy":  strings.Replace(calm, "CALM", "CALM\n limit 5\n all_down nodata", 1),
		"another pace":    strings.Replace(calm, "CALM", "check http://:PORT/\n interval 23h 100ms\n timeout 1m\n within 127.0.0.0/8", 1),
		"another plugin":  strings.Replace(calm, "multivalue", "cache\n multivalue", 1),
		"another block":   calm + "\nexample.net:0 {\n bind 127.0.0.1\n erratic\n}",
		"a check more":    strings.Replace(calm, "multivalue", "multivalue other.example.org {\n check tcp://:PORT\n within 127.0.0.0/8\n }\n multivalue", 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11, 13)
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
			v := s.serve(calm)
			v.comesTo("www.example.org A", "11 13")
			v.settled(2, 1)
			for _, corefile := range []string{edited, calm, edited} {
				v.mustReload(corefile)
				if got := members(v.ask("www.example.org A")); got != "11 13" {
					t.Fatalf("after the reload, the answer has %q, want 11 13 from the first answer on", got)
				}
			}
			v.settled(2, 1)
			for n, b := range s.backends {
				if got := b.accepted.Load(); got != 1 {
					t.Errorf("backend %d was probed %d times, want once in total", n, got)
				}
			}
		})
	}
}

// Under load from several clients no query is lost over ten reloads, and no answer has the dead address (B69).
func TestReloadUnderLoad(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nshop CNAME www")
	v := s.serve(calm)
	v.comesTo("www.example.org A", "11 13")
	v.settled(2, 1)
	answered := v.underLoad(3, "11 13", func() {
		for i := range 10 {
			v.mustReload(strings.Replace(calm, "CALM", fmt.Sprintf("CALM\n limit %d", 3+i%2), 1))
		}
	})
	t.Logf("%d queries were answered during the reloads", answered)
}

// underLoad runs clients that ask without pause while a function runs, and checks that each answer has the wanted
// backends. It returns the number of answers.
func (v *server) underLoad(clients int, want string, during func()) int64 {
	v.Helper()
	var over atomic.Bool
	var answered atomic.Int64
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			client := dns.Client{Timeout: patience}
			question := []string{"www.example.org A", "shop.example.org A"}[i%2]
			for !over.Load() {
				reply, _, err := client.Exchange(query(question), v.addr)
				if err != nil {
					v.Errorf("a query was lost: %v", err)
					return
				}
				if got := members(reply); got != want {
					v.Errorf("an answer has %q, want %q:\n%s", got, want, reply)
					return
				}
				answered.Add(1)
			}
		})
	}
	defer all.Wait()
	defer over.Store(true)
	v.eventually(func() bool { return answered.Load() > 10 }, func() string { return "the load does not start" })
	during()
	return answered.Load()
}

// After many reloads a backend is not probed more often than a backend that was first probed after them (B69).
func TestReloadsDoNotMultiplyProbes(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nfresh A 127.0.0.13\nfresh A 127.0.0.14")
	v := s.serve(classic)
	v.comesTo("www.example.org A", "11")
	for range 8 {
		v.mustReload(classic)
	}
	v.comesTo("fresh.example.org A", "13")
	old, fresh := &s.backends[11].accepted, &s.backends[13].accepted
	oldBefore, freshBefore := old.Load(), fresh.Load()
	v.eventually(func() bool { return fresh.Load() >= freshBefore+12 }, func() string { return "the new backend is not probed" })
	if got := old.Load() - oldBefore; got > 18 {
		t.Errorf("a backend from before the reloads was probed %d times while a new one was probed 12 times", got)
	}
}

const withNet = classic + `
example.net:0 {
    bind 127.0.0.1
    file DIR/example.net
    multivalue {
        check http://:PORT/net
        interval 300ms 100ms
        timeout 300ms
        within 127.0.0.0/8
    }
}`

// A check that a reload removes is no longer run, while the others continue (B69).
func TestRemovedCheckStopsAtOnce(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.zone("example.net", "www A 127.0.0.13\nwww A 127.0.0.14")
	v := s.serve(withNet)
	v.comesTo("www.example.org A", "11")
	v.comesTo("www.example.net A", "13")
	v.mustReload(classic)
	removed, kept := &s.backends[13].accepted, &s.backends[11].accepted
	last, before := removed.Load(), kept.Load()
	v.eventually(func() bool { return kept.Load() >= before+8 }, func() string { return "the check that stayed is no longer run" })
	if got := removed.Load() - last; got > 1 { // one probe was under way
		t.Errorf("the removed check was run %d more times", got)
	}
	v.settled(1, 1)
}

const plain = "example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n}"

// A reload to a Corefile without multivalue ends all probing, and a reload that adds it again starts from the
// beginning (B69).
func TestReloadWithoutMultivalueEndsProbing(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(classic)
	v.comesTo("www.example.org A", "11")
	v.mustReload(plain)
	s.notAsked(11)
	if got := members(v.ask("www.example.org A")); got != "11 12" {
		t.Errorf("without multivalue, the answer has %q, want all", got)
	}
	v.mustReload(classic)
	v.comesTo("www.example.org A", "11")
}

// notAsked checks that a backend gets no new connection for some intervals, except one that was under way.
func (s *scene) notAsked(n int) {
	s.Helper()
	before := s.backends[n].accepted.Load()
	if reached(1500*time.Millisecond, func() bool { return s.backends[n].accepted.Load() > before+1 }) {
		s.Error("the backend is still being probed")
	}
}

// After thirty reloads there are as many goroutines and descriptors as before.
func TestThirtyReloadsLeaveNothing(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	closing := strings.Replace(calm, "CALM", "CALM\n all_down nodata", 1)
	v := s.serve(calm)
	v.comesTo("www.example.org A", "11 13")
	v.mustReload(closing)
	before := takeCensus()
	for range 15 {
		for _, corefile := range []string{calm, closing} {
			v.mustReload(corefile)
			if got := members(v.ask("www.example.org A")); got != "11 13" {
				t.Fatalf("the answer has %q, want 11 13", got)
			}
		}
	}
	if !before.comesBack() {
		t.Errorf("%+v before, %+v after", before, takeCensus())
	}
}
