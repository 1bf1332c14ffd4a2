//go:build linux

package fleet

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/internal/signals"

	"github.com/miekg/dns"
)

const (
	// interval, fast and timeout are the pace of all stanzas. Rise and fall are the default 2 and 3.
	interval, fast, timeout = time.Second, 200 * time.Millisecond, 500 * time.Millisecond
	// bound is how long one server takes at most to find that a target is dead.
	bound = interval + 2*max(fast, timeout) + timeout
	// lapse is how much longer a fleet may take if a member dies or is cut off at the wrong moment.
	lapse = 4 * time.Second
	// settling is how long a newcomer has no seat.
	settling = 10 * time.Second
	// reseated is how long after a death the seats of the dead are taken.
	reseated = 15 * time.Second
	// tick is in what time a server does what follows from what it has heard, on a busy machine.
	tick = time.Second
	// slack is what a busy machine may add to any of that.
	slack = 10 * time.Second
	// patience limits a wait for an event without a time limit of its own.
	patience = 60 * time.Second
)

// corefile is what a server runs. Words in capitals are replaced: MORE by more properties of the stanza, INNER by more properties of
// the fleet, PEERS by two members, CHECK by the check.
const corefile = `
example.org:DNS {
    bind 127.8.0.NUMBER
    prometheus 127.8.0.NUMBER:METRICS
    file DIR/zone {
        reload 0
    }
    multivalue {
        CHECK
        interval 1s 200ms
        timeout 500ms
        within 127.0.0.0/8
        limit off
        MORE
        fleet PEERS {
            key KEY
            listen 127.8.0.NUMBER:FLEET
            INNER
        }
    }
}
`

// scene is a fleet with its backends and files.
type scene struct {
	testing.TB
	dir                                          string
	dnsPort, metricsPort, fleetPort, backendPort int
	usual                                        []string // edits of all Corefiles, after those of each
	backends                                     map[int]*backend
	servers                                      map[int]*server
	client                                       http.Client
	halts                                        *halts
}

// newScene starts backends with these numbers, which are the addresses of www.example.org.
func newScene(t testing.TB, backends ...int) *scene {
	t.Helper()
	s := &scene{TB: t, dir: t.TempDir(), backends: make(map[int]*backend), servers: make(map[int]*server), client: http.Client{Timeout: 5 * time.Second}}
	if namespaces.Inside() {
		s.dnsPort, s.metricsPort, s.fleetPort, s.backendPort = 53, 9153, 9254, 8080
	} else {
		ports.Need(t, "127.8.0.1", "127.9.0.11")
		s.dnsPort, s.metricsPort, s.fleetPort, s.backendPort = ports.Free(t), ports.Free(t), ports.Free(t), ports.Free(t)
	}
	program(t)
	s.watchHalts()
	zone := "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 192.0.2.53\n" +
		"members A 127.8.0.1\nmembers A 127.8.0.2\n"
	for _, n := range backends {
		s.newBackend(n)
		zone += fmt.Sprintf("www A 127.9.0.%d\n", n)
	}
	s.file("zone", zone)
	s.file("key", newKey()+"\n")
	s.Cleanup(s.client.CloseIdleConnections)
	s.Cleanup(func() {
		for n, p := range s.servers {
			if strings.Contains(p.output.String(), "panicked") { // it would go on, and know less
				t.Errorf("server %d has panicked", n)
			}
		}
		if t.Failed() {
			for n, p := range s.servers {
				t.Logf("server %d:\n%s", n, p.output.String())
			}
		}
	})
	return s
}

// newKey is a key of a fleet.
func newKey() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// file puts a file in place, all at once.
func (s *scene) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.Fatal(err)
	}
	return path
}

// server is one CoreDNS.
type server struct {
	*scene
	n      int
	edits  []string // of the Corefile
	extra  string   // server blocks behind the first one
	conf   string
	output logbook.Book
	*life
}

// life is one run of the program.
type life struct {
	cmd      *exec.Cmd
	began    time.Time
	ended    chan struct{}
	stopping atomic.Bool // it is meant to end
}

// runs reports whether the program runs, and is not meant to end.
func (l *life) runs() bool {
	if l == nil || l.stopping.Load() {
		return false
	}
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// expand replaces the words of a Corefile. Edits are pairs of a word and its replacement, before the usual ones.
func (s *scene) expand(n int, text string, edits ...string) string {
	edits = slices.Concat(edits, s.usual)
	for i := 0; i+1 < len(edits); i += 2 {
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	return strings.NewReplacer(
		"CHECK", "check http://:BACKEND/ header X-Server NUMBER", "MORE", "", "INNER", "", "PEERS", "127.8.0.1 127.8.0.2", "KEY", "DIR/key",
	).Replace(text)
}

// words replaces the words that are numbers and paths.
func (s *scene) words(n int, text string) string {
	return strings.NewReplacer("NUMBER", strconv.Itoa(n), "DNS", strconv.Itoa(s.dnsPort), "METRICS", strconv.Itoa(s.metricsPort),
		"FLEET", strconv.Itoa(s.fleetPort), "BACKEND", strconv.Itoa(s.backendPort), "DIR", s.dir).Replace(text)
}

// edit writes the Corefile of a server.
func (p *server) edit(edits ...string) {
	p.Helper()
	p.edits = edits
	p.conf = p.file(fmt.Sprint("Corefile", p.n), p.words(p.n, p.expand(p.n, corefile, edits...)+p.extra))
}

// launch starts a server and does not wait for it. It ends with the test.
func (s *scene) launch(n int, edits ...string) *server {
	s.Helper()
	p := s.servers[n]
	if p == nil {
		p = &server{scene: s, n: n}
		s.servers[n] = p
	}
	p.edit(edits...)
	p.run()
	return p
}

// run starts the program.
func (p *server) run() {
	p.Helper()
	l := &life{cmd: signals.Command(program(p), "-conf", p.conf), began: time.Now(), ended: make(chan struct{})}
	l.cmd.Stdout, l.cmd.Stderr = &p.output, &p.output
	if err := l.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	go func() {
		defer close(l.ended)
		_ = l.cmd.Wait()
	}()
	p.life = l
	p.Cleanup(func() {
		l.stopping.Store(true)
		_ = l.cmd.Process.Kill()
		<-l.ended
	})
}

// await waits until the server answers and handles signals.
func (p *server) await() {
	p.Helper()
	p.eventually(patience, func() bool {
		select {
		case <-p.ended:
			p.Fatalf("server %d has ended:\n%s", p.n, p.output.String())
		default:
		}
		_, err := p.ask()
		return err == nil && signals.Trapped(p.cmd.Process.Pid)
	}, func() string { return fmt.Sprintf("server %d does not start:\n%s", p.n, p.output.String()) })
}

// fleetOf is newScene with so many servers that have settled: the vantage points are who they should be. Edits are for all of their
// Corefiles.
func fleetOf(t testing.TB, members int, backends []int, edits ...string) *scene {
	t.Helper()
	s := newScene(t, backends...)
	for n := 1; n <= members; n++ {
		s.launch(n, edits...)
	}
	s.settle()
	s.shared(patience, min(members, 3))
	return s
}

// settle waits until all servers hear each other, and none of them is a newcomer.
func (s *scene) settle() {
	s.Helper()
	for _, p := range s.live() {
		p.await()
	}
	s.joined(patience)
	s.passes(settling)
}

// live are the servers that run, by number.
func (s *scene) live() (all []*server) {
	for _, p := range s.servers {
		if p.runs() {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *server) int { return a.n - b.n })
	return all
}

// kill ends servers without a word.
func (s *scene) kill(numbers ...int) {
	s.Helper()
	for _, n := range numbers {
		s.servers[n].stopping.Store(true)
		if err := s.servers[n].cmd.Process.Kill(); err != nil {
			s.Fatal(err)
		}
	}
	for _, n := range numbers {
		<-s.servers[n].ended
	}
}

// signal sends a signal to the program.
func (p *server) signal(what os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(what); err != nil {
		p.Fatal(err)
	}
}

// stop ends a server as an operator does, and returns how long that took while the machine ran.
func (p *server) stop() time.Duration {
	p.Helper()
	p.stopping.Store(true)
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.Fatalf("server %d does not end:\n%s", p.n, p.output.String())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.Errorf("server %d ends with status %d", p.n, code)
	}
	return p.halts.since(began)
}

// reload has a server read its Corefile again, and waits until it has.
func (p *server) reload(edits ...string) {
	p.Helper()
	before := p.output.Count("Reloading complete")
	p.edit(edits...)
	p.signal(syscall.SIGUSR1)
	p.eventually(patience, func() bool { return p.output.Count("Reloading complete") > before },
		func() string { return fmt.Sprintf("server %d does not reload:\n%s", p.n, p.output.String()) })
	p.eventually(patience, func() bool { return signals.Trapped(p.cmd.Process.Pid) }, func() string { return "no signals" })
}

// says waits until the log has a text so many times.
func (p *server) says(text string, n int) {
	p.Helper()
	p.eventually(patience, func() bool { return p.output.Count(text) >= n },
		func() string {
			return fmt.Sprintf("server %d does not say %q %d times:\n%s", p.n, text, n, p.output.String())
		})
}

// ask asks for www.example.org once, and returns the numbers of the backends in the answer, sorted.
func (p *server) ask() ([]int, error) { return p.askFor("www.example.org.") }

func (p *server) askFor(name string) ([]int, error) {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.SetEdns0(4096, false)
	client := dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(m, net.JoinHostPort(fmt.Sprintf("127.8.0.%d", p.n), strconv.Itoa(p.dnsPort)))
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess || reply.Truncated || len(reply.Answer) == 0 {
		return nil, fmt.Errorf("a bad answer: %s", reply.MsgHdr.String())
	}
	var all []int
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, int(a.A.To4()[3]))
		}
	}
	slices.Sort(all)
	return all, nil
}

// has reports whether the next answer of a server has exactly these backends.
func (p *server) has(want ...int) bool {
	got, err := p.ask()
	return err == nil && slices.Equal(got, want)
}

// serves waits until all servers that run have exactly these backends in their answers.
func (s *scene) serves(within time.Duration, want ...int) time.Duration {
	s.Helper()
	began := time.Now()
	for _, p := range s.live() {
		p.eventually(within-s.halts.since(began), func() bool { return p.has(want...) }, func() string {
			got, err := p.ask()
			return fmt.Sprintf("server %d answers %v (%v), want %v within %s", p.n, got, err, want, within)
		})
	}
	return s.halts.since(began)
}

// page is the metrics of a server; empty if there are none now.
func (p *server) page() string {
	response, err := p.client.Get(fmt.Sprintf("http://127.8.0.%d:%d/metrics", p.n, p.metricsPort))
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	page, _ := io.ReadAll(response.Body)
	return string(page)
}

// isLeft waits until a server hears so many others. They are fewer because one has said that it stops: one that is missed would be heard
// for as long as a vote counts. A machine that stood still meanwhile may make that the same.
func (p *server) isLeft(n int) {
	p.Helper()
	began := time.Now()
	p.hears(patience, n)
	if took := time.Since(began); took > lapse-tick && p.halts.stalled(began.Add(-lapse), time.Now()) < haltFrom {
		p.Errorf("server %d hears for %s a member that has stopped", p.n, took)
	}
}

// metric adds up the samples of a metric whose labels contain the text.
func (p *server) metric(name, labels string) (total float64) {
	for line := range strings.Lines(p.page()) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ')
		if word, _, _ := strings.Cut(line[:max(end, 0)], "{"); word == "coredns_multivalue_"+name && strings.Contains(line[:end], labels) {
			value, _ := strconv.ParseFloat(line[end+1:], 64)
			total += value
		}
	}
	return total
}

// peers is how many other members a server hears.
func (p *server) peers() int { return int(p.metric("fleet_members", `state="alive"`)) }

// joined waits until each server that runs hears all others.
func (s *scene) joined(within time.Duration) time.Duration {
	s.Helper()
	began := time.Now()
	all := s.live()
	for _, p := range all {
		p.hears(within-s.halts.since(began), len(all)-1)
	}
	return s.halts.since(began)
}

// hears waits until a server hears so many others.
func (p *server) hears(within time.Duration, n int) {
	p.Helper()
	p.eventually(within, func() bool { return p.peers() == n }, func() string { return fmt.Sprintf("server %d hears %d members, want %d", p.n, p.peers(), n) })
}

// window is the time in which every vantage point probes.
const window = 5 * interval / 2

// shared waits until each backend that answers is probed by so many servers, and by no others.
func (s *scene) shared(within time.Duration, k int) time.Duration {
	s.Helper()
	return s.probedBy(within, fmt.Sprint(k, " each"), func(_ int, who []int) bool { return len(who) == k })
}

// probedBy waits until those who probe each backend that answers, in a time that began after the call, are right. It returns how long
// that took without that time.
func (s *scene) probedBy(within time.Duration, want string, right func(n int, who []int) bool) time.Duration {
	s.Helper()
	began := time.Now()
	var who map[int][]int
	s.eventually(within+window, func() bool {
		if time.Since(began) < window {
			return false
		}
		who = s.probers(window)
		for n, probers := range who {
			if s.backends[n].as == sound && !right(n, probers) {
				return false
			}
		}
		return true
	}, func() string {
		return fmt.Sprintf("after %s the backends are probed by %v, want %s", within, who, want)
	})
	return time.Since(began) - window
}

// probers are the servers that have probed each backend in the last time.
func (s *scene) probers(last time.Duration) map[int][]int {
	since := time.Now().Add(-last)
	all := make(map[int][]int)
	for n, b := range s.backends {
		all[n] = b.probers(since)
	}
	return all
}

// eventually waits until a condition holds. Time in which the machine stands still does not count.
func (s *scene) eventually(within time.Duration, condition func() bool, complaint func() string) {
	s.Helper()
	for began := time.Now(); !condition(); time.Sleep(20 * time.Millisecond) {
		if s.halts.since(began) > within {
			s.Fatal(complaint())
		}
	}
}

// passes lets time go by, for something that is measured over it.
func (s *scene) passes(d time.Duration) { time.Sleep(d) }

// freePort is a port that nothing listens on.
func (s *scene) freePort() int {
	if namespaces.Inside() {
		return 9999
	}
	return ports.Free(s)
}
