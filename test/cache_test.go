package test

import (
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// A new verdict shows in the very next answer, although the cache below multivalue has the set and keeps serving it:
// fresh, prefetched, stale, or with keepttl (B25, T19, T20).
func TestVerdictShowsAboveCache(t *testing.T) {
	for _, c := range []struct{ name, ttl, cache, counter string }{
		{"hit", "300", "cache 3600", "coredns_cache_hits_total"},
		{"keepttl", "300", "cache 3600 {\n keepttl\n }", "coredns_cache_hits_total"},
		{"prefetch", "5", "cache {\n prefetch 1 1h 90%\n }", "coredns_cache_prefetch_total"},
		{"serve_stale", "1", "cache {\n success 9984 1 1\n serve_stale 1h immediate\n }", "coredns_cache_served_stale_total"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.zone("example.org", "www "+c.ttl+" A 127.0.0.11\nwww "+c.ttl+" A 127.0.0.12\nwww "+c.ttl+" A 127.0.0.13")
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n multivalue {\n QUICK\n }\n " + c.cache + "\n}")
			v.comesTo("www.example.org A", "11 12 13")
			v.settled(3, 0)
			s.kill(12)
			v.down(1)
			v.alwaysUntilCounted("www.example.org A", "11 13", c.counter)
			s.start(12)
			v.settled(3, 0)
			v.alwaysUntilCounted("www.example.org A", "11 12 13", c.counter)
		})
	}
}

// alwaysUntilCounted asks until the counter shows that the cache served an answer in the way under test. Every
// answer, from the first one on, must have the wanted members.
func (v *server) alwaysUntilCounted(question, want, counter string) {
	v.Helper()
	before := metric(counter)
	v.eventually(func() bool {
		if got := members(v.ask(question)); got != want {
			v.Fatalf("%s has %q, want %q at once", question, got, want)
		}
		return metric(counter) > before
	}, func() string { return counter + " does not grow: the cache never answers in the way under test" })
}

// When the source is gone and the cache serves stale answers, in each of its ways, a server that stops leaves them
// too. A server that returns is in them again, and their TTL stays as low as the cache made it (B25, B29, T19).
func TestStaleAnswersOfADeadSource(t *testing.T) {
	for _, c := range []struct {
		stale string
		ttl   uint32
	}{
		{"serve_stale", 0},
		{"serve_stale 1h immediate 7s 10s", 7},
		{"serve_stale 1h verify", 0},
		{"serve_stale 1h verify 50ms 7s", 7},
		{"serve_stale 1h\n serve_stale_policy prefer_positive", 0},
	} {
		t.Run(c.stale, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			var gone atomic.Bool
			source := s.upstream(func(w dns.ResponseWriter, r *dns.Msg) {
				m := new(dns.Msg).SetReply(r)
				if m.Answer = records(r.Question[0].Name, []string{"A 127.0.0.11", "A 127.0.0.12", "A 127.0.0.13"}); gone.Load() {
					m.SetRcode(r, dns.RcodeServerFailure)
				}
				_ = w.WriteMsg(m)
			})
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n forward . " + source + "\n multivalue {\n QUICK\n }\n cache {\n success 9984 1 1\n " + c.stale + "\n }\n}")
			v.comesTo("www.example.org A", "11 12 13")
			v.settled(3, 0)
			gone.Store(true)
			const counter = "coredns_cache_served_stale_total"
			v.alwaysUntilCounted("www.example.org A", "11 12 13", counter)
			s.kill(12)
			v.down(1)
			v.alwaysUntilCounted("www.example.org A", "11 13", counter)
			for _, rr := range v.ask("www.example.org A").Answer {
				if got := rr.Header().Ttl; got != c.ttl {
					t.Errorf("the TTL is %d, want %d as cache has it", got, c.ttl)
				}
			}
			s.start(12)
			v.settled(3, 0)
			v.alwaysUntilCounted("www.example.org A", "11 12 13", counter)
		})
	}
}

// The cache does not keep the reply for a set that is all down: the first server that comes back is in the next
// answer (B8, T14).
func TestClosedSetIsNotCached(t *testing.T) {
	for _, policy := range []string{"nodata", "servfail"} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t, 11, 12)
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n cache 3600\n multivalue {\n QUICK\n all_down " + policy + "\n }\n}")
			v.comesTo("www.example.org A", "11 12")
			s.kill(11, 12)
			v.comesTo("www.example.org A", "")
			s.start(12)
			v.settled(1, 1)
			if got := members(v.ask("www.example.org A")); got != "12" {
				t.Errorf("after a server came back, the answer has %q, want 12", got)
			}
		})
	}
}
