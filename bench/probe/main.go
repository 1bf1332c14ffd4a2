// Command probe measures what probes and targets cost a running CoreDNS, and compares it with gdnsd and HAProxy if they are
// installed.
//
// All servers of a comparison run at the same time. Each probes the same addresses at the same pace, on a port of its own
// of one backend, which counts the probes. The processor time of a window comes from the kernel's account of each process.
// Because the windows of all servers are the same moments, a machine whose speed drifts does not change their ratio.
//
// Other sections measure CoreDNS alone: how well it keeps a schedule, how fast it answers, how soon it notices a death.
// The program exits with status 0 whatever the figures are: a figure on a shared machine is not a test.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// More windows average out other load on the machine. A window should be at least as long as the interval of the probes, 2
// seconds in most sections, so that it contains a probe of every target.
var (
	targets     = flag.Int("targets", 2_000, "targets of each server in the comparisons tcp, http and https")
	many        = flag.Int("many", 20_000, "targets of each server in the section memory, and of the larger one in latency")
	kept        = flag.Int("kept", 5_000, "targets in the sections reuse-lag and kept; a process keeps as many as half of its descriptors without those of probes: 18,200 are enough for 5,000")
	datagrams   = flag.Int("datagrams", 10_000, "targets in the section datagrams")
	crowd       = flag.Int("crowd", 100_000, "targets in the section scale")
	rate        = flag.Int("rate", 10_000, "queries a second in the section latency")
	deaths      = flag.Int("deaths", 40, "processes that the section notice kills")
	window      = flag.Duration("window", 4*time.Second, "length of a window")
	windowCount = flag.Int("windows", 5, "windows of each comparison")
	churning    = flag.Duration("churn", 0, "how long addresses come and go in the section churn; 0 leaves it out")
	only        = flag.String("only", "", "run only the sections whose name begins with one of these, separated by commas")
	chart       = flag.String("svg", "", "draw what the comparisons have measured, into this file")
	binary      = flag.String("coredns", "", "path of a CoreDNS with multivalue; built from cmd/coredns if empty")
	beforePath  = flag.String("before", "", "path of another CoreDNS with multivalue, to compare with in the sections tcp and http")
	gdnsdPath   = flag.String("gdnsd", "gdnsd", "path of the gdnsd to compare with")
	haproxyPath = flag.String("haproxy", "haproxy", "path of the HAProxy to compare with")
	serve       = flag.Bool("serve", false, "be the backend; for internal use")
)

// section is a part of a run. docs/benchmarks.md has the figures of all, with what is aimed at.
type section struct {
	name string
	run  func(dir string) error
}

// compared is the section that measures a comparison.
func compared(name string) section {
	return section{name, func(dir string) error { return cost(dir, name) }}
}

// sections are measured one after the other, so that none of them disturbs another.
var sections = []section{
	compared("tcp"), // processor time of a probe, beside gdnsd and HAProxy
	compared("http"),
	compared("https"),
	compared("https-reuse"),
	compared("https-haproxy"),
	compared("https-resumed"),
	{"datagrams", datagramCost}, // processor time and descriptors of dns and icmp
	{"memory", memory},          // bytes a target
	{"kept", keptMemory},        // bytes a target whose connection is kept
	{"scale", scale},            // how late probes of 100 000 targets start
	{"reuse-lag", lagOfReuse},   // the same over TLS, on kept connections
	{"latency", latency},        // how long answers take beside probes
	{"notice", notice},          // the time from a death to an answer without the address
	{"churn", churn},            // what grows while addresses come and go
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
	dir, err := measure.Workplace("probe", binary)
	defer os.RemoveAll(dir) // which does nothing if there is none
	if err != nil {
		return err
	}
	for _, s := range sections {
		if !slices.ContainsFunc(strings.Split(*only, ","), func(o string) bool { return strings.HasPrefix(s.name, o) }) {
			continue
		}
		if err := s.run(dir); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if *chart == "" {
		return nil
	}
	return os.WriteFile(*chart, []byte(drawChart(measured)), 0o644)
}
