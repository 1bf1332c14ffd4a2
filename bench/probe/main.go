// Command probe measures what a probe and a target cost a running CoreDNS, beside gdnsd where that is installed.
//
// All servers of a comparison run at once, each against a port of its own of one backend, which counts what arrives
// there. What a window of time cost a server is read from the kernel's account of its process. So a machine whose speed
// drifts does not matter to the ratios. The program ends with status 0 whatever they are: a figure is no test.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

var (
	targets  = flag.Int("targets", 2_000, "targets of each server, where what a probe costs is measured")
	many     = flag.Int("many", 20_000, "targets of each server, where memory is measured")
	crowd    = flag.Int("crowd", 100_000, "targets, where the schedule is measured")
	rate     = flag.Int("rate", 10_000, "queries a second, where latency is measured")
	deaths   = flag.Int("deaths", 40, "processes that are killed, where noticing is measured")
	window   = flag.Duration("window", 4*time.Second, "how long a window is")
	windows  = flag.Int("windows", 5, "windows of each comparison")
	churning = flag.Duration("churn", 0, "how long addresses come and go, where that is measured; 0 for not at all")
	only     = flag.String("only", "", "just the sections whose name begins with this: tcp, http, memory, scale, tls, latency, notice, churn")
	binary   = flag.String("coredns", "", "a CoreDNS with multivalue; built from cmd/coredns if empty")
	rival    = flag.String("gdnsd", "gdnsd", "the gdnsd to compare with")
	serve    = flag.Bool("serve", false, "be the backend: this program starts itself so")
)

// sections are what is measured, one after the other.
var sections = []struct {
	name string
	run  func(dir string) error
}{
	{"tcp", func(dir string) error { return cost(dir, "tcp") }},
	{"http", func(dir string) error { return cost(dir, "http") }},
	{"memory", memory},
	{"scale", scale},
	{"tls", handshakes},
	{"latency", latency},
	{"notice", notice},
	{"churn", churn},
}

func main() {
	flag.Parse()
	if *serve {
		backend()
		return
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *binary == "" {
		if *binary, err = measure.Build(dir); err != nil {
			return err
		}
	}
	for _, s := range sections {
		if !strings.HasPrefix(s.name, *only) {
			continue
		}
		if err := s.run(dir); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// cost prints what a probe costs each server, and what that is of gdnsd's.
func cost(dir, protocol string) error {
	peers, err := startPeers(protocol, 2)
	if err != nil {
		return err
	}
	defer peers.stop()
	f := fleet{targets: *targets, protocol: protocol, interval: 2}
	servers, err := f.start(dir, peers.ports)
	defer stopAll(servers)
	if err != nil {
		return err
	}
	time.Sleep(6 * time.Second) // every target is known, and asked at its interval
	costs := make([][]float64, len(servers))
	ratios := make([][]float64, len(servers))
	for range *windows {
		us, err := oneWindow(servers, peers)
		if err != nil {
			return err
		}
		for i := range us {
			costs[i] = append(costs[i], us[i])
			ratios[i] = append(ratios[i], us[i]/us[len(us)-1])
		}
	}
	for i, s := range servers {
		fmt.Printf("%-6s %6d targets  %-10s %6.1f µs a probe  %5.2f of %s\n", protocol, f.targets, s.name,
			measure.Median(costs[i]), measure.Median(ratios[i]), servers[len(servers)-1].name)
	}
	return nil
}

// oneWindow returns the microseconds that a probe cost each server.
func oneWindow(servers []*server, peers *peers) ([]float64, error) {
	before, err := snapshot(servers, peers)
	if err != nil {
		return nil, err
	}
	time.Sleep(*window)
	after, err := snapshot(servers, peers)
	if err != nil {
		return nil, err
	}
	us := make([]float64, len(servers))
	for i := range us {
		us[i] = float64(after[i].cpu-before[i].cpu) / 1e3 / float64(max(1, after[i].probes-before[i].probes))
	}
	return us, nil
}

type sample struct{ cpu, probes int64 }

func snapshot(servers []*server, peers *peers) ([]sample, error) {
	counts, err := peers.counts()
	if err != nil {
		return nil, err
	}
	all := make([]sample, len(servers))
	for i, s := range servers {
		all[i].probes = counts[i]
		if all[i].cpu, err = measure.CPU(s.process.Process.Pid); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// memory prints what a target takes, above what the server takes without targets.
func memory(dir string) error {
	peers, err := startPeers("tcp", 2)
	if err != nil {
		return err
	}
	defer peers.stop()
	var bytes [2][]int64 // without targets, with
	var names []string
	for i, n := range []int{8, *many} {
		f := fleet{targets: n, hosts: *many, protocol: "tcp", interval: 20}
		servers, err := f.start(dir, peers.ports)
		if err == nil {
			time.Sleep(45 * time.Second) // two rounds
			bytes[i], names, err = sizes(servers)
		}
		stopAll(servers)
		if err != nil {
			return err
		}
	}
	for i, name := range names {
		fmt.Printf("memory %6d targets  %-10s %6.0f bytes a target\n", *many, name, float64(bytes[1][i]-bytes[0][i])/float64(*many-8))
	}
	return nil
}

func sizes(servers []*server) (bytes []int64, names []string, err error) {
	for _, s := range servers {
		n, err := measure.Memory(s.process.Process.Pid)
		if err != nil {
			return nil, nil, err
		}
		bytes, names = append(bytes, n), append(names, s.name)
	}
	return bytes, names, nil
}
