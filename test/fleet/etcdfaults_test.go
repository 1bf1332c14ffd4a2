//go:build faults && linux

package fleet

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/internal/realetcd"
)

// relays lead each server to etcd by an address of its own, 127.8.1.N, so that the packet filter can tell them apart.
func (s *scene) relays(to string, numbers ...int) {
	s.Helper()
	for _, n := range numbers {
		l, err := net.Listen("tcp4", relayOf(n))
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go relay(conn, to)
			}
		}()
	}
}

func relayOf(n int) string { return fmt.Sprintf("127.8.1.%d:2379", n) }

// relay passes on what either side says, until one of them ends.
func relay(conn net.Conn, to string) {
	defer conn.Close()
	other, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer other.Close()
	go func() {
		_, _ = io.Copy(other, conn)
		other.Close()
	}()
	_, _ = io.Copy(conn, other)
}

// aloneWithEtcd is alone. It has etcd built before, because a network of its own leads nowhere.
func aloneWithEtcd(t *testing.T) bool {
	t.Helper()
	if !namespaces.Inside() {
		realetcd.Start(t, realetcd.Options{})
	}
	return alone(t)
}

// newEtcdTrial is newTrial over an etcd of so many servers. Each server of ours has a relay if there is one.
func newEtcdTrial(t *testing.T, servers int) (*trial, *realetcd.Cluster) {
	t.Helper()
	c := realetcd.Start(t, realetcd.Options{Servers: servers})
	s := newScene(t, list(11, lastDead)...)
	s.usual = toEtcd(c.Endpoints()...)
	if servers == 1 {
		s.relays(c.Endpoints()[0], list(1, 5)...)
		s.usual = toEtcd("127.8.1.NUMBER:2379")
	}
	for n := 1; n <= 5; n++ {
		s.launch(n)
	}
	s.settle()
	s.shared(patience, 3)
	return &trial{scene: s, load: s.load(), t: t}, c
}

// apart waits until no server hears another, and each probes for itself.
func (x *trial) apart() {
	x.t.Helper()
	began := time.Now()
	for _, p := range x.live() {
		p.hears(patience, 0)
	}
	x.t.Logf("each probes for itself after %s", x.shared(lapse+lease+patience, 5).Round(time.Millisecond))
	if took := time.Since(began) - window; took > lapse+lease+slack {
		x.t.Errorf("each probes for itself after %s, and %s is promised", took, lapse+lease)
	}
}

// One server that is cut off from etcd is alone and answers right, and so do the others. So it is when it can only hear, or only speak
// (B107, B108, B112).
func TestFaultEtcdCut(t *testing.T) {
	if !aloneWithEtcd(t) {
		return
	}
	x, _ := newEtcdTrial(t, 1)
	for i, how := range []string{"ip daddr 127.8.1.4 drop", "ip saddr 127.8.1.4 drop", "ip daddr 127.8.1.4 tcp flags & (fin|syn|rst|psh) == 0 accept\n  ip daddr 127.8.1.4 drop"} {
		x.filter(how)
		x.dies("as a member is cut off from etcd", firstDead+i)
		for _, p := range x.live() {
			p.hears(patience, map[bool]int{true: 0, false: 3}[p.n == 4])
		}
		x.t.Logf("the one that is cut off probes for itself after %s", x.probedBy(reseated+patience, "three, and 4 for itself", func(_ int, who []int) bool { return len(who) == 4 }))
		x.filter()
		x.t.Logf("one fleet again after %s", x.joined(patience))
		x.shared(2*settling+patience, 3)
	}
	x.heals()
}

// An etcd that stands still for three seconds changes nothing, and for a minute it is as if it was gone (B107, B108, B112).
func TestFaultEtcdStopped(t *testing.T) {
	if !aloneWithEtcd(t) {
		return
	}
	x, c := newEtcdTrial(t, 1)
	c.Servers[0].Stop(t)
	x.passes(3 * time.Second)
	c.Servers[0].Cont(t)
	x.dies("after three seconds without etcd", 15)
	x.shared(2*settling+patience, 3)
	c.Servers[0].Stop(t)
	began := time.Now()
	x.dies("as etcd stops", 16)
	x.apart()
	x.passes(time.Minute - time.Since(began))
	c.Servers[0].Cont(t)
	x.dies("as etcd goes on", 17)
	x.heals()
}

// With three servers of etcd, one may die, and nothing changes. When two are dead, each member probes for itself (B108, B112).
func TestFaultEtcdThree(t *testing.T) {
	if !aloneWithEtcd(t) {
		return
	}
	x, c := newEtcdTrial(t, 3)
	for i, s := range c.Servers { // one of them leads
		s.Kill()
		x.dies(fmt.Sprintf("as server %d of etcd dies", i), firstDead)
		x.backends[firstDead].turn(sound)
		x.expects(list(11, lastLiving), nil)
		x.serves(bound+slack, list(11, lastDead)...)
		s.Restart(t)
		c.Wait(t)
		x.joined(patience)
	}
	x.shared(2*settling+patience, 3)
	c.Servers[0].Kill()
	c.Servers[1].Kill()
	x.dies("as two of three die", 15)
	x.apart()
	x.dies("without a majority", 16)
	c.Servers[1].Restart(t)
	x.heals()
}

// Fifty servers on one etcd probe each target three times an interval. Five that hang, and an etcd that dies, cost probes and never an
// answer. It takes some 4 GB of memory, and three minutes on two cores (B104, B107, B108, B112).
func TestFaultEtcdFifty(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	s := newScene(t, list(11, lastDead)...)
	s.usual = toEtcd(c.Endpoints()...)
	for n := 1; n <= 50; n++ {
		s.launch(n)
		if n%5 == 0 {
			s.servers[n].await()
		}
	}
	s.settle()
	s.shared(patience, 3)
	from := time.Now()
	s.passes(10 * interval)
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.perInterval < 2.4 || r.perInterval > 3.7 {
		t.Errorf("%s, want 3", r)
	}
	x := &trial{scene: s, load: s.load(), t: t}
	for n := 41; n <= 45; n++ {
		s.servers[n].stopping.Store(true)
		s.servers[n].signal(syscall.SIGSTOP)
	}
	x.dies("as five stop", firstDead)
	s.passes(reseated)
	for n := 41; n <= 45; n++ {
		s.servers[n].signal(syscall.SIGCONT)
	}
	s.passes(bound + lapse)
	for n := 41; n <= 45; n++ {
		s.servers[n].stopping.Store(false)
	}
	t.Logf("one fleet again after %s", s.joined(45*time.Second+slack))
	t.Logf("three probe after %s", s.shared(2*settling+patience, 3))
	// Fifty that begin to probe for themselves are more than two cores have time for, so what lives may be missed for a while.
	x.expects(nil, list(firstDead, firstDead))
	c.Servers[0].Kill()
	s.shared(lapse+lease+patience, 50)
	s.serves(patience, append(list(11, lastLiving), list(firstDead+1, lastDead)...)...)
	x.dies("without etcd", firstDead+1)
	c.Servers[0].Restart(t)
	t.Logf("one fleet again after %s", s.joined(45*time.Second+slack))
	t.Logf("three probe after %s", s.shared(2*settling+patience, 3))
	x.dies("as etcd is back", firstDead+2)
	x.end()
}
