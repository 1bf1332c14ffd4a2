package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// paces are the stanzas whose time to notice a death is compared. Each has a server of its own. All servers run at the same
// time and see the same deaths, so the machine is as busy for one as for the others.
var paces = []struct{ name, lines string }{
	// Three failures, up to 16 seconds: the bound of the default pace.
	{"default", "check tcp://:%d"},
	// Ten times as often, for those who pay for it with ten times the probes.
	{"fast", "check tcp://:%d\n interval 1s 200ms\n timeout 500ms"},
	// The default pace, but a connection stays open between probes, and its end starts a probe at once.
	{"held", "check tcp://:%d hold"},
}

// pollInterval is the time between two queries for an address that may be gone. A figure is too high by up to this much.
const pollInterval = 20 * time.Millisecond

// notice prints how many milliseconds pass from the death of a process, killed without a warning, to the first query whose
// answer lacks its address. That is what clients wait for, apart from their own caches. Each name has two addresses, and at
// most one of them belongs to a process that is killed: if all addresses of a name were down, fail-open would serve them
// again.
//
// The time depends on where in its interval a probe is when the process dies. So many are killed, at random moments, and
// the spread is printed as well as the median. Only a few of the 1 000 targets die: a mass failure is not measured here.
func notice(dir string) error {
	port, err := measure.FreePort()
	if err != nil {
		return err
	}
	processes, err := startSingles(port, *deaths)
	defer func() {
		for _, p := range processes {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	}()
	if err != nil {
		return err
	}
	// All targets have the same port, because a check names one. What tells them apart is the address.
	if err := listenOthers(port); err != nil {
		return err
	}
	var servers []*server
	defer func() { stopAll(servers) }()
	for _, pace := range paces {
		s, err := startNotice(dir, pace.name, fmt.Sprintf(pace.lines, port))
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	time.Sleep(25 * time.Second) // every target is up, and at its slow pace
	took, err := killAll(processes, servers)
	for i, ms := range took {
		q := func(share float64) float64 { return measure.Quantile(ms, share) }
		fmt.Printf("notice %6d targets  %-8s %3d deaths  ms from the kill: least %5.0f  median %5.0f  p90 %5.0f  most %5.0f\n", noticeTargets, paces[i].name,
			len(ms), q(0), q(0.5), q(0.9), q(1))
	}
	return err
}

// listenOthers accepts, until this program ends, on all the addresses that no process of their own listens on. These
// targets stay up.
func listenOthers(port int) error {
	var count counters
	for i := *deaths; i < noticeTargets; i++ {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address(i), port))
		if err != nil {
			return err
		}
		go accept(l, &count)
	}
	return nil
}

// killAll kills one process after the other, and returns for each server how many milliseconds it took to notice each
// death. It does not wait for one to be noticed before it kills the next. The random wait between two keeps the deaths
// from falling at the same point of the servers' intervals.
func killAll(processes []*exec.Cmd, servers []*server) ([][]float64, error) {
	type result struct {
		server int
		ms     float64
		err    error
	}
	results := make(chan result, len(processes)*len(servers))
	for i, p := range processes {
		time.Sleep(time.Duration(rand.N(400)) * time.Millisecond)
		if err := p.Process.Kill(); err != nil {
			return nil, err
		}
		// Kill returns when the signal is sent. The kernel closes the sockets a moment later, which counts as noticing.
		killed := time.Now()
		for k, s := range servers {
			go func() {
				ms, err := s.waitGone(i, killed)
				results <- result{k, ms, err}
			}()
		}
	}
	all := make([][]float64, len(servers))
	for range len(processes) * len(servers) {
		n := <-results
		if n.err != nil {
			return nil, n.err
		}
		all[n.server] = append(all[n.server], n.ms)
	}
	return all, nil
}

// noticeTargets is how many targets each server has. Each name has two of them.
const noticeTargets = 1_000

// startNotice runs CoreDNS with the lines of a pace in its stanza. The name makes the server's files distinct.
func startNotice(dir, name, lines string) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	var zone strings.Builder
	zone.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\nexample.org. 300 IN NS ns.example.org.\n")
	for i := range noticeTargets {
		fmt.Fprintf(&zone, "www%d.example.org. 60 IN A %s\n", i%(noticeTargets/2), address(i))
	}
	// There is no cache in front of the zone, so each answer shows the verdicts of its moment.
	file := filepath.Join(dir, "db."+name)
	if err := os.WriteFile(file, []byte(zone.String()), 0o600); err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, "Corefile."+name)
	text := fmt.Sprintf("example.org:%d {\n bind 127.0.0.1\n multivalue {\n %s\n within 127.0.0.0/8\n preload\n }\n file %s\n}\n", port, lines, file)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: name, port: port, process: exec.Command(*binary, "-quiet", "-conf", corefile)}
	return s, s.begin()
}

// waitGone sends queries for the name of target i until the answer has one address left, and returns how many milliseconds
// after the kill that query was sent. The time that the answer took is not included. A query that fails does not count,
// and the next one follows.
func (s *server) waitGone(i int, killed time.Time) (ms float64, err error) {
	m := new(dns.Msg)
	m.SetQuestion(fmt.Sprintf("www%d.example.org.", i), dns.TypeA)
	for time.Since(killed) < time.Minute {
		asked := time.Now()
		r, err := dns.Exchange(m, fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil && len(r.Answer) == 1 {
			return float64(asked.Sub(killed).Microseconds()) / 1e3, nil
		}
		time.Sleep(pollInterval)
	}
	return 0, fmt.Errorf("the server with the stanza %q still answers with %s a minute after its process was killed", s.name, address(i))
}

// startSingles starts n processes that each listen on one address, the first n of the workload, and returns when all do. A
// listener inside this program would not do: the kernel closes the sockets of a process that is killed, and that is the
// event to notice. On an error it returns the processes that it started, for the caller to end.
func startSingles(port, n int) ([]*exec.Cmd, error) {
	var all []*exec.Cmd
	for i := range n {
		p := exec.Command(os.Args[0], "-serve", "single", fmt.Sprintf("%s:%d", address(i), port))
		p.Stderr = os.Stderr
		out, err := p.StdoutPipe()
		if err != nil {
			return all, err
		}
		if _, err := p.StdinPipe(); err != nil { // it is closed when this program ends, which ends the process
			return all, err
		}
		if err := p.Start(); err != nil {
			return all, err
		}
		all = append(all, p)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return all, fmt.Errorf("the process on %s:%d does not start: %w", address(i), port, err)
		}
	}
	return all, nil
}

// serveSingle is the main function of such a process. It returns when its input is closed.
func serveSingle(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	go accept(l, new(counters))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
