// Command qps measures what a query costs a running CoreDNS in processor time, with the plugin and without.
//
// It builds cmd/coredns, starts one server for each chain that is compared, each on a loopback port of its own and with
// the same zone, and asks them in turn, a window each, over UDP. What a window cost is read from the kernel's account of
// the server process; the ratios are of neighbouring windows, so that a machine whose speed drifts does not matter, and
// of several pairs of servers, since one process is quicker than another of the same program by a tenth. It prints the
// medians, and ends with status 0 whatever they are: a figure is no test.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

var (
	pairs   = flag.Int("pairs", 5, "pairs of servers for each comparison")
	rounds  = flag.Int("rounds", 12, "windows for each server")
	queries = flag.Int("queries", 6_000, "queries in a window")
	only    = flag.String("only", "", "just the comparisons whose name begins with this")
	binary  = flag.String("coredns", "", "a CoreDNS with multivalue; built from cmd/coredns if empty")
)

// comparison is a chain beside the plain one, for the same answer.
type comparison struct {
	what  string
	zone  zone
	chain string
	bar   string // what is aimed at
}

var (
	eight     = zone{addresses: 8, ttl: 30}
	many      = zone{addresses: 64, ttl: 30}
	services  = zone{addresses: 8, ttl: 30, srv: true}
	crowd     = zone{addresses: 64, ttl: 30, others: 20_000}
	longLived = zone{addresses: 8, ttl: 300}
)

var comparisons = []comparison{
	{"nothing (what this run can tell)", eight, "", "1"},
	{"multivalue, 8 healthy, TTL 30", eight, multivalue, "1.03"},
	{"multivalue, 8 healthy, TTL 300", longLived, multivalue, "1.10"},
	{"loadbalance, 8, TTL 30", eight, "loadbalance", "-"},
	{"multivalue, 64 sampled to 8", many, multivalue, "0.95"},
	{"multivalue, 64 to 8, 20 000 targets", crowd, preloaded, "0.95"},
	{"loadbalance, 64", many, "loadbalance", "-"},
	{"multivalue, 8 SRV with glue", services, multivalue, "1.10"},
	{"loadbalance, 8 SRV with glue", services, "loadbalance", "-"},
}

// PORT is the backends'.
const multivalue = `multivalue {
        check tcp://:PORT
        types A AAAA SRV
        within 127.0.0.0/8
    }`

const preloaded = `multivalue {
        check tcp://:PORT
        interval 1h 2s
        within 127.0.0.0/8
        preload
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
		if *binary, err = measure.Build(dir); err != nil {
			return err
		}
	}
	backends, err := listen()
	if err != nil {
		return err
	}
	defer backends.Close()
	fmt.Printf("%-36s %12s %12s %8s %8s\n", "chain", "plain µs", "with µs", "ratio", "bar")
	for _, c := range comparisons {
		if !strings.HasPrefix(c.what, *only) {
			continue
		}
		plain, with, ratio, err := compare(dir, c, backends.port)
		if err != nil {
			return err
		}
		fmt.Printf("%-36s %12.1f %12.1f %8.3f %8s\n", c.what, plain, with, ratio, c.bar)
	}
	return nil
}

// compare gives the medians of the microseconds a query, plain and with the chain, and of the ratios.
func compare(dir string, c comparison, port int) (plain, with, ratio float64, err error) {
	chain := strings.ReplaceAll(c.chain, "PORT", strconv.Itoa(port))
	var f figures
	for range *pairs {
		if err := f.measure(dir, c.zone, chain); err != nil {
			return 0, 0, 0, err
		}
	}
	return measure.Median(f.plain), measure.Median(f.with), measure.Median(f.ratios), nil
}

// figures are of one window each, in microseconds a query, but for the ratios.
type figures struct{ plain, with, ratios []float64 }

// measure starts a pair of servers, and adds what their windows cost.
func (f *figures) measure(dir string, z zone, chain string) error {
	var servers [2]*server
	for i, extra := range []string{"", chain} {
		s, err := start(dir, z, extra)
		if err != nil {
			return err
		}
		defer s.stop()
		servers[i] = s
	}
	for round := range *rounds + 1 {
		var cost [2]float64
		for i := range servers {
			k := (i + round) % 2 // whoever is first in a round is second in the next
			var err error
			if cost[k], err = servers[k].window(*queries); err != nil {
				return err
			}
		}
		if round == 0 {
			time.Sleep(2*time.Second + time.Duration(z.others)*time.Millisecond) // the first probes are over, and the caches are warm
			continue
		}
		f.plain, f.with = append(f.plain, cost[0]), append(f.with, cost[1])
		f.ratios = append(f.ratios, cost[1]/cost[0])
	}
	return nil
}
