package multivalue

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/force"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// stopsWithin is the manual's promise (B71).
const stopsWithin = 2 * time.Second

// deaf is a check and a plugin that heed no context: they go on until the test lets them go.
type deaf chan struct{}

func (d deaf) Probe(context.Context, netip.AddrPort) error { <-d; return nil }

func (d deaf) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	<-d
	return dns.RcodeServerFailure, nil
}

func (d deaf) Name() string { return "deaf" }

// A stop waits for no probe that does not heed its context, but not for long, and says so. The pool can start again meanwhile,
// and what such probes bring in the end changes nothing (B71).
func TestStopBesideDeafProbes(t *testing.T) {
	text := logged(t)
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		never := make(deaf)
		s := testStanza("deaf", never, pooltest.Pace)
		g := begin(p, s)
		lookAll(s, addrs(0, 20))
		pooltest.Elapse(pooltest.Pace.Fast + time.Second)
		began := time.Now()
		g.end(p)
		if took := time.Since(began); took > stopsWithin {
			t.Errorf("the stop took %s", took)
		}
		if got := countLines(text, "probes still under way"); got != 1 {
			t.Errorf("%d lines say that probes are under way:\n%s", got, text)
		}
		again := testStanza("tcp://:80", n, pooltest.Pace)
		next := begin(p, again)
		close(never)
		pass(20*time.Second, again, pooltest.Addr(1))
		if got, want := sizeOf(p), (size{generations: 1, checks: 1, watches: 1}); got != want || p.schedule.inFlight != [2]int{} {
			t.Errorf("%+v, want %+v; %v under way", got, want, p.schedule.inFlight)
		}
		next.end(p)
	})
}

// Nor for a plugin below that keeps the questions of many server blocks, which have the time that one has, beside such probes
// and whatever else of a generation may hang (B71).
func TestStopBesideADeafPlugin(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, _ *pooltest.FakeNetwork) {
		never, g := make(deaf), new(generation)
		var stanzas []*parsedStanza
		for i := range 8 {
			s := forZone(testStanza("deaf", never, pooltest.Pace), fmt.Sprintf("z%d.example.org.", i))
			s.watch = []string{"www." + s.zones[0]}
			b := newBlock([]*parsedStanza{s})
			var next plugin.Handler = never
			b.learner.next.Store(&next)
			g.learners = append(g.learners, b.learner)
			g.add(s, p)
			stanzas = append(stanzas, s)
		}
		p.join(g)
		p.confirm(g)
		for _, s := range stanzas {
			lookAll(s, addrs(0, 5))
		}
		g.notices = map[clusterAt]*notices{{}: {ended: never}}
		pooltest.Elapse(pooltest.Pace.Fast + time.Second)
		for _, l := range g.learners {
			if l.inFlight == 0 {
				t.Error("a learner has no question under way")
			}
		}
		began := time.Now()
		g.end(p)
		if took := time.Since(began) + force.StopWait; took > stopsWithin { // a file of forced states may hang as well
			t.Errorf("the stop takes up to %s", took)
		}
		close(never)
	})
}
