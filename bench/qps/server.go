package main

import (
	"errors"
	"fmt"
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

// zone is what the servers answer with: the addresses of www.example.org, or of as many hosts that SRV records name.
type zone struct {
	addresses int
	ttl       int
	srv       bool
	others    int // addresses of other names, two each, that nobody asks for
}

func (z zone) question() (name string, qtype uint16) {
	if z.srv {
		return "_www._tcp.example.org.", dns.TypeSRV
	}
	return "www.example.org.", dns.TypeA
}

func (z zone) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\n")
	fmt.Fprintf(&b, "example.org. 300 IN NS ns.example.org.\n")
	for i := range z.addresses {
		host := "www"
		if z.srv {
			host = fmt.Sprintf("host%d", i)
			fmt.Fprintf(&b, "_www._tcp.example.org. %d IN SRV 1 1 80 %s.example.org.\n", z.ttl, host)
		}
		fmt.Fprintf(&b, "%s.example.org. %d IN A 127.0.1.%d\n", host, z.ttl, i+1)
	}
	for i := range z.others {
		fmt.Fprintf(&b, "other%d.example.org. %d IN A 127.1.%d.%d\n", i/2, z.ttl, i>>8, i&255)
	}
	return b.String()
}

// server is a running CoreDNS.
type server struct {
	process *exec.Cmd
	address string
	zone    zone
	sizes   atomic.Int64
}

// start runs a server with the plugins file and cache, and what else chain says.
func start(dir string, z zone, chain string) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, fmt.Sprintf("db.%d.%d.%d.%t", z.addresses, z.ttl, z.others, z.srv))
	if err := os.WriteFile(file, []byte(z.text()), 0o600); err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, fmt.Sprintf("Corefile.%d", port))
	text := fmt.Sprintf("example.org:%d {\n    bind 127.0.0.1\n    %s\n    file %s\n    prometheus 127.0.0.1:0\n    cache\n}\n", port, chain, file)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{process: exec.Command(*binary, "-quiet", "-conf", corefile), address: fmt.Sprintf("127.0.0.1:%d", port), zone: z}
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if _, err := s.window(1); err == nil {
			return s, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	return nil, errors.New("the server does not answer")
}

func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// window asks n times, one question after the other on each of a few sockets, and returns what a query cost the server,
// in microseconds of processor time.
func (s *server) window(n int) (float64, error) {
	const clients = 32 // enough to keep the server busy: what it spins when idle would count as well
	before, err := measure.CPU(s.process.Process.Pid)
	if err != nil {
		return 0, err
	}
	failures := make(chan error, clients)
	for range clients {
		go func() { failures <- s.ask(max(1, n/clients)) }()
	}
	for range clients {
		err = errors.Join(err, <-failures)
	}
	if err != nil {
		return 0, err
	}
	after, err := measure.CPU(s.process.Process.Pid)
	return float64(after-before) / 1e3 / float64(max(1, n/clients)*clients), err
}

// ask sends n queries, each when the answer to the one before is here.
func (s *server) ask(n int) error {
	conn, err := net.Dial("udp", s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion(s.zone.question())
	m.SetEdns0(4096, false)
	query, err := m.Pack()
	if err != nil {
		return err
	}
	answer := make([]byte, 8192)
	for range n {
		if _, err := conn.Write(query); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		size, err := conn.Read(answer)
		if err != nil {
			return err
		}
		s.sizes.Store(int64(size))
	}
	return nil
}

// backend accepts on every loopback address, and hangs up.
type backend struct {
	net.Listener
	port int
}

func listen() (*backend, error) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return &backend{l, l.Addr().(*net.TCPAddr).Port}, nil
}
