package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// server is a running server that probes, in a process of its own: CoreDNS, gdnsd or HAProxy.
type server struct {
	name    string // for the output
	process *exec.Cmd
	port    int // for DNS; for HAProxy, one that it accepts connections on
	metrics int // the port of its metrics page, if it has one
}

// workload is what the servers of a comparison have to probe: loopback addresses, eight to a name. The timeout of a probe
// is 1 second, and 2 successes or 3 failures change a state.
type workload struct {
	targets  int
	hosts    int    // addresses in the zone file, if more than targets; the rest is served unchecked
	protocol string // of the check: tcp, http, https, dns or icmp
	options  string // of the check
	interval int    // in seconds, from the start of one probe of a target to the next
}

// names of the servers that can be compared.
const (
	multivalue = "multivalue"
	before     = "before" // CoreDNS with another version of multivalue
	gdnsd      = "gdnsd"
	haproxy    = "haproxy"
)

// perName is how many addresses a name has: as many as an answer of multivalue has by default, so no answer is sampled.
const perName = 8

// address returns the i-th address. They begin at 127.16.0.1, clear of the addresses that DNS servers listen on. The
// last byte is from 1 to 128, so it is never that of a network or a broadcast address.
func address(i int) string { return fmt.Sprintf("127.%d.%d.%d", 16+i>>14&127, i>>7&127, i&127+1) }

// start runs a server with the workload. port is where its probes go.
func (w workload) start(name, dir string, port int) (*server, error) {
	switch name {
	case gdnsd:
		return w.gdnsd(dir, port)
	case haproxy:
		return w.haproxy(dir, port)
	}
	if name == before {
		return w.corednsOf(*beforePath, name, dir, port)
	}
	return w.coredns(dir, port)
}

// program returns the path of a program to compare with, or says why the comparison lacks it. Debian has both in a folder
// that only the path of root contains.
func program(name string) (path string, err error) {
	given := map[string]string{gdnsd: *gdnsdPath, haproxy: *haproxyPath}[name]
	if path, err = exec.LookPath(given); err == nil {
		return path, nil
	}
	if path, err = exec.LookPath("/usr/sbin/" + name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s not found: install Debian's package, or name the program with -%s", name, name)
}

// coredns runs the CoreDNS that is measured.
func (w workload) coredns(dir string, backend int) (*server, error) {
	return w.corednsOf(*binary, multivalue, dir, backend)
}

// corednsOf runs a CoreDNS with multivalue. With preload it learns its targets from the zone file, without a query for each
// name. max_targets keeps it to the targets of the workload if the zone has more addresses.
func (w workload) corednsOf(program, name, dir string, backend int) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	metricsPort, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "db.example.org"), []byte(w.zone()), 0o600); err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, fmt.Sprintf("Corefile.%d", port))
	text := fmt.Sprintf("example.org:%d {\n bind 127.0.0.1\n prometheus 127.0.0.1:%d\n multivalue {\n  check %s %s\n  interval %ds\n"+
		"  timeout 1s\n  within 127.0.0.0/8\n  max_targets %d\n  preload\n }\n file %s/db.example.org\n}\n",
		port, metricsPort, w.url(backend), w.options, w.interval, w.targets, dir)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: name, port: port, metrics: metricsPort, process: exec.Command(program, "-quiet", "-conf", corefile)}
	return s, s.begin()
}

// url returns the URL of the check.
func (w workload) url(port int) string {
	switch w.protocol {
	case "icmp":
		return "icmp://"
	case "dns":
		return fmt.Sprintf("dns://:%d/example.org", port)
	}
	return fmt.Sprintf("%s://:%d", w.protocol, port)
}

// zone returns the zone file of CoreDNS.
//
// A name has perName addresses whatever the workload, so an answer has the same size in all comparisons.
func (w workload) zone() string {
	var b strings.Builder
	b.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\n")
	b.WriteString("example.org. 300 IN NS ns.example.org.\n")
	for i := range max(w.targets, w.hosts) {
		fmt.Fprintf(&b, "www%d.example.org. 60 IN A %s\n", i/perName, address(i))
	}
	return b.String()
}

// gdnsd runs gdnsd with the same addresses at the same pace. Its zone has one name, which begin asks for: gdnsd probes
// every address in the configuration of its plugin, whether a zone uses it or not.
func (w workload) gdnsd(dir string, backend int) (*server, error) {
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, fmt.Sprintf("gdnsd%d", port)) // its sockets and locks, apart from those of an installed gdnsd
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "zones", "example.org"), []byte("@ SOA ns hostmaster 1 7200 3600 1209600 60\n@ NS ns\nns A 127.0.0.1\nwww0 DYNA multifo!www0\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(w.config(dir, port, backend)), 0o600); err != nil {
		return nil, err
	}
	path, err := program(gdnsd)
	if err != nil {
		return nil, err
	}
	s := &server{name: gdnsd, port: port, process: exec.Command(path, "-c", dir, "start")}
	return s, s.begin()
}

// config returns the configuration of gdnsd: a resource of the plugin multifo for each name of the workload. up_thresh,
// ok_thresh and down_thresh are what rise and fall are in multivalue, with the same values. One thread for each of UDP and
// TCP is enough for the few queries; the probes run in the main thread.
func (w workload) config(dir string, port, backend int) string {
	plugin := "tcp_connect" // as the check tcp: it connects and closes
	if w.protocol == "http" {
		plugin = "http_status, url_path => /" // as the check http: a GET for /
	}
	var b strings.Builder
	fmt.Fprintf(&b, "options => { listen => [ 127.0.0.1:%d ], run_dir => %s, state_dir => %s, udp_threads => 1, tcp_threads => 1 }\n", port, dir, dir)
	fmt.Fprintf(&b, "service_types => { probe => { plugin => %s, port => %d, interval => %d, timeout => 1, up_thresh => 2, ok_thresh => 2, down_thresh => 3 } }\n",
		plugin, backend, w.interval)
	// The last name has fewer addresses if the targets are not a multiple of perName.
	b.WriteString("plugins => { multifo => {\n")
	for i := range w.targets {
		if i%perName == 0 {
			fmt.Fprintf(&b, "www%d => { service_types => probe", i/perName)
		}
		fmt.Fprintf(&b, ", a%d => %s", i%perName, address(i))
		if i%perName == perName-1 || i == w.targets-1 {
			b.WriteString(" }\n")
		}
	}
	b.WriteString("} }\n")
	return b.String()
}

// begin starts the process, and returns when it answers. A minute is enough to read a zone of 100 000 addresses.
func (s *server) begin() error {
	if s.name != gdnsd && s.name != haproxy { // which log a line for each target
		s.process.Stderr = os.Stderr
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	for range 600 {
		if s.answers() {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return fmt.Errorf("%s does not answer on port %d: see its messages above, if any", s.name, s.port)
}

// answers reports whether the server has started: it answers a query or, if it has nothing to do with DNS, a connection.
func (s *server) answers() bool {
	if s.name != haproxy {
		_, err := s.ask()
		return err == nil
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// ask sends one query for a name that every server has.
func (s *server) ask() (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion("www0.example.org.", dns.TypeA)
	return dns.Exchange(m, fmt.Sprintf("127.0.0.1:%d", s.port))
}

// stop ends the server as an init system does, and waits until its ports are free for the next.
func (s *server) stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
}

// stopAll stops the servers of a comparison, after its last window.
func stopAll(servers []*server) {
	for _, s := range servers {
		s.stop()
	}
}
