package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

const (
	// churnSize is how many addresses the zone has at any time.
	churnSize = 2_000
	// churnRate is how many of them are replaced each minute. With it, the pool settles at churnSize and 15 times churnRate.
	churnRate = 500
)

// churn prints once a minute what CoreDNS uses while addresses come and go, for as long as -churn says. It looks for leaks:
// targets, memory, goroutines and descriptors must stop growing.
//
// A target is kept for 15 minutes after its address was last seen, so the first 15 minutes show growth that is not a leak. A
// run of an hour has three quarters of an hour in which every figure should be level.
func churn(dir string) error {
	if *churning == 0 {
		return nil
	}
	backend, err := startBackend("tcp")
	if err != nil {
		return err
	}
	defer backend.shutdown()
	s, err := startChurn(dir, backend.ports[0])
	if err != nil {
		return err
	}
	defer s.stop()
	began := time.Now()
	// The minutes are counted from the start, so that the time which a step takes does not slow the change down.
	for minute := 1; time.Since(began) < *churning; minute++ {
		time.Sleep(time.Until(began.Add(time.Duration(minute) * time.Minute)))
		if err := writeChurn(dir, minute); err != nil {
			return err
		}
		// The figures are those before the server reads the new zone, so they have settled for a minute.
		if err := s.printUsage(minute); err != nil {
			return err
		}
	}
	return nil
}

// printUsage prints the targets, memory, goroutines and open descriptors of the server. The targets and goroutines are as
// the server reports them in its metrics, the others as the kernel counts them.
func (s *server) printUsage(minute int) error {
	targets, err := s.sum("coredns_multivalue_targets")
	if err != nil {
		return err
	}
	goroutines, err := s.sum("go_goroutines")
	if err != nil {
		return err
	}
	bytes, err := measure.Memory(s.process.Process.Pid)
	if err != nil {
		return err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Process.Pid))
	if err != nil {
		return err
	}
	// One sample a minute without an average: the memory varies with the garbage collector, so only its trend counts.
	fmt.Printf("churn  minute %3d  %6.0f targets  %5.1f MiB  %4.0f goroutines  %4d descriptors\n", minute, targets,
		float64(bytes)/(1<<20), goroutines, len(open))
	return nil
}

// startChurn runs CoreDNS with the first version of the zone. The plugin file reads the zone again every 5 seconds if its
// serial has changed, and preload takes the addresses from there. The interval is longer than the default, because the
// pace of the probes does not matter here.
func startChurn(dir string, backend int) (*server, error) {
	if err := writeChurn(dir, 0); err != nil {
		return nil, err
	}
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	metricsPort, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, "Corefile.churn")
	text := fmt.Sprintf("example.org:%d {\n bind 127.0.0.1\n prometheus 127.0.0.1:%d\n multivalue {\n  check tcp://:%d\n  interval 20s\n  within 127.0.0.0/8\n"+
		"  preload\n }\n file %s/db.churn {\n  reload 5s\n }\n}\n", port, metricsPort, backend, dir)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "churn", port: port, metrics: metricsPort, process: exec.Command(*binary, "-quiet", "-conf", corefile)}
	return s, s.begin()
}

// writeChurn writes the zone as it is in a minute, with a serial of its own. All addresses move down the list by
// churnRate, so that many are new and as many are gone. The file is replaced in one step: CoreDNS must never read half of
// it, which would look like addresses that went.
func writeChurn(dir string, minute int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "example.org. 300 IN SOA ns.example.org. hostmaster.example.org. %d 7200 3600 1209600 60\nexample.org. 300 IN NS ns.example.org.\n", minute+1)
	for i := range churnSize {
		fmt.Fprintf(&b, "www%d.example.org. 60 IN A %s\n", i/perName, address(minute*churnRate+i))
	}
	next := filepath.Join(dir, "db.churn.new")
	if err := os.WriteFile(next, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "db.churn"))
}

// sum returns the sum of all samples of a metric of the server, whatever their labels.
func (s *server) sum(name string) (total float64, err error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.metrics))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		series, value, _ := strings.Cut(in.Text(), " ")
		if word, _, _ := strings.Cut(series, "{"); word != name {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
