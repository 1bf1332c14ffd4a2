package multivalue

import (
	"bytes"
	"fmt"
	stdlog "log"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// logged takes what is logged from now on until the test ends. In a bubble it may be read whenever that is at rest.
func logged(t *testing.T) *bytes.Buffer {
	text, before := new(bytes.Buffer), stdlog.Writer()
	stdlog.SetOutput(text)
	t.Cleanup(func() { stdlog.SetOutput(before) })
	return text
}

// countLines is how many lines have the words.
func countLines(text *bytes.Buffer, words string) int { return strings.Count(text.String(), words) }

// The pool has a cap on the targets of all stanzas together. Over it addresses are served unchecked and counted, whichever
// stanza asks; what is watched stays, and when some of that is forgotten there is room again (B61).
func TestCapInAll(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		if p.maxTargets != 1<<18 {
			t.Errorf("a pool watches up to %d targets, and the manual says 262144", p.maxTargets)
		}
		p.maxTargets = 10
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		begin(p, a, b)
		lookAll(a, addrs(0, 6))
		lookAll(b, addrs(0, 6))
		if got := sizeOf(p).watches; got != 10 || !p.full.Load() {
			t.Errorf("%d targets, want 10; full: %t", got, p.full.Load())
		}
		before := testutil.ToFloat64(metrics.SkippedMaxTargets)
		for _, s := range []*parsedStanza{a, b} {
			if v := verdictOf(s, pooltest.Addr(50)); v.State != verdict.Unchecked {
				t.Errorf("over the cap: %+v", v)
			}
		}
		if got := testutil.ToFloat64(metrics.SkippedMaxTargets) - before; got != 2 {
			t.Errorf("%v counted, want 2", got)
		}
		pass(20*time.Minute, a, addrs(0, 6)...) // those of b are forgotten
		lookAll(b, addrs(0, 4))
		pass(10*time.Second, b, addrs(0, 4)...)
		if got := sizeOf(p).watches; got != 10 || state(b, pooltest.Addr(3)) != verdict.Up {
			t.Errorf("there is room again, but %d targets, and %s", got, state(b, pooltest.Addr(3)))
		}
	})
}

// Verdicts on what was forgotten have the same cap (B61).
func TestCapOfMemories(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = 30 * time.Minute // for twice which they are remembered
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		p.maxTargets = 10
		for from := 0; from < 30; from += 10 {
			lookAll(s, addrs(from, from+10))
			pooltest.Elapse(keepUnasked + 2*sweepEvery)
			if got := sizeOf(p); got.watches != 0 || got.memories != 10 {
				t.Errorf("%+v, want no watches, and memories of the 10 that came first", got)
			}
		}
		pooltest.Elapse(2 * pace.Interval)
		if got := sizeOf(p).memories; got != 0 {
			t.Errorf("%d memories are kept", got)
		}
	})
}

// A cap that leaves addresses unchecked is told once a minute for each stanza, with its place, whichever cap it is (B76).
func TestCapsAreSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		limit func(p *pool, s *parsedStanza)
		want  string
	}{
		"of the stanza": {func(_ *pool, s *parsedStanza) { s.account.Max = 3 }, "the cap of max_targets 3 is reached: further addresses are served unchecked (stanza at Corefile:7)"},
		"in all":        {func(p *pool, _ *parsedStanza) { p.maxTargets = 3 }, "the cap of 3 targets in all is reached: further addresses are served unchecked (stanza at Corefile:7)"},
	} {
		t.Run(name, func(t *testing.T) {
			text := logged(t)
			inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
				s := testStanza("tcp://:80", n, pooltest.Pace)
				s.account.At = "Corefile:7"
				tc.limit(p, s)
				begin(p, s)
				pass(time.Minute, s, addrs(0, 3)...)
				if text.Len() > 0 {
					t.Errorf("up to the cap the log has %s", text)
				}
				pass(10*time.Minute, s, addrs(0, 100)...)
				all, lines := countLines(text, tc.want), countLines(text, "\n")
				if all < 9 || all > 11 || lines != all {
					t.Errorf("%d lines of %d in ten minutes have %q:\n%s", all, lines, tc.want, text)
				}
			})
		})
	}
}

// So is one that leaves addresses unknown: of a name with too many addresses, and of an address with too many names (B76).
func TestCapsOfNamesAreSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		look func(s *parsedStanza, i int)
		most int
		want string
	}{
		"addresses": {func(s *parsedStanza, i int) { s.Look("WWW.example.org.", pooltest.Addr(i), 0, 30) }, maxPerName,
			"www.example.org. has reached the cap of 4096 targets for one name: its further addresses are served as unknown (stanza at Corefile:7)"},
		"names": {func(s *parsedStanza, i int) { s.Look(fmt.Sprintf("x%d.example.org.", i), pooltest.Addr(1), 0, 30) }, maxOwners,
			"10.0.0.1:80 has reached the cap of 256 names for one address with host owner: under others, such as x256.example.org., it is served as unknown (stanza at Corefile:7)"},
	} {
		t.Run(name, func(t *testing.T) {
			text := logged(t)
			inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
				s := ownerStanza(nil, pooltest.Pace)
				s.checks[0].forOwner = nil
				if name == "names" {
					s.checks[0].forOwner = func(string) Prober { return n }
				}
				s.checks[0].prober, s.account.At = n, "Corefile:7"
				begin(p, s)
				for i := range tc.most {
					tc.look(s, i)
					if i%1000 == 0 {
						synctest.Wait()
					}
				}
				synctest.Wait()
				if text.Len() > 0 {
					t.Errorf("up to the cap the log has %s", text)
				}
				for i := range 300 { // seconds
					tc.look(s, tc.most)
					tc.look(s, tc.most+i%5)
					pooltest.Elapse(time.Second)
				}
				all, lines := countLines(text, tc.want), countLines(text, "\n")
				if all < 4 || all > 6 || lines != all {
					t.Errorf("%d lines of %d in five minutes have %q:\n%s", all, lines, tc.want, text)
				}
			})
		})
	}
}

// That the dead are served is told anew each minute for as long as it is so, and not for each answer (B76).
func TestServingTheDeadIsSaidAgain(t *testing.T) {
	text := logged(t)
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.MinUp.Count = 1
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		h := serving(p, zoneOf(www...), s)
		keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		text.Reset()
		keepAsking(t, h, 10*time.Minute, "www.example.org.", dns.TypeA)
		if got := countLines(text, "www.example.org.: too few of 2 addresses are up, serving 2 of them"); got < 9 || got > 11 {
			t.Errorf("%d lines in ten minutes:\n%s", got, text)
		}
		text.Reset()
		n.Revive(pooltest.Addr(1), pooltest.Addr(2))
		keepAsking(t, h, 5*time.Minute, "www.example.org.", dns.TypeA)
		if got := countLines(text, "too few of"); got > 1 {
			t.Errorf("%d lines after they came back:\n%s", got, text)
		}
	})
}

// One answer that leads to very many hosts makes the learner ask for 32 questions; the next query goes on with the rest.
func TestQuestionsOfAnAnswerAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		var hosts []dns.RR
		for i := range 100 {
			hosts = append(hosts, test.SRV(fmt.Sprintf("_x._tcp.example.org. 30 IN SRV 1 1 8001 h%d.example.org.", i)))
		}
		h := serving(p, zoneOf(hosts...), srvStanza(n))
		for i := 1; i <= 3; i++ {
			serve(t, h, query("_x._tcp.example.org.", dns.TypeSRV))
			synctest.Wait()
			if got := len(h.block.learner.lessons()); got != i*32 {
				t.Errorf("%d questions after %d answers, want 32 for each", got, i)
			}
		}
	})
}
