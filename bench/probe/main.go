// Command probe measures what probes and targets cost a running CoreDNS, and compares it with gdnsd if that is installed.
//
// All servers of a comparison run at the same time. Each probes the same addresses at the same pace, on a port of its own
// of one backend, which counts the probes. The processor time of a window comes from the kernel's account of each process.
// Because the windows of both servers are the same moments, a machine whose speed drifts does not change their ratio.
//
// Other sections measure CoreDNS alone: how well it keeps a schedule, how fast it answers, how soon it notices a death.
// The program exits with status 0 whatever the figures are: a figure on a shared machine is not a test.
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

// More windows average out other load on the machine. A window should be at least as long as the interval of the probes, 2
// seconds in tcp and http, so that it contains a probe of every target.
var (
	targets   = flag.Int("targets", 2_000, "targets of each server in the sections tcp and http, and of CoreDNS in tls")
	many      = flag.Int("many", 20_000, "targets of each server in the section memory, and of the larger one in latency")
	crowd     = flag.Int("crowd", 100_000, "targets in the section scale")
	rate      = flag.Int("rate", 10_000, "queries a second in the section latency")
	deaths    = flag.Int("deaths", 40, "processes that the section notice kills")
	window    = flag.Duration("window", 4*time.Second, "length of a window")
	windows   = flag.Int("windows", 5, "windows of each comparison")
	churning  = flag.Duration("churn", 0, "how long addresses come and go in the section churn; 0 leaves it out")
	only      = flag.String("only", "", "run only the sections whose name begins with this: tcp, http, memory, scale, tls, latency, notice, churn")
	binary    = flag.String("coredns", "", "path of a CoreDNS with multivalue; built from cmd/coredns if empty")
	gdnsdPath = flag.String("gdnsd", "gdnsd", "path of the gdnsd to compare with")
	serve     = flag.Bool("serve", false, "be the backend; for internal use")
)

// sections are measured one after the other, so that none of them disturbs another. docs/benchmarks.md has their figures,
// with what is aimed at.
var sections = []struct {
	name string
	run  func(dir string) error
}{
	{"tcp", func(dir string) error { return cost(dir, "tcp") }},   // processor time of a probe, beside gdnsd
	{"http", func(dir string) error { return cost(dir, "http") }}, // the same
	{"memory", memory},   // bytes a target
	{"scale", scale},     // how late probes of 100 000 targets start
	{"tls", scaleTLS},    // the same with handshakes
	{"latency", latency}, // how long answers take beside probes
	{"notice", notice},   // the time from a death to an answer without the address
	{"churn", churn},     // what grows while addresses come and go
}

func main() {
	flag.Parse()
	if *serve {
		serveBackend()
		return
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// run builds CoreDNS if none is given, and runs the sections that -only selects.
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

// cost prints the processor time of a probe for each server, in microseconds, and its ratio to the last server's, which is
// gdnsd's if that is installed. Both servers have the same targets, interval, timeout and numbers of results that change a
// state.
//
// A ratio is taken within a window, and the printed figures are medians over all windows. The cost includes whatever else
// the process does meanwhile, such as its scheduler and garbage collection, because each probe causes its share of that.
func cost(dir, protocol string) error {
	backend, err := startBackend(protocol, 2)
	if err != nil {
		return err
	}
	defer backend.shutdown()
	w := workload{targets: *targets, protocol: protocol, interval: 2}
	servers, err := w.start(dir, backend.ports)
	defer stopAll(servers)
	if err != nil {
		return err
	}
	// Three intervals: both servers have learned every target, and are past the faster pace of targets that are unknown.
	time.Sleep(6 * time.Second)
	costs := make([][]float64, len(servers))
	ratios := make([][]float64, len(servers))
	for range *windows {
		us, err := measureWindow(servers, backend)
		if err != nil {
			return err
		}
		for i := range us { // the last server has the ratio 1 to itself
			costs[i] = append(costs[i], us[i])
			ratios[i] = append(ratios[i], us[i]/us[len(us)-1])
		}
	}
	for i, s := range servers {
		fmt.Printf("%-6s %6d targets  %-10s %6.1f µs a probe  %5.2f of %s\n", protocol, w.targets, s.name,
			measure.Median(costs[i]), measure.Median(ratios[i]), servers[len(servers)-1].name)
	}
	return nil
}

// measureWindow waits for the length of a window, and returns what a probe cost each server in it, in microseconds of
// processor time. It divides by the probes that arrived at the backend. So a server that sends more of them, because it
// shortens its waits by a random part, does not look dearer for that.
func measureWindow(servers []*server, backend *backend) ([]float64, error) {
	before, err := takeSamples(servers, backend)
	if err != nil {
		return nil, err
	}
	time.Sleep(*window)
	after, err := takeSamples(servers, backend)
	if err != nil {
		return nil, err
	}
	us := make([]float64, len(servers))
	for i := range us {
		// At least one probe, so that a server that sent none shows a huge cost and not an infinite one.
		us[i] = float64(after[i].cpu-before[i].cpu) / 1e3 / float64(max(1, after[i].probes-before[i].probes))
	}
	return us, nil
}

// sample is what one server has used and sent since it started.
type sample struct {
	cpu    int64 // nanoseconds
	probes int64
}

// takeSamples samples all servers at nearly the same moment. Probes and processor time are read within a millisecond or
// so of each other, which a window of seconds can ignore.
//
// servers and the ports of the backend must have the same order.
func takeSamples(servers []*server, backend *backend) ([]sample, error) {
	counts, err := backend.counts()
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

// memory prints how many bytes of memory a target takes in each server. It measures every server twice, with 8 targets and
// with many, and divides the difference by the difference in targets. The zone files are equal in both runs, so neither the
// program nor the zone counts. gdnsd has its targets in its configuration, so what it keeps of that counts.
//
// This is one sample, without an average: many targets take about 18 MB, far more than what the heap varies by.
func memory(dir string) error {
	backend, err := startBackend("tcp", 2)
	if err != nil {
		return err
	}
	defer backend.shutdown()
	var bytes [2][]int64 // of each server, with few targets and with many
	var names []string
	for i, n := range []int{8, *many} {
		// A long interval leaves few connections open at the moment of the sample. Their buffers belong to the probes of
		// that moment, and not to the targets.
		w := workload{targets: n, hosts: *many, protocol: "tcp", interval: 20}
		servers, err := w.start(dir, backend.ports)
		if err == nil {
			time.Sleep(45 * time.Second) // two intervals, after which every target has a state and buffers have their size
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

// sizes returns the memory and the name of each server.
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
