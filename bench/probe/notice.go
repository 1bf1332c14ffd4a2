package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// paces are those whose time to notice a death is compared.
var paces = []struct{ name, lines string }{
	{"default", "check tcp://:%d"},
	{"fast", "check tcp://:%d\n interval 1s 200ms\n timeout 500ms"},
	{"held", "check tcp://:%d hold"},
}

// look is how often an address that may be gone is asked for.
const look = 20 * time.Millisecond

// notice prints how long it takes from the death of a process, killed without a warning, to the first answer without its
// address. Each name has an address of a process that dies, and one that does not.
func notice(dir string) error {
	port, err := measure.FreePort()
	if err != nil {
		return err
	}
	victims, err := startVictims(port, *deaths)
	defer func() {
		for _, v := range victims {
			_ = v.Process.Kill()
			_ = v.Wait()
		}
	}()
	if err != nil {
		return err
	}
	if err := survivors(port); err != nil {
		return err
	}
	var servers []*server
	defer func() { stopAll(servers) }()
	for _, pace := range paces {
		s, err := noticing(dir, pace.name, fmt.Sprintf(pace.lines, port))
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	time.Sleep(25 * time.Second)
	took, err := kill(victims, servers)
	for i, ms := range took {
		q := func(share float64) float64 { return measure.Quantile(ms, share) }
		fmt.Printf("notice %6d targets  %-8s %3d deaths  ms from the kill: least %5.0f  median %5.0f  p90 %5.0f  most %5.0f\n", noticed, paces[i].name,
			len(ms), q(0), q(0.5), q(0.9), q(1))
	}
	return err
}

// survivors accept, until this program ends, on the addresses of those that do not die.
func survivors(port int) error {
	var count atomic.Int64
	for i := *deaths; i < noticed; i++ {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address(i), port))
		if err != nil {
			return err
		}
		go accept(l, &count)
	}
	return nil
}

// kill kills one after the other, and returns how many milliseconds each server took to notice.
func kill(victims []*exec.Cmd, servers []*server) ([][]float64, error) {
	type notice struct {
		server int
		ms     float64
		err    error
	}
	notices := make(chan notice, len(victims)*len(servers))
	for i, v := range victims {
		time.Sleep(time.Duration(rand.N(400)) * time.Millisecond)
		if err := v.Process.Kill(); err != nil {
			return nil, err
		}
		killed := time.Now()
		for k, s := range servers {
			go func() {
				ms, err := s.gone(i, killed)
				notices <- notice{k, ms, err}
			}()
		}
	}
	all := make([][]float64, len(servers))
	for range len(victims) * len(servers) {
		n := <-notices
		if n.err != nil {
			return nil, n.err
		}
		all[n.server] = append(all[n.server], n.ms)
	}
	return all, nil
}

// noticed is how many targets each server has.
const noticed = 1_000

// noticing runs a server with a pace.
func noticing(dir, name, lines string) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	var zone strings.Builder
	zone.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\nexample.org. 300 IN NS ns.example.org.\n")
	for i := range noticed {
		fmt.Fprintf(&zone, "www%d.example.org. 60 IN A %s\n", i%(noticed/2), address(i))
	}
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

// gone asks for a victim's name until the victim is missing, and returns how long after the kill the question was put.
func (s *server) gone(victim int, killed time.Time) (ms float64, err error) {
	m := new(dns.Msg)
	m.SetQuestion(fmt.Sprintf("www%d.example.org.", victim), dns.TypeA)
	for time.Since(killed) < time.Minute {
		asked := time.Now()
		r, err := dns.Exchange(m, fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil && len(r.Answer) == 1 {
			return float64(asked.Sub(killed).Microseconds()) / 1e3, nil
		}
		time.Sleep(look)
	}
	return 0, errors.New(s.name + " does not notice a death")
}

// startVictims starts processes that accept on an address each.
func startVictims(port, n int) ([]*exec.Cmd, error) {
	var all []*exec.Cmd
	for i := range n {
		v := exec.Command(os.Args[0], "-serve", "victim", fmt.Sprintf("%s:%d", address(i), port))
		v.Stderr = os.Stderr
		out, err := v.StdoutPipe()
		if err != nil {
			return all, err
		}
		if _, err := v.StdinPipe(); err != nil { // which ends with us, and the victim with it
			return all, err
		}
		if err := v.Start(); err != nil {
			return all, err
		}
		all = append(all, v)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return all, fmt.Errorf("a victim does not start: %w", err)
		}
	}
	return all, nil
}

// victim is such a process.
func victim(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	go accept(l, new(atomic.Int64))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
