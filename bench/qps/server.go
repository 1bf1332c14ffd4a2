package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// zone describes the zone file of both servers of a pair. All queries ask for the same name of it: www.example.org with
// several addresses, or a name with as many SRV records, each of another host with one address.
type zone struct {
	addresses int  // in the answer
	ttl       int  // of the records in the answer, in seconds
	srv       bool // query for SRV records; their addresses are glue
	others    int  // addresses of other names, two each, which are never queried: they only fill the pool

	kubernetes bool // the same name is a headless Service, and the plugin kubernetes answers for it
}

// question returns what every query asks for. It is one name, so that both servers answer from their caches.
func (z zone) question() (name string, qtype uint16) {
	if z.kubernetes {
		return "www.default.svc.cluster.local.", dns.TypeA
	}
	if z.srv {
		return "_www._tcp.example.org.", dns.TypeSRV
	}
	return "www.example.org.", dns.TypeA
}

// text returns the zone file. All its addresses are loopback addresses that the backend accepts on, so every target is
// healthy and no answer changes during a run.
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

// server is a running CoreDNS, in a process of its own, so that the kernel accounts for it apart from the client.
type server struct {
	process *exec.Cmd
	address string // 127.0.0.1 and its port
	zone    zone
}

// source returns the plugin that has the records, in Corefile syntax, and the zone that it has them for.
func (z zone) source(dir string) (plugin, origin string, err error) {
	if z.kubernetes {
		api, err := startAPI(z)
		return fmt.Sprintf("kubernetes cluster.local {\n        endpoint %s\n        ttl %d\n    }", api, z.ttl), "cluster.local", err
	}
	file := filepath.Join(dir, fmt.Sprintf("db.%d.%d.%d.%t", z.addresses, z.ttl, z.others, z.srv))
	return "file " + file, "example.org", os.WriteFile(file, []byte(z.text()), 0o600)
}

// chain is a program with the plugins that it runs before the one that has the records.
type chain struct {
	program string
	plugins string // in Corefile syntax
}

// start runs a server with the plugins of a chain, and with file or kubernetes, and prometheus. It returns when the server
// answers. The two servers of a pair must differ in nothing but the chain and the port.
func start(dir string, z zone, run chain) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	source, origin, err := z.source(dir)
	if err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, fmt.Sprintf("Corefile.%d", port))
	text := fmt.Sprintf("%s:%d {\n    bind 127.0.0.1\n    %s\n    %s\n    prometheus 127.0.0.1:0\n}\n", origin, port, run.plugins, source)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{process: exec.Command(run.program, "-quiet", "-conf", corefile), address: fmt.Sprintf("127.0.0.1:%d", port), zone: z}
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
	return nil, fmt.Errorf("the server on %s does not answer: see its messages above", s.address)
}

// stop kills the server. Nothing that it does at its end is measured.
func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// window sends n queries, and returns what a query cost the server, in microseconds of processor time. Probes and garbage
// collection that fall into the window are included. n is rounded down to a multiple of the clients, at least one each.
func (s *server) window(n int) (float64, error) {
	// Enough clients to keep the server busy. If it ran out of queries, Go's scheduler would spin for a while before it
	// sleeps, and that time would count as the cost of queries.
	const clients = 32
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

// ask is one client: it sends n queries over a socket of its own, each after it has the answer to the last one. A lost
// answer is an error, because the cost of a window is divided by all the queries that were sent.
func (s *server) ask(n int) error {
	conn, err := net.Dial("udp", s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion(s.zone.question())
	m.SetEdns0(4096, false) // so that 64 addresses fit into an answer over UDP
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
		if _, err := conn.Read(answer); err != nil {
			return err
		}
	}
	return nil
}

// backend is what the targets' check connects to: one TCP port on every loopback address. It runs in this process, so
// its work is not part of what a server costs.
type backend struct {
	net.Listener
	port int
}

// listen starts the backend, which accepts each connection and closes it.
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
