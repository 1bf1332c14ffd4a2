package multivalue

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"

	"github.com/miekg/dns"
)

// forcing returns a generation with one stanza that has joined. Its file has been read once.
func forcing(p *process, n *pooltest.FakeNetwork, path string) (*stanza, *generation) {
	s := testStanza("tcp://:80", n, pooltest.Pace)
	g, _ := blockOf(p, nil, s)
	s.Force(g.forced.Open(path))
	g.files.AwaitRead()
	if err := p.join(g); err != nil {
		panic(err)
	}
	return s, g
}

// watched is forcing with the generation confirmed. The file monitor has read the file once.
func watched(p *process, n *pooltest.FakeNetwork, path string) (*stanza, *generation) {
	s, g := forcing(p, n, path)
	p.confirm(g)
	synctest.Wait()
	return s, g
}

// states lists how a query sees the addresses of the tests, one word each.
func states(s *stanza, numbers ...int) string {
	var words []string
	for _, i := range numbers {
		v := s.Look(owner, pooltest.Addr(i), 0, 30)
		word := v.State().String()
		if v.Drained() {
			word = "drained"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// A forced state overrides the measured state. Probing continues (B55).
func TestForced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		pooltest.Edit(t, path, "up 10.0.0.1\ndown 10.0.0.2\ndrain 10.0.0.3")
		s, _ := watched(p, n, path)
		n.Kill(pooltest.Addr(1))
		if got := states(s, 1, 2, 3, 4); got != "up down drained unknown" {
			t.Errorf("at first: %s", got)
		}
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3), pooltest.Addr(4))
		if got := states(s, 1, 2, 3, 4); got != "up down drained up" {
			t.Errorf("after the first verdicts: %s", got)
		}
		n.Kill(pooltest.Addr(3))
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3))
		if got := states(s, 3); got != "down" {
			t.Errorf("drained, and measured down: %s", got)
		}
		pooltest.Edit(t, path, "# nothing")
		pooltest.Elapse(time.Second)
		if got := states(s, 1, 2, 3, 4); got != "down up down up" {
			t.Errorf("measured beneath: %s", got)
		}
	})
}

// Addresses outside within are forced too, and are not probed because of that. A set of one address is served
// whatever is forced, and all_down applies to a set whose addresses are all forced down (B9, B55).
func TestForcedAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		pooltest.Edit(t, path, "down 192.0.2.1 10.0.0.0/8\nup 10.0.0.2")
		s, g := forcing(p, n, path)
		s.Within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
		s.Rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, AllDown: answer.NoData}
		p.confirm(g)
		h := Multivalue{Next: zoneOf(records(
			"www.example.org. 30 IN A 192.0.2.1", "www.example.org. 30 IN A 10.0.0.1", "www.example.org. 30 IN A 10.0.0.2",
			"lone.example.org. 30 IN A 10.0.0.3",
			"gone.example.org. 30 IN A 10.0.0.3", "gone.example.org. 30 IN A 192.0.2.1")...), block: g.blocks[0], process: p}
		ask := func(name string) string {
			m, _ := serve(t, h, query(name, dns.TypeA))
			return addressesOf(m)
		}
		if got := ask("www.example.org."); got != "10.0.0.2" {
			t.Errorf("the answer has %q", got)
		}
		if got := ask("gone.example.org.") + ask("lone.example.org."); got != "" {
			t.Errorf("with all_down nodata, %q", got)
		}
		s.Rule.Policy.AllDown = answer.Serve
		if got := ask("gone.example.org.") + " " + ask("lone.example.org."); got != "10.0.0.3 192.0.2.1 10.0.0.3" {
			t.Errorf("with all_down serve, %q", got)
		}
		pooltest.Elapse(30 * time.Second)
		if n.Asked(netip.MustParseAddr("192.0.2.1")) != 0 || n.Asked(pooltest.Addr(1)) == 0 {
			t.Error("a forced address is not probed, or an address outside within is")
		}
	})
}

// A start that fails monitors no file and leaves nothing behind (B55, B70).
func TestForceOfAFailedReload(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "forced"), filepath.Join(dir, "other")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		pooltest.Edit(t, path, "down 10.0.0.1")
		pooltest.Edit(t, other, "down 10.0.0.2")
		s, _ := watched(p, n, path)
		for range 5 {
			failed, next := forcing(p, n, other)
			next.forced.Open(path)
			pooltest.Elapse(time.Second)
			pooltest.Edit(t, other, "up 10.0.0.2")
			pooltest.Elapse(time.Second)
			if got := failed.Forced.Value().For(pooltest.Addr(2)); got != force.Down {
				t.Errorf("a candidate watches its file: %s", got)
			}
			p.abandon()
			pooltest.Edit(t, other, "down 10.0.0.2")
		}
		if got := p.forced.Totals(); got != (force.Totals{Down: 1}) {
			t.Errorf("after the failed starts %+v is in force", got)
		}
		pooltest.Edit(t, path, "up 10.0.0.1")
		pooltest.Elapse(time.Second)
		if got := p.forced.Totals(); got != (force.Totals{Up: 1}) || states(s, 1) != "up" {
			t.Errorf("the old instance no longer watches its file: %+v is in force", got)
		}
	})
}

// Monitoring begins with the first query that confirms a new generation, as probing does (B55).
func TestForceIsConfirmedByAQuery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		begin(p, testStanza("tcp://:81", n, pooltest.Pace))
		s, _ := forcing(p, n, path)
		pooltest.Edit(t, path, "drain 10.0.0.1")
		s.Look(owner, pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Second)
		if got := states(s, 1); got != "drained" {
			t.Errorf("%s", got)
		}
	})
}

// If a generation ends while the first query is about to confirm it, it monitors no file afterwards (B55).
func TestForceEndsBesideTheFirstQuery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		pooltest.Edit(t, path, "drain 10.0.0.1")
		begin(p, testStanza("tcp://:81", n, pooltest.Pace))
		for range 50 {
			s, g := forcing(p, n, path)
			s.Look(owner, pooltest.Addr(1), 0, 30)
			p.end(g)
			if got := p.forced.Totals(); got != (force.Totals{}) {
				t.Fatalf("after the end %+v is in force", got)
			}
		}
	})
}
