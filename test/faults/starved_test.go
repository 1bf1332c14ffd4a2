//go:build faults && linux

package faults

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
)

// If no descriptor is free, probes abstain and no state changes: an address that died in that time stays up, and one
// that came back stays down. Queries are answered. When descriptors are free again, both changes are detected (B49).
func TestWithoutDescriptors(t *testing.T) {
	s := oneDead(t)
	l := s.load(1, loopbacks(11, 13), []netip.Addr{loopback(14)})
	s.descriptors(3) // the program has more than that open, and keeps it
	s.starves("too many open files")
	s.descriptors(4096)
	l.ends()
	s.comesTo("11 13 14")
}

// The same is true if no local port is free, because connections hold all of them.
func TestWithoutPorts(t *testing.T) {
	const first, last = 20000, 20009
	s := oneDead(t)
	holder := loopback(99)
	s.turns(holder, stalls)
	var held []net.Conn
	for port := first; port <= last; port++ {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
		conn, err := dialer.Dial("tcp", netip.AddrPortFrom(holder, 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		held = append(held, conn)
	}
	l := s.load(1, loopbacks(11, 13), []netip.Addr{loopback(14)})
	s.setting("ipv4/ip_local_port_range", fmt.Sprint(first, " ", last))
	s.starves("cannot assign requested address")
	for _, conn := range held {
		_ = conn.(*net.TCPConn).SetLinger(0) // and do not wait for the ports
		conn.Close()
	}
	l.ends()
	s.comesTo("11 13 14")
}

// oneDead is a scene of four addresses. The last one is down.
func oneDead(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, quick, loopbacks(11, 14))
	s.block("refused", loopback(14))
	s.start()
	s.settled(3, 1)
	return s
}

// starves makes one address die and the dead one come back while no probe can be made, and checks that all states
// stay.
func (s *scene) starves(reason string) {
	s.Helper()
	const changes, probes = "coredns_multivalue_transitions_total", "coredns_multivalue_probes_total"
	before := s.page()
	s.block("refused", loopback(12))
	s.unblock("refused", loopback(14))
	s.stays("11 12 13", func() bool { return s.metric(probes, `result="abstained"`) > 40 }, "the probes do not abstain")
	after := s.page()
	if was, is := sample(before, changes, ""), sample(after, changes, ""); was != is {
		s.Errorf("%v changes of state while probes could not be made", is-was)
	}
	s.says("keeps its state: could not ask: "+reason, 1)
}

// descriptors sets how many files the program may have open.
func (s *scene) descriptors(most int) {
	s.Helper()
	must(s, "", "prlimit", "--pid", strconv.Itoa(s.child.Process.Pid), fmt.Sprintf("--nofile=%d:4096", most))
}

// openFiles lists the open files of the program.
func (s *scene) openFiles() []os.DirEntry {
	s.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.child.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	return all
}
