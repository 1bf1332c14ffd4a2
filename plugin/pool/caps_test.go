package pool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The pool limits the number of targets of all stanzas together. Over the limit, addresses are served unchecked and
// counted, in every stanza. Targets that are watched stay, and when some of them are forgotten, others can be added
// (B61).
func TestLimitInAll(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		if p.maxTargets != 1<<18 {
			t.Errorf("a pool has up to %d targets, but the manual says 262144", p.maxTargets)
		}
		p.maxTargets = 10
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		begin(p, a, b)
		lookAll(a, addrs(0, 6))
		lookAll(b, addrs(0, 6))
		if got := sizeOf(p).monitors; got != 10 || !p.full.Load() {
			t.Errorf("%d targets, want 10; full: %t", got, p.full.Load())
		}
		before := testutil.ToFloat64(metrics.SkippedMaxTargets)
		for _, s := range []*stanza{a, b} {
			if v := verdictOf(s, pooltest.Addr(50)); v.State != verdict.Unchecked {
				t.Errorf("over the limit: %+v", v)
			}
		}
		if got := testutil.ToFloat64(metrics.SkippedMaxTargets) - before; got != 2 {
			t.Errorf("%v counted, want 2", got)
		}
		pass(20*time.Minute, a, addrs(0, 6)...) // the targets of b are forgotten
		lookAll(b, addrs(0, 4))
		pass(10*time.Second, b, addrs(0, 4)...)
		if got := sizeOf(p).monitors; got != 10 || stateOf(b, pooltest.Addr(3)) != verdict.Up {
			t.Errorf("after targets were forgotten, there are %d targets, and %s", got, stateOf(b, pooltest.Addr(3)))
		}
	})
}

// The number of remembered verdicts on forgotten targets has the same limit (B61).
func TestLimitOfMemories(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = 30 * time.Minute // verdicts are remembered for twice this time
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		p.maxTargets = 10
		for from := 0; from < 30; from += 10 {
			lookAll(s, addrs(from, from+10))
			abandon(s, owners(from))
			if got := sizeOf(p); got.monitors != 0 || got.memories != 10 {
				t.Errorf("%+v, want no watches, and memories of the first 10", got)
			}
		}
		pooltest.Elapse(2 * pace.Interval)
		if got := sizeOf(p).memories; got != 0 {
			t.Errorf("%d memories are kept", got)
		}
	})
}

// A limit that leaves addresses unchecked is logged once a minute for each stanza, with its place in the Corefile,
// whichever limit it is (B76).
func TestLimitsAreLogged(t *testing.T) {
	for name, tc := range map[string]struct {
		limit func(p *Pool, s *stanza)
		want  string
	}{
		"of the stanza": {func(_ *Pool, s *stanza) { s.Max = 3 }, "max_targets 3 is reached: further addresses are served unchecked (stanza at Corefile:7)"},
		"in all":        {func(p *Pool, _ *stanza) { p.maxTargets = 3 }, "the limit of 3 targets in all is reached: further addresses are served unchecked (stanza at Corefile:7)"},
	} {
		t.Run(name, func(t *testing.T) {
			text := pooltest.Logged(t)
			inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
				s := testStanza("tcp://:80", n, pooltest.Pace)
				s.At = "Corefile:7"
				tc.limit(p, s)
				begin(p, s)
				pass(time.Minute, s, addrs(0, 3)...)
				if text.Len() > 0 {
					t.Errorf("up to the limit the log has %s", text)
				}
				pass(10*time.Minute, s, addrs(0, 100)...)
				all, lines := pooltest.CountLines(text, tc.want), pooltest.CountLines(text, "\n")
				if all < 9 || all > 11 || lines != all {
					t.Errorf("%d lines of %d in ten minutes have %q:\n%s", all, lines, tc.want, text)
				}
			})
		})
	}
}

// A limit that leaves addresses unknown is logged too: too many addresses of a name, and too many names of an address
// (B76).
func TestLimitsOfNamesAreLogged(t *testing.T) {
	for name, tc := range map[string]struct {
		look func(s *stanza, i int)
		most int
		want string
	}{
		"addresses": {func(s *stanza, i int) { s.Look("WWW.example.org.", pooltest.Addr(i), 0, 30) }, maxPerName,
			"www.example.org. has reached the limit of 4096 targets for one name: its other addresses are served as unknown (stanza at Corefile:7)"},
		"names": {func(s *stanza, i int) { s.Look(fmt.Sprintf("x%d.example.org.", i), pooltest.Addr(1), 0, 30) }, maxOwners,
			"10.0.0.1:80 has reached the limit of 256 names for one address with host owner: for others, such as x256.example.org., it is served as unknown (stanza at Corefile:7)"},
	} {
		t.Run(name, func(t *testing.T) {
			text := pooltest.Logged(t)
			inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
				s := ownerStanza(nil, pooltest.Pace)
				s.checks[0].forOwner = nil
				if name == "names" {
					s.checks[0].forOwner = func(string) Prober { return n }
				}
				s.checks[0].prober, s.At = n, "Corefile:7"
				begin(p, s)
				for i := range tc.most {
					tc.look(s, i)
					if i%1000 == 0 {
						synctest.Wait()
					}
				}
				synctest.Wait()
				if text.Len() > 0 {
					t.Errorf("up to the limit the log has %s", text)
				}
				for i := range 300 { // seconds
					tc.look(s, tc.most)
					tc.look(s, tc.most+i%5)
					pooltest.Elapse(time.Second)
				}
				all, lines := pooltest.CountLines(text, tc.want), pooltest.CountLines(text, "\n")
				if all < 4 || all > 6 || lines != all {
					t.Errorf("%d lines of %d in five minutes have %q:\n%s", all, lines, tc.want, text)
				}
			})
		})
	}
}

// One name adds only a limited number of targets, however its addresses change (B61).
func TestLimitOfAName(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		for i := range maxPerName + 200 {
			s.Look("WWW.example.org.", pooltest.Addr(i), 0, 30)
			if i%1000 == 0 {
				pooltest.Elapse(time.Second)
			}
		}
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).monitors; got != maxPerName {
			t.Errorf("%d targets, want %d", got, maxPerName)
		}
		s.Look("other.example.org.", pooltest.Addr(maxPerName+500), 0, 30)
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).monitors; got != maxPerName+1 {
			t.Errorf("%d targets with another name, want %d", got, maxPerName+1)
		}
		abandon(s, "www.example.org.", "other.example.org.")
		s.Look(owner, pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).monitors; got != 1 {
			t.Errorf("%d targets after the others were forgotten, want 1", got)
		}
	})
}

// What a name and a stanza may add is rationed: a name 1,024 targets at once and 256 a minute after that, a stanza 8,192 a
// minute. What is beyond is unknown and counted, and logged once a minute. What the Corefile has learned ahead is not rationed
// (B90).
func TestLearningIsRationed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		text := pooltest.Logged(t)
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.At = "Corefile:7"
		g := begin(p, s)
		next := 0
		ask := func(owner string, count int, ahead bool) {
			at := s.Open(owner, dns.TypeA)
			at.Ahead = ahead
			for range count {
				if got := s.lookIn(at, pooltest.Addr(next), 0, 30); got.State() != verdict.Unknown {
					t.Fatalf("a new address is %s", got.State())
				}
				if next++; next%1000 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
		}
		expect := func(what string, want int) {
			t.Helper()
			if got := sizeOf(p).monitors; got != want {
				t.Errorf("%s: %d targets, want %d", what, got, want)
			}
		}
		before := testutil.ToFloat64(metrics.SkippedLearn)
		ask("a.example.org.", 3000, false)
		expect("one name, at once", 1024)
		if got := testutil.ToFloat64(metrics.SkippedLearn) - before; got != 3000-1024 {
			t.Errorf("%v were counted, want %d", got, 3000-1024)
		}
		pooltest.Elapse(time.Minute)
		ask("a.example.org.", 3000, false)
		expect("one name, a minute later", 1024+256)
		pooltest.Elapse(30 * time.Second)
		ask("A.EXAMPLE.org.", 1000, false)
		expect("one name, half a minute later", 1024+256+128)
		pooltest.Elapse(5 * time.Minute)
		had := sizeOf(p).monitors
		for i := range 20 {
			ask(fmt.Sprintf("b%d.example.org.", i), 1000, false)
		}
		expect("large names of one stanza, at once", had+6144+(20-7)*16) // the seventh has brought in some before
		for i := range 300 {
			ask(fmt.Sprintf("small%d.example.org.", i), 8, false)
		}
		expect("one stanza, at once", had+8192)
		ask("c.example.org.", 2000, true)
		expect("learned ahead", had+8192+2000)
		pooltest.Elapse(30 * time.Second)
		ask("d.example.org.", 1000, false)
		expect("one stanza, half a minute later", had+8192+2000)
		again := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, again)
		p.Leave(g)
		s = again
		ask("e.example.org.", 1000, false)
		expect("after a reload", had+8192+2000)
		pooltest.Elapse(31 * time.Second)
		for i := range 2000 {
			ask(fmt.Sprintf("f%d.example.org.", i), 16, false)
		}
		expect("one stanza, a minute later", had+8192+2000+8192)
		for i := range 20_000 {
			ask(fmt.Sprintf("g%d.example.org.", i), 1, false)
		}
		if got := len(p.names); got > 1500 {
			t.Errorf("%d names are counted, although most were turned away", got)
		}
		if got := pooltest.CountLines(text, "more new addresses than may be learned"); got < 2 || got > 5 {
			t.Errorf("%d lines:\n%s", got, text)
		}
	})
}
