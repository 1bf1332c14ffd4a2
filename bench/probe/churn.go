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
	// churnSet is how many addresses are in the zone at a time, and churned is how many of them are others a minute later.
	churnSet = 2_000
	churned  = 500
)

// churn prints what the server holds while addresses come and go, for as long as -churn says. A target is kept for 15
// minutes after its address was last seen, so it takes that long until as many are forgotten as are learned.
func churn(dir string) error {
	if *churning == 0 {
		return nil
	}
	peers, err := startPeers("tcp", 1)
	if err != nil {
		return err
	}
	defer peers.stop()
	s, err := churningServer(dir, peers.ports[0])
	if err != nil {
		return err
	}
	defer s.stop()
	began := time.Now()
	for minute := 1; time.Since(began) < *churning; minute++ {
		time.Sleep(time.Until(began.Add(time.Duration(minute) * time.Minute)))
		if err := writeChurn(dir, minute); err != nil {
			return err
		}
		if err := s.holds(minute); err != nil {
			return err
		}
	}
	return nil
}

// holds prints what the server holds.
func (s *server) holds(minute int) error {
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
	fmt.Printf("churn  minute %3d  %6.0f targets  %5.1f MiB  %4.0f goroutines  %4d descriptors\n", minute, targets,
		float64(bytes)/(1<<20), goroutines, len(open))
	return nil
}

func churningServer(dir string, backend int) (*server, error) {
	if err := writeChurn(dir, 0); err != nil {
		return nil, err
	}
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	pages, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	corefile := filepath.Join(dir, "Corefile.churn")
	text := fmt.Sprintf("example.org:%d {\n bind 127.0.0.1\n prometheus 127.0.0.1:%d\n multivalue {\n  check tcp://:%d\n  interval 20s\n  within 127.0.0.0/8\n"+
		"  preload\n }\n file %s/db.churn {\n  reload 5s\n }\n}\n", port, pages, backend, dir)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "churn", port: port, metrics: pages, process: exec.Command(*binary, "-quiet", "-conf", corefile)}
	return s, s.begin()
}

// writeChurn writes the zone as it is in a minute.
func writeChurn(dir string, minute int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "example.org. 300 IN SOA ns.example.org. hostmaster.example.org. %d 7200 3600 1209600 60\nexample.org. 300 IN NS ns.example.org.\n", minute+1)
	for i := range churnSet {
		fmt.Fprintf(&b, "www%d.example.org. 60 IN A %s\n", i/perName, address(minute*churned+i))
	}
	next := filepath.Join(dir, "db.churn.new")
	if err := os.WriteFile(next, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "db.churn"))
}

// sum adds up the samples of a metric on the server's page.
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
