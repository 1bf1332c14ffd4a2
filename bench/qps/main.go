// Command qps measures what a query costs a running CoreDNS in processor time, with the plugin and without.
//
// It builds cmd/coredns, starts one server for each chain that is compared, each on a loopback port of its own and with
// the same zone, and asks them in turn, a window each, over UDP. What a window cost is read from the kernel's account of
// the server process; the ratios are of neighbouring windows, so that a machine whose speed drifts does not matter. It
// prints the medians, and ends with status 0 whatever they are: a figure is no test.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

var (
	rounds  = flag.Int("rounds", 15, "windows for each chain")
	queries = flag.Int("queries", 40_000, "queries in a window")
	binary  = flag.String("coredns", "", "a CoreDNS with multivalue; built from cmd/coredns if empty")
)

// comparison is a chain beside the plain one, for the same answer.
type comparison struct {
	what  string
	zone  zone
	chain string
	bar   string // what is aimed at
}

var comparisons = []comparison{
	{"multivalue, 8 healthy, TTL 30", zone{8, 30}, multivalue, "1.03"},
	{"multivalue, 8 healthy, TTL 300", zone{8, 300}, multivalue, "1.10"},
	{"loadbalance, 8, TTL 30", zone{8, 30}, "loadbalance", "-"},
	{"multivalue, 64 sampled to 8", zone{64, 30}, multivalue, "0.95"},
	{"loadbalance, 64", zone{64, 30}, "loadbalance", "-"},
}

const multivalue = `multivalue {
        check tcp://:%d
        within 127.0.0.0/8
    }`

func main() {
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "qps")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *binary == "" {
		*binary = filepath.Join(dir, "coredns")
		fmt.Println("building cmd/coredns")
		build := exec.Command("go", "build", "-o", *binary, "github.com/coredns-multivalue/multivalue/cmd/coredns")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return err
		}
	}
	backends, err := listen()
	if err != nil {
		return err
	}
	defer backends.Close()
	fmt.Printf("%-32s %12s %12s %8s %8s\n", "chain", "plain µs", "with µs", "ratio", "bar")
	for _, c := range comparisons {
		plain, with, ratio, err := compare(dir, c, backends.port)
		if err != nil {
			return err
		}
		fmt.Printf("%-32s %12.1f %12.1f %8.3f %8s\n", c.what, plain, with, ratio, c.bar)
	}
	return nil
}

// compare gives the medians of the microseconds a query, plain and with the chain, and of the ratios.
func compare(dir string, c comparison, port int) (plain, with, ratio float64, err error) {
	chain := c.chain
	if chain == multivalue {
		chain = fmt.Sprintf(multivalue, port)
	}
	var servers [2]*server
	for i, extra := range []string{"", chain} {
		if servers[i], err = start(dir, c.zone, extra); err != nil {
			return 0, 0, 0, err
		}
		defer servers[i].stop()
	}
	var costs [2][]float64
	var ratios []float64
	for round := range *rounds + 1 {
		var cost [2]float64
		for i := range servers {
			k := (i + round) % 2 // whoever is first in a round is second in the next
			if cost[k], err = servers[k].window(*queries); err != nil {
				return 0, 0, 0, err
			}
		}
		if round == 0 {
			time.Sleep(2 * time.Second) // the first probes are over, and the caches are warm
			continue
		}
		costs[0], costs[1] = append(costs[0], cost[0]), append(costs[1], cost[1])
		ratios = append(ratios, cost[1]/cost[0])
	}
	return median(costs[0]), median(costs[1]), median(ratios), nil
}
