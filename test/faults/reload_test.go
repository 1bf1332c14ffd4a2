//go:build faults && linux

package faults

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowd is a scene of two hundred targets. The last twenty are dead: some refuse connections, and some do not
// respond.
func crowd(t *testing.T) (s *scene, alive, dead []netip.Addr) {
	t.Helper()
	all := loopbacks(1, 200)
	alive, dead = all[:180], all[180:]
	s = newScene(t, quick, all)
	s.block("refused", dead[:10]...)
	s.block("dropped", dead[10:]...)
	s.start()
	s.settled(len(alive), len(dead))
	return s, alive, dead
}

// Over a hundred reloads under a load of queries and probes, no query is lost, dead targets are in no answer, healthy
// ones are in each, no target is probed twice as often, and the process holds no more than before (B69).
func TestHundredReloads(t *testing.T) {
	s, alive, dead := crowd(t)
	s.reload("max_targets 299") // what the first reload keeps is not a leak
	s.reload("max_targets 301")
	before, changes := s.census(), s.metric("coredns_multivalue_transitions_total", "")
	began := time.Now()
	l := s.load(4, alive, dead)
	for i := range 100 {
		s.reload(fmt.Sprintf("max_targets %d", 300+i))
		l.goesOn(100)
	}
	t.Logf("100 reloads within %s", time.Since(began).Round(time.Second))
	s.eventually(s.probedAgain(3, alive...), func() string { return "some targets are no longer probed" })
	l.ends()
	s.unhurried(began, alive...)
	if after := s.metric("coredns_multivalue_transitions_total", ""); after != changes {
		t.Errorf("%v changes of state", after-changes)
	}
	s.settled(len(alive), len(dead))
	s.comesBackTo(before)
}

// Reloads that fail leave the old server running and leak nothing. Reloads between them that succeed take over from
// it (B70).
func TestFailingReloads(t *testing.T) {
	s, alive, dead := crowd(t)
	busy, err := net.Listen("tcp4", "127.0.0.1:5300")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	s.reload("max_targets 299")
	before, began := s.census(), time.Now()
	l := s.load(2, alive, dead)
	for i := range 10 {
		for _, broken := range []string{
			"example.net {\n bind 127.0.0.1\n erratic\n",                             // a brace is missing
			"example.net {\n bind 127.0.0.1\n multivalue {\n  check tcp://\n }\n}",   // a mistake in our stanza
			"example.net:5300 {\n bind 127.0.0.1\n erratic\n}",                       // the port is in use
			"example.net:5300 {\n bind 127.0.0.1\n forward . 127.0.0.1\n cache\n}\n", // as before, with more plugins started
		} {
			failed := s.output.count(`\[ERROR\] SIGUSR1`)
			s.edit("check tcp://:8080", broken)
			s.signal(syscall.SIGUSR1)
			s.says(`\[ERROR\] SIGUSR1`, failed+1)
		}
		s.reload(fmt.Sprintf("max_targets %d", 300+i))
		l.goesOn(100)
	}
	s.eventually(s.probedAgain(3, alive...), func() string { return "some targets are no longer probed" })
	l.ends()
	s.unhurried(began, alive...)
	if n := s.metric("coredns_multivalue_probes_total", `check="tcp://:8080"`); n > 0 {
		t.Errorf("the check of a failed reload was run %v times", n)
	}
	s.settled(len(alive), len(dead))
	s.comesBackTo(before)
	s.block("refused", alive[0])
	s.eventually(func() bool { return s.ask()[0] != alive[0] }, func() string { return "a failure is no longer detected" })
}

// reload applies a Corefile with additions to its stanza.
func (s *scene) reload(more string) {
	s.Helper()
	done := s.output.count("Reloading complete")
	s.edit(more)
	s.signal(syscall.SIGUSR1)
	s.says("Reloading complete", done+1)
}

// census counts what the process holds.
type census struct{ goroutines, descriptors, kilobytes int }

func (s *scene) census() census {
	s.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.child.Process.Pid))
	if err != nil {
		s.Fatal(err)
	}
	_, resident, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(resident)[0])
	if err != nil {
		s.Fatal(err)
	}
	return census{int(s.metric("go_goroutines", "")), len(s.openFiles()), kilobytes}
}

// comesBackTo waits until the process holds about as much as before: probes come and go, and the system gets freed
// memory back later.
func (s *scene) comesBackTo(before census) {
	s.Helper()
	var now census
	s.eventually(func() bool {
		now = s.census()
		return now.goroutines <= before.goroutines+40 && now.descriptors <= before.descriptors+30 &&
			now.kilobytes <= 2*before.kilobytes+64<<10
	}, func() string { return fmt.Sprintf("%+v before, %+v after", before, now) })
	s.Logf("%+v before, %+v after", before, now)
}
