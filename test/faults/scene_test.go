//go:build faults && linux

package faults

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	book "github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/signals"

	"github.com/miekg/dns"
)

// pace is the pace of a stanza. Rise and fall are the default 2 and 3.
type pace struct{ interval, fast, timeout time.Duration }

// quick detects a failure within 2.5 seconds, and tolerates a busy machine.
var quick = pace{time.Second, 200 * time.Millisecond, 500 * time.Millisecond}

func (p pace) String() string {
	return fmt.Sprintf("interval %s %s\n        timeout %s", p.interval, p.fast, p.timeout)
}

// bound is the longest time that a target stays up after it stops answering, as the manual says. A target that
// answers again is up sooner.
func (p pace) bound() time.Duration { return p.interval + 2*max(p.fast, p.timeout) + p.timeout }

// soon is how long a test waits for an event that is promised within the bound.
func (p pace) soon() time.Duration { return 3*p.bound() + 5*time.Second }

// scene is the complete program as a process, with its peers and files.
type scene struct {
	*testing.T
	pace
	*farm
	dir     string
	options string // of the check
	scrapes http.Client
	child   *exec.Cmd
	ended   chan struct{}
	output  logbook
	files   int // the number of files that the program may open, from its start; 0 for the limit of the test
}

// corefile is the Corefile of a server that judges www.example.org. OPTIONS and PACE come from the scene, and MORE is
// replaced by more properties.
const corefile = `
example.org {
    bind 127.0.0.1
    prometheus 127.0.0.1:9153
    ready 127.0.0.1:8181
    file DIR/zone {
        reload 0
    }
    multivalue {
        check http://:8080/OPTIONS
        PACE
        limit off
        within 127.0.0.0/8 10.0.0.0/8
        MORE
    }
}
`

// newScene prepares a scene in which www.example.org has the addresses.
func newScene(t *testing.T, p pace, addrs []netip.Addr) *scene {
	s := &scene{T: t, pace: p, farm: newFarm(t), dir: t.TempDir(), scrapes: http.Client{Timeout: patience}}
	zone := "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 192.0.2.53\n"
	for _, addr := range addrs {
		zone += "www A " + addr.String() + "\n"
	}
	s.file("zone", zone)
	s.edit("")
	s.resetFilter()
	return s
}

// starts is newScene with the program started and all addresses up.
func starts(t *testing.T, p pace, addrs []netip.Addr) *scene {
	t.Helper()
	s := newScene(t, p, addrs)
	s.start()
	s.settled(len(addrs), 0)
	return s
}

// loopback returns 127.0.0.N.
func loopback(n byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, n}) }

// loopbacks returns 127.0.0.N for each of the numbers.
func loopbacks(from, to byte) (all []netip.Addr) {
	for n := from; n <= to; n++ {
		all = append(all, loopback(n))
	}
	return all
}

func (s *scene) file(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// edit writes the Corefile, with more properties in the stanza and more text after the block.
func (s *scene) edit(more string, blocks ...string) {
	s.Helper()
	words := strings.NewReplacer("OPTIONS", s.options, "PACE", s.pace.String(), "DIR", s.dir, "MORE", more)
	s.file("Corefile", words.Replace(corefile+strings.Join(blocks, "\n")))
}

// start starts the program, and waits until it answers queries and handles signals. The program ends with the test.
func (s *scene) start() {
	s.Helper()
	served := s.output.count("CoreDNS-")
	s.child = signals.Command(program, "-conf", filepath.Join(s.dir, "Corefile"))
	if s.files > 0 {
		s.child = signals.Command("prlimit", fmt.Sprintf("--nofile=%d:%d", s.files, s.files), program, "-conf", filepath.Join(s.dir, "Corefile"))
	}
	s.child.Stdout, s.child.Stderr = &s.output, &s.output
	if err := s.child.Start(); err != nil {
		s.Fatal(err)
	}
	child, ended := s.child, make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		_ = child.Wait()
	}()
	s.Cleanup(func() {
		_ = child.Process.Kill()
		<-ended
	})
	s.says("CoreDNS-", served+1)
	s.eventually(func() bool { return signals.Trapped(child.Process.Pid) }, func() string { return "the program does not handle signals" })
}

// signal sends a signal to the program.
func (s *scene) signal(what os.Signal) {
	s.Helper()
	if err := s.child.Process.Signal(what); err != nil {
		s.Fatal(err)
	}
}

// exits waits for the end of the process and returns its exit status.
func (s *scene) exits() int {
	s.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.Fatal("the process does not end:\n" + s.output.String())
	}
	return s.child.ProcessState.ExitCode()
}

// says waits until the log has n matches of the expression.
func (s *scene) says(expression string, n int) {
	s.Helper()
	s.eventually(func() bool { return s.output.count(expression) >= n },
		func() string {
			return fmt.Sprintf("the log lacks %q (%d times):\n%s", expression, n, s.output.String())
		})
}

// patience limits a wait for an event without a time limit of its own.
const patience = 20 * time.Second

// exchange asks for the addresses of www.example.org once.
func exchange() ([]netip.Addr, error) {
	m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	m.SetEdns0(dns.MaxMsgSize-1, false)
	client := dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(m, "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess || reply.Truncated || len(reply.Answer) == 0 {
		return nil, fmt.Errorf("a bad answer: %s", reply.MsgHdr.String())
	}
	var all []netip.Addr
	for _, rr := range reply.Answer {
		addr, _ := netip.AddrFromSlice(rr.(*dns.A).A.To4())
		all = append(all, addr)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all, nil
}

// ask is exchange for a test that must not lose a query.
func (s *scene) ask() []netip.Addr {
	s.Helper()
	all, err := exchange()
	if err != nil {
		s.Fatal(err)
	}
	return all
}

// members lists the last numbers of addresses.
func members(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, strconv.Itoa(int(a.As4()[3])))
	}
	return strings.Join(all, " ")
}

// comesTo asks until the answer has exactly these members.
func (s *scene) comesTo(want string) {
	s.Helper()
	var got string
	s.eventually(func() bool { got = members(s.ask()); return got == want },
		func() string { return fmt.Sprintf("the answer has %q, want %q:\n%s", got, want, s.output.String()) })
}

// stays checks that this answer, and no other, is given until the condition holds.
func (s *scene) stays(want string, condition func() bool, complaint string) {
	s.Helper()
	s.eventually(func() bool {
		if got := members(s.ask()); got != want {
			s.Fatalf("the answer has %q, want %q throughout:\n%s", got, want, s.output.String())
		}
		return condition()
	}, func() string { return complaint })
}

// settled asks until the pool has exactly these numbers of targets up and down, and none unknown.
func (s *scene) settled(up, down int) {
	s.Helper()
	var now [3]int
	s.eventually(func() bool {
		s.ask()
		page := s.page()
		for i, state := range []string{"up", "down", "unknown"} {
			now[i] = int(sample(page, "coredns_multivalue_targets", `state="`+state+`"`))
		}
		return now == [3]int{up, down, 0}
	}, func() string { return fmt.Sprintf("%d up, down and unknown: want %d, %d, 0", now, up, down) })
}

// page returns the metrics. It fetches them over one connection as long as that is open.
func (s *scene) page() string {
	s.Helper()
	var page []byte
	s.eventually(func() bool {
		response, err := s.scrapes.Get("http://127.0.0.1:9153/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		page, err = io.ReadAll(response.Body)
		return err == nil
	}, func() string { return "no metrics:\n" + s.output.String() })
	return string(page)
}

// metric adds up the samples of a metric whose labels contain the text.
func (s *scene) metric(name, labels string) float64 {
	s.Helper()
	return sample(s.page(), name, labels)
}

func sample(page, name, labels string) (total float64) {
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ') // a label may contain spaces
		if word, _, _ := strings.Cut(line[:max(end, 0)], "{"); word == name && strings.Contains(line[:end], labels) {
			value, _ := strconv.ParseFloat(line[end+1:], 64)
			total += value
		}
	}
	return total
}

// eventually waits until the condition holds.
func (s *scene) eventually(condition func() bool, complaint func() string) {
	s.Helper()
	for deadline := time.Now().Add(max(patience, s.soon())); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal(complaint())
		}
	}
}

// logbook is the output of the program.
type logbook struct{ book.Book }

// count returns how often the expression matches in the log.
func (l *logbook) count(expression string) int {
	return len(regexp.MustCompile("(?m)"+expression).FindAllString(l.String(), -1))
}
