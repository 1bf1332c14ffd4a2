//go:build faults && linux

package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
)

// exporting has only one test at a time set the variable.
var exporting sync.Mutex

// alone runs a test again in a network of its own, beside the others. It reports whether this is the process that has it.
func alone(t *testing.T) bool {
	t.Helper()
	t.Parallel()
	for _, name := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "true" {
			t.Fatal(err)
		} else if err != nil {
			t.Skip(err)
		}
	}
	if !namespaces.Inside() {
		path := program(t)
		exporting.Lock()
		os.Setenv(variable, path)
		exporting.Unlock()
	}
	return namespaces.Rerun(t, syscall.CLONE_NEWNET)
}

// filter replaces the rules of the packet filter in front of all servers. Without rules everything passes. In a rule, BETWEEN is
// replaced by both directions of a cut between the servers 1 to 3 and the others, and FROM by the packets of the others alone.
func (s *scene) filter(rules ...string) {
	s.Helper()
	const few, many = "{ 127.8.0.4, 127.8.0.5 }", "{ 127.8.0.1, 127.8.0.2, 127.8.0.3 }"
	text := "add table inet fleet\ndelete table inet fleet\ntable inet fleet {\n chain input {\n  type filter hook input priority 0;\n"
	for _, rule := range rules {
		if strings.Contains(rule, "BETWEEN") {
			text += "  " + strings.Replace(rule, "BETWEEN", "ip saddr "+few+" ip daddr "+many, 1) + "\n"
			rule = strings.Replace(rule, "BETWEEN", "ip saddr "+many+" ip daddr "+few, 1)
		}
		text += "  " + strings.Replace(rule, "FROM", "ip saddr "+few+" ip daddr "+many, 1) + "\n"
	}
	s.must(text+" }\n}\n", "nft", "-f", "-")
}

// must runs a program of the system, and returns what it prints.
func (s *scene) must(stdin, name string, args ...string) string {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v: %s%s", name, strings.Join(args, " "), err, stdin, out)
	}
	return string(out)
}

// trial is a fleet of five in which faults begin and end, while targets live and die. The first targets live all the time.
type trial struct {
	*scene
	*load
	t *testing.T
}

// living, dead and the others are the targets of a trial: the last ones die when the test says.
const lastLiving, firstDead, lastDead = 14, 15, 18

func newTrial(t *testing.T, edits ...string) *trial {
	t.Helper()
	var all []int
	for n := 11; n <= lastDead; n++ {
		all = append(all, n)
	}
	s := fleetOf(t, 5, all, edits...)
	return &trial{scene: s, load: s.load(), t: t}
}

// list are the numbers from one to another.
func list(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// dies has one target more stop to answer. It has to be out everywhere as soon as is promised, and stays out.
func (x *trial) dies(when string, n int) {
	x.t.Helper()
	x.expects(append(list(11, lastLiving), list(n+1, lastDead)...), list(firstDead, n-1))
	x.backends[n].turn(stalls)
	began := time.Now()
	took := x.serves(bound+lapse+slack, append(list(11, lastLiving), list(n+1, lastDead)...)...)
	x.t.Logf("%s: a dead target is out everywhere within %s", when, took.Round(time.Millisecond))
	if took > bound+lapse+slack/2 {
		x.t.Errorf("%s: that took %s, and %s is promised", when, time.Since(began), bound+lapse)
	}
	x.expects(append(list(11, lastLiving), list(n+1, lastDead)...), list(firstDead, n))
}

// heals ends all faults. The fleet has to be one again in time, and shares its probes some time later.
func (x *trial) heals() {
	x.t.Helper()
	x.filter()
	x.t.Logf("one fleet again after %s", x.joined(45*time.Second+slack).Round(time.Millisecond))
	// Members that come back have no seats for a while, longer each time.
	x.t.Logf("three probe again after %s", x.shared(2*settling+patience, 3).Round(time.Millisecond))
	x.end()
}

// sides waits until the two sides of a cut hear only their own, and all of them probe for themselves: three seats on one side, and two
// members on the other.
func (x *trial) sides() {
	x.t.Helper()
	for _, p := range x.live() {
		p.hears(patience, map[bool]int{true: 2, false: 1}[p.n <= 3])
	}
	x.t.Logf("both sides probe after %s", x.shared(reseated+patience, 5).Round(time.Millisecond))
}

const fleetPorts = "meta l4proto { tcp, udp } th dport 9254"

// Each side of a cut answers right, and the fleet is one again in time, whatever the length of the cut (B107, B108).
func TestFaultCut(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		x.filter("BETWEEN drop")
		x.dies("as the cut begins", 15)
		x.passes(10*time.Second - min(10*time.Second, bound))
		x.heals()
	}
}

func TestFaultLongCut(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		began := time.Now()
		x.filter("BETWEEN drop")
		x.sides()
		x.dies("in the cut", 15)
		x.passes(2*time.Minute - time.Since(began))
		x.dies("after two minutes", 16)
		x.heals()
	}
}

// If one side hears the other, and is not heard, both answer right (B108).
func TestFaultOneWay(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		x.filter("FROM drop")
		x.dies("as one way ends", 15)
		x.passes(reseated)
		x.dies("with one way", 16)
		x.heals()
	}
}

// If UDP alone is dropped, members know of each other, but hear no votes: each side probes for itself (B107, B108).
func TestFaultUDP(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		x.filter("meta l4proto udp BETWEEN drop")
		x.dies("as UDP ends", 15)
		x.sides()
		x.dies("without UDP", 16)
		x.heals()
	}
}

// A blocked port leaves each member alone (B107, B108).
func TestFaultBlockedPort(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		x.filter(fleetPorts + " drop")
		x.dies("as the port is blocked", 15)
		for _, p := range x.live() {
			p.hears(patience, 0)
		}
		x.shared(reseated+patience, 5)
		x.dies("with the port blocked", 16)
		x.heals()
	}
}

// Two of a hundred packets lost change nothing, one in five may cost probes, and never an answer (B105, B108).
func TestFaultLoss(t *testing.T) {
	if alone(t) {
		x := newTrial(t)
		for n, percent := range []int{2, 20} {
			x.filter(fmt.Sprintf("%s numgen random mod 100 < %d drop", fleetPorts, percent))
			from := time.Now()
			x.dies(fmt.Sprintf("with %d%% lost", percent), firstDead+2*n)
			x.passes(20 * interval)
			x.dies(fmt.Sprintf("with %d%% lost, later", percent), firstDead+2*n+1)
			r := x.rates(from, time.Now())
			t.Logf("%d%% lost: %s", percent, r)
			if limit := map[int]float64{2: 3.8, 20: 5}[percent]; r.perInterval > limit || r.longest > 3*interval {
				t.Errorf("%d%% lost: %s, want at most %.1f, and never none", percent, r, limit)
			}
		}
		x.heals()
	}
}

// Packets of 1280 bytes are enough, in one piece: the path may drop fragments (B108).
func TestFaultSmallPackets(t *testing.T) {
	if alone(t) {
		s := newScene(t, list(11, 90)...)
		s.must("", "ip", "link", "set", "lo", "mtu", "1280")
		s.filter("ip frag-off & 0x3fff != 0 counter drop")
		for n := 1; n <= 5; n++ {
			s.launch(n)
		}
		s.settle()
		s.shared(patience, 3)
		l := s.load()
		l.expects(list(11, 50), nil)
		for n := 51; n <= 90; n++ {
			s.backends[n].turn(refuses)
		}
		t.Logf("forty dead targets are out within %s", s.serves(bound+lapse+slack, list(11, 50)...))
		l.expects(list(11, 50), list(51, 90))
		s.passes(3 * interval)
		if out := s.must("", "nft", "list", "table", "inet", "fleet"); !strings.Contains(out, "counter packets 0 bytes 0 drop") {
			t.Errorf("members say more than fits into a packet: %s", out)
		}
		l.end()
	}
}

// A member that hangs has no say soon, its targets go on, and what it believed before does not count when it comes back (B107,
// B108).
func TestFaultStopped(t *testing.T)     { testStopped(t, 3*time.Second) }
func TestFaultStoppedLong(t *testing.T) { testStopped(t, 8*time.Second) }
func TestFaultStoppedLost(t *testing.T) { testStopped(t, time.Minute) }

func testStopped(t *testing.T, d time.Duration) {
	if !alone(t) {
		return
	}
	x := newTrial(t)
	p := x.servers[x.backends[15].probers(time.Now().Add(-window))[0]] // it has voted that the target which dies is up
	began := time.Now()
	p.stopping.Store(true) // it is not asked meanwhile, and its queries may be lost
	p.signal(syscall.SIGSTOP)
	x.dies("as a member stops", 15)
	if d > reseated {
		x.t.Logf("its seats are taken after %s", x.shared(reseated+patience, 3))
	}
	if left := d - time.Since(began); left > 0 {
		x.passes(left)
	}
	p.signal(syscall.SIGCONT)
	x.passes(bound + lapse) // the others must not believe it now
	p.stopping.Store(false)
	x.serves(bound+slack, append(list(11, lastLiving), list(16, lastDead)...)...)
	x.dies("when it is back", 16)
	x.heals()
}

// A server of another fleet takes the address of a member that has died. The fleets stay apart: with another name and the same key,
// and with another key (B108, B109).
func TestFaultOtherFleet(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, how := range []string{"another name", "another key"} {
		t.Run(how, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.file("key2", newKey()+"\n")
			other := []string{"INNER", "name other", "PEERS", "127.8.0.4 127.8.0.5"}
			if how == "another key" {
				other = []string{"KEY", "DIR/key2", "PEERS", "127.8.0.4 127.8.0.5"}
			}
			for n := 1; n <= 3; n++ {
				s.launch(n, "PEERS", "127.8.0.1 127.8.0.2 127.8.0.3")
			}
			for n := 4; n <= 5; n++ {
				s.launch(n, other...)
			}
			apart := func(peers map[int]int) {
				t.Helper()
				for n, want := range peers {
					s.servers[n].hears(patience, want)
				}
			}
			apart(map[int]int{1: 2, 2: 2, 3: 2, 4: 1, 5: 1})
			s.kill(3)
			s.launch(3, other...).await()
			apart(map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 5: 2})
			s.backends[12].fails(func(by int, _ string) bool { return by >= 3 })
			for _, p := range s.live() {
				want := []int{11, 13}
				if p.n <= 2 {
					want = []int{11, 12, 13}
				}
				p.eventually(bound+slack, func() bool { return p.has(want...) }, func() string { return fmt.Sprintf("server %d does not answer %v", p.n, want) })
			}
			s.passes(25 * time.Second) // long enough to dial all addresses that are remembered
			apart(map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 5: 2})
			for _, p := range s.live() {
				if p.n <= 2 && !p.has(11, 12, 13) || p.n >= 3 && !p.has(11, 13) {
					t.Errorf("server %d believes the other fleet", p.n)
				}
			}
			for _, p := range s.live() {
				s.kill(p.n)
			}
		})
	}
}
