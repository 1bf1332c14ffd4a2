// Package pooltest has what tests of the pool and of the packages above it share: a simulated network, in simulated time
// (testing/synctest), files that a test edits, and the log. Only tests import it.
package pooltest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Pace is the pace of most tests: the defaults of a stanza.
var Pace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}

// ErrRefused is the error of a probe to a dead address.
var ErrRefused = errors.New("connection refused")

// FakeNetwork answers the probes of a pool in these tests: an address is alive, dead, or a black hole that never
// answers. The exported fields may be read or changed inside Do.
type FakeNetwork struct {
	mu     sync.Mutex
	Dead   map[netip.Addr]bool
	Holes  map[netip.Addr]bool
	slow   map[netip.Addr]time.Duration // how long an address takes to answer
	Says   map[netip.Addr]report.Report // what the backend at an address says of itself, when it is asked
	Broken error                        // the error of every probe, if set
	Panics bool                         // whether probes panic
	probes map[netip.Addr][]time.Time   // when each address was probed
	Under  int                          // probes in flight
	Most   int                          // the highest value of Under
}

// NewNetwork returns a network in which every address is alive.
func NewNetwork() *FakeNetwork {
	return &FakeNetwork{Dead: make(map[netip.Addr]bool), Holes: make(map[netip.Addr]bool), Says: make(map[netip.Addr]report.Report), slow: make(map[netip.Addr]time.Duration), probes: make(map[netip.Addr][]time.Time)}
}

// Probe probes an address. It is the check of these tests.
func (n *FakeNetwork) Probe(ctx context.Context, addr netip.AddrPort) error {
	err, hole := n.arrive(addr.Addr())
	defer n.leave()
	if wait := n.delay(addr.Addr()); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			hole = true
		}
	}
	if hole {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.Canceled) {
			return check.ErrAbstain
		}
		return errors.New("timed out")
	}
	if to := check.Reported(ctx); to != nil && err == nil {
		return n.report(addr.Addr(), to)
	}
	return err
}

// report has a backend say something of itself. It fails the probe if that takes it out.
func (n *FakeNetwork) report(addr netip.Addr, to *report.Report) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	*to = n.Says[addr]
	if refusal := to.Refusal(); refusal != "" {
		return errors.New(refusal)
	}
	return nil
}

// Say has backends say something of themselves from now on.
func (n *FakeNetwork) Say(r report.Report, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.Says[a] = r
	}
}

func (n *FakeNetwork) arrive(addr netip.Addr) (error, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Under++
	n.Most = max(n.Most, n.Under)
	n.probes[addr] = append(n.probes[addr], time.Now())
	if n.Panics {
		panic("a fault in the check")
	}
	if n.Broken != nil {
		return n.Broken, false
	}
	if n.Dead[addr] {
		return ErrRefused, false
	}
	return nil, n.Holes[addr]
}

func (n *FakeNetwork) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Under--
}

// Kill makes addresses refuse connections.
func (n *FakeNetwork) Kill(addrs ...netip.Addr) { n.Set(n.Dead, true, addrs) }

// Revive makes addresses that were killed answer again.
func (n *FakeNetwork) Revive(addrs ...netip.Addr) { n.Set(n.Dead, false, addrs) }

// Swallow makes addresses black holes.
func (n *FakeNetwork) Swallow(addrs ...netip.Addr) { n.Set(n.Holes, true, addrs) }

// Slow makes addresses take their time to answer.
func (n *FakeNetwork) Slow(wait time.Duration, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.slow[a] = wait
	}
}

func (n *FakeNetwork) delay(addr netip.Addr) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slow[addr]
}

// Set changes Dead or Holes for addresses.
func (n *FakeNetwork) Set(m map[netip.Addr]bool, to bool, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		m[a] = to
	}
}

// Asked returns how often an address has been probed.
func (n *FakeNetwork) Asked(addr netip.Addr) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.probes[addr])
}

// Times returns when an address was probed.
func (n *FakeNetwork) Times(addr netip.Addr) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.probes[addr]...)
}

// Addr returns one of many addresses, by its number.
func Addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// Elapse lets fake time pass in a bubble of testing/synctest, until every goroutine there is blocked again.
func Elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Do runs f while no probe reads the exported fields, so that f may change them.
func (n *FakeNetwork) Do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// Forget drops the record of probes.
func (n *FakeNetwork) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.probes)
}
