package pooltest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

var Pace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}

var ErrRefused = errors.New("connection refused")

// FakeNetwork is the world that a pool probes in these tests, where time is not real: an address is alive, dead, or a black
// hole that answers nobody.
type FakeNetwork struct {
	mu     sync.Mutex
	Dead   map[netip.Addr]bool
	Holes  map[netip.Addr]bool
	Broken error // what every probe returns, if set
	Panics bool
	probes map[netip.Addr][]time.Time // when each was asked
	Under  int                        // probes under way
	Most   int
}

func NewNetwork() *FakeNetwork {
	return &FakeNetwork{Dead: make(map[netip.Addr]bool), Holes: make(map[netip.Addr]bool), probes: make(map[netip.Addr][]time.Time)}
}

func (n *FakeNetwork) Probe(ctx context.Context, addr netip.AddrPort) error {
	err, hole := n.arrive(addr.Addr())
	defer n.leave()
	if hole {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.Canceled) {
			return check.ErrAbstain
		}
		return errors.New("timed out")
	}
	return err
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

func (n *FakeNetwork) Kill(addrs ...netip.Addr)    { n.Set(n.Dead, true, addrs) }
func (n *FakeNetwork) Revive(addrs ...netip.Addr)  { n.Set(n.Dead, false, addrs) }
func (n *FakeNetwork) Swallow(addrs ...netip.Addr) { n.Set(n.Holes, true, addrs) }

func (n *FakeNetwork) Set(m map[netip.Addr]bool, to bool, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		m[a] = to
	}
}

// Asked is how often an address was probed so far.
func (n *FakeNetwork) Asked(addr netip.Addr) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.probes[addr])
}

func (n *FakeNetwork) Times(addr netip.Addr) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.probes[addr]...)
}

func Addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// Elapse lets time go by in a bubble, where that takes none, until everybody there waits for something again.
func Elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Do runs f while no probe does, so that it may change the exported fields.
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
