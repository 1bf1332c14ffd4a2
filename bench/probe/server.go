package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// server is a running DNS server that probes.
type server struct {
	name    string
	process *exec.Cmd
	port    int // for DNS
	metrics int // the port of its metrics page, if it has one
}

// fleet is what the servers of a comparison are to probe: loopback addresses, eight to a name.
type fleet struct {
	targets  int
	hosts    int // addresses in the zone, if those are more
	protocol string
	options  string // of the check
	interval int    // seconds
}

const perName = 8

func address(i int) string { return fmt.Sprintf("127.%d.%d.%d", 16+i>>14&127, i>>7&127, i&127+1) }

// start runs CoreDNS and, where it is installed, gdnsd. The backend ports are one for each.
func (f fleet) start(dir string, ports []int) ([]*server, error) {
	ours, err := f.coredns(dir, ports[0])
	if err != nil {
		return nil, err
	}
	all := []*server{ours}
	if _, err := exec.LookPath(*rival); err != nil {
		fmt.Println("gdnsd is not installed: there is nothing to compare with")
		return all, nil
	}
	theirs, err := f.gdnsd(dir, ports[1])
	if err != nil {
		return all, err
	}
	return append(all, theirs), nil
}

// coredns runs ours, which reads its targets from the zone file.
func (f fleet) coredns(dir string, backend int) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	pages, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "db.example.org"), []byte(f.zone()), 0o600); err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, "Corefile")
	text := fmt.Sprintf("example.org:%d {\n bind 127.0.0.1\n prometheus 127.0.0.1:%d\n multivalue {\n  check %s://:%d %s\n  interval %ds\n"+
		"  timeout 1s\n  within 127.0.0.0/8\n  max_targets %d\n  preload\n }\n file %s/db.example.org\n}\n",
		port, pages, f.protocol, backend, f.options, f.interval, f.targets, dir)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "multivalue", port: port, metrics: pages, process: exec.Command(*binary, "-quiet", "-conf", corefile)}
	return s, s.begin()
}

func (f fleet) zone() string {
	var b strings.Builder
	b.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\n")
	b.WriteString("example.org. 300 IN NS ns.example.org.\n")
	for i := range max(f.targets, f.hosts) {
		fmt.Fprintf(&b, "www%d.example.org. 60 IN A %s\n", i/perName, address(i))
	}
	return b.String()
}

// gdnsd runs the rival, with the same pace.
func (f fleet) gdnsd(dir string, backend int) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, fmt.Sprintf("gdnsd%d", port))
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "zones", "example.org"), []byte("@ SOA ns hostmaster 1 7200 3600 1209600 60\n@ NS ns\nns A 127.0.0.1\nwww0 DYNA multifo!www0\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(f.config(dir, port, backend)), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "gdnsd", port: port, process: exec.Command(*rival, "-c", dir, "start")}
	return s, s.begin()
}

func (f fleet) config(dir string, port, backend int) string {
	plugin := "tcp_connect"
	if f.protocol == "http" {
		plugin = "http_status, url_path => /"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "options => { listen => [ 127.0.0.1:%d ], run_dir => %s, state_dir => %s, udp_threads => 1, tcp_threads => 1 }\n", port, dir, dir)
	fmt.Fprintf(&b, "service_types => { probe => { plugin => %s, port => %d, interval => %d, timeout => 1, up_thresh => 2, ok_thresh => 2, down_thresh => 3 } }\n",
		plugin, backend, f.interval)
	b.WriteString("plugins => { multifo => {\n")
	for i := range f.targets {
		if i%perName == 0 {
			fmt.Fprintf(&b, "www%d => { service_types => probe", i/perName)
		}
		fmt.Fprintf(&b, ", a%d => %s", i%perName, address(i))
		if i%perName == perName-1 || i == f.targets-1 {
			b.WriteString(" }\n")
		}
	}
	b.WriteString("} }\n")
	return b.String()
}

// begin starts the process, and waits until it answers.
func (s *server) begin() error {
	if s.name != "gdnsd" { // which writes a line for each target
		s.process.Stderr = os.Stderr
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	for range 600 {
		if _, err := s.ask(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return errors.New(s.name + " does not answer")
}

func (s *server) ask() (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion("www0.example.org.", dns.TypeA)
	return dns.Exchange(m, fmt.Sprintf("127.0.0.1:%d", s.port))
}

func (s *server) stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
}

func stopAll(servers []*server) {
	for _, s := range servers {
		s.stop()
	}
}
