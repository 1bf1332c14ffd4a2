package pool

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/miekg/dns"
)

// stopsWithin is the time that the manual promises (B71).
const stopsWithin = 2 * time.Second

// deaf is a check and a plugin that ignore their context. They continue until the test releases them.
type deaf chan struct{}

func (d deaf) Probe(context.Context, netip.AddrPort) error { <-d; return nil }

func (d deaf) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	<-d
	return dns.RcodeServerFailure, nil
}

func (d deaf) Name() string { return "deaf" }

// A stop waits only a short time for probes that ignore their context, and logs that. The pool can start again in the
// meantime, and the results of such probes change nothing (B71).
func TestStopBesideDeafProbes(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		never := make(deaf)
		s := testStanza("deaf", never, pooltest.Pace)
		g := begin(p, s)
		lookAll(s, addrs(0, 20))
		pooltest.Elapse(pooltest.Pace.Fast + time.Second)
		began := time.Now()
		p.Leave(g)
		if took := time.Since(began); took > stopsWithin {
			t.Errorf("the stop took %s", took)
		}
		if got := pooltest.CountLines(text, "probes are still in flight"); got != 1 {
			t.Errorf("%d lines say that probes are under way:\n%s", got, text)
		}
		again := testStanza("tcp://:80", n, pooltest.Pace)
		next := begin(p, again)
		close(never)
		pass(20*time.Second, again, pooltest.Addr(1))
		if got, want := sizeOf(p), (size{generations: 1, checks: 1, monitors: 1}); got != want || p.schedule.inFlight != [lanes]int{} {
			t.Errorf("%+v, want %+v; %v under way", got, want, p.schedule.inFlight)
		}
		p.Leave(next)
	})
}
