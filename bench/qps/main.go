// Command qps measures how much processor time a query costs a running CoreDNS, with a plugin and without.
//
// It builds cmd/coredns. For each comparison it starts two servers on loopback ports with the same zone: a plain one with
// the plugins file and cache, and one that also has the plugin. It sends the same queries over UDP to both in turn, one
// window each, and reads from the kernel what a window cost the server process. The cost of the client is not included.
//
// A ratio is that of two windows in direct succession, so a machine whose speed drifts slowly does not change it. Several
// pairs of servers are started, because two processes of the same program can differ by a tenth. The program prints
// medians over all windows. It exits with status 0 whatever they are: a figure on a shared machine is not a test.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// More pairs average out the difference between processes, more rounds average out other load on the machine. A window
// must take much longer than a tick of the kernel's account: 6 000 queries take about 150 ms of processor time.
var (
	pairs   = flag.Int("pairs", 5, "pairs of servers for each comparison")
	rounds  = flag.Int("rounds", 12, "windows for each server")
	queries = flag.Int("queries", 6_000, "queries in a window")
	only    = flag.String("only", "", "run only the comparisons whose name begins with this")
	binary  = flag.String("coredns", "", "path of a CoreDNS with multivalue; built from cmd/coredns if empty")
	before  = flag.String("before", "", "path of another CoreDNS with multivalue: compare with it, and not with the plain chain")
	gslb    = flag.String("gslb", "", "path of a CoreDNS with CoreDNS-GSLB, to compare with: see bench/gslb")
)

// comparison is a plugin in front of cache, measured against the same chain without it. Both servers have the same zone
// and get the same queries. Their answers are equal too, except where multivalue samples 8 of 64 addresses: its
// shorter answer is part of what is compared.
type comparison struct {
	name  string // of its row in the output, and for -only
	zone  zone
	chain string // what the second server's block has in addition, in Corefile syntax
	goal  string // the ratio aimed at, or - for a plugin that is measured only as a yardstick
	gslb  bool   // the chain is for the program that -gslb names
}

// The zones differ in what can make a query cost more: the number of records, glue, a TTL that must be capped, and the
// size of the pool.
var (
	eight     = zone{addresses: 8, ttl: 30}
	longLived = zone{addresses: 8, ttl: 300} // above the cap, so each answer is copied to lower its TTL
	many      = zone{addresses: 64, ttl: 30}
	largePool = zone{addresses: 64, ttl: 30, others: 20_000}
	services  = zone{addresses: 8, ttl: 30, srv: true}
	cluster   = zone{addresses: 8, ttl: 30, kubernetes: true}
	clusters  = zone{addresses: 64, ttl: 30, kubernetes: true}
)

// comparisons are the rows of the table in docs/benchmarks.md. The first compares two plain servers: how far its ratio
// is from 1 shows how precise a run is. Each size is also measured with loadbalance, a plugin that many run in this
// place.
var comparisons = []comparison{
	{name: "nothing (the precision of this run)", zone: eight, chain: "", goal: "1"},
	{name: "multivalue, 8 healthy, TTL 30", zone: eight, chain: multivalue, goal: "1.03"},
	{name: "multivalue, 8 healthy, TTL 300", zone: longLived, chain: multivalue, goal: "1.10"},
	{name: "multivalue, 8, select nearest", zone: eight, chain: nearest, goal: "-"},
	{name: "loadbalance, 8, TTL 30", zone: eight, chain: "loadbalance", goal: "-"},
	{name: "multivalue, 64 sampled to 8", zone: many, chain: multivalue, goal: "0.95"},
	{name: "multivalue, 64 to 8, 20 000 targets", zone: largePool, chain: preloaded, goal: "0.95"},
	{name: "loadbalance, 64", zone: many, chain: "loadbalance", goal: "-"},
	{name: "multivalue, 8 SRV with glue", zone: services, chain: multivalue, goal: "1.10"},
	{name: "loadbalance, 8 SRV with glue", zone: services, chain: "loadbalance", goal: "-"},
	{name: "kubernetes: nothing", zone: cluster, chain: "", goal: "1"},
	{name: "kubernetes: multivalue, 8 healthy", zone: cluster, chain: multivalue, goal: "1.03"},
	{name: "kubernetes: loadbalance, 8", zone: cluster, chain: "loadbalance", goal: "-"},
	{name: "kubernetes: multivalue, 64 to 8", zone: clusters, chain: multivalue, goal: "0.95"},
	{name: "kubernetes: loadbalance, 64", zone: clusters, chain: "loadbalance", goal: "-"},
	{name: "CoreDNS-GSLB, 8", zone: eight, chain: failover, goal: "-", gslb: true},
	{name: "CoreDNS-GSLB, 8, behind cache", zone: eight, chain: failover + "\n    cache", goal: "-", gslb: true},
	{name: "CoreDNS-GSLB, 64", zone: many, chain: failover, goal: "-", gslb: true},
}

// multivalue is the stanza for zones that are learned from queries. PORT stands for the port of the backend. Probes at
// the default interval continue during the windows, as they do in production. Those of 64 targets every 10 seconds take
// less than half a millisecond of each second.
const multivalue = `multivalue {
        check tcp://:PORT
        types A AAAA SRV
        within 127.0.0.0/8
    }`

// nearest is the same for a client whose site has four of the eight addresses, among 100,000 networks. SITES stands for their file.
const nearest = `multivalue {
        check tcp://:PORT
        within 127.0.0.0/8
        topology SITES
        select nearest
    }`

// writeSites writes a file of sites: the client's own, another, and as many as a file may have of others.
func writeSites(path string) error {
	var b strings.Builder
	b.WriteString("site here 127.0.1.0/30 127.0.1.4/32 127.0.0.0/24\nsite there 127.0.1.0/24\norder here: there\n")
	for i := range 99_990 {
		fmt.Fprintf(&b, "site s%d 10.%d.%d.%d/32\n", i%50, i>>16, i>>8&255, i&255)
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// preloaded is the stanza for the large pool. The interval of an hour keeps its 20 000 targets from being probed during
// the windows, because this row is about finding a verdict among many, not about the cost of probes (see bench/probe).
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

// run measures one comparison after the other, so that no more than two servers share the machine.
func run() error {
	dir, err := measure.Workplace("qps", binary)
	defer os.RemoveAll(dir) // which does nothing if there is none
	if err != nil {
		return err
	}
	backend, err := listen()
	if err != nil {
		return err
	}
	defer backend.Close()
	fmt.Printf("%-36s %12s %12s %8s %8s\n", "chain", "plain µs", "with µs", "ratio", "goal")
	for _, c := range comparisons {
		if !strings.HasPrefix(c.name, *only) {
			continue
		}
		if c.gslb && *gslb == "" {
			fmt.Printf("%-36s needs a CoreDNS with that plugin, given with -gslb: see bench/gslb\n", c.name)
			continue
		}
		plain, with, ratio, err := compare(dir, c, backend.port)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Printf("%-36s %12.1f %12.1f %8.3f %8s\n", c.name, plain, with, ratio, c.goal)
	}
	return nil
}

// compare returns three medians over the windows of all pairs: the processor time of a query without the chain and with
// it, in microseconds, and the ratio of the two. The ratio is the median of the ratios of single rounds, and not the
// ratio of the medians, which would contain the drift of the machine between rounds.
func compare(dir string, c comparison, port int) (plain, with, ratio float64, err error) {
	sites := filepath.Join(dir, "sites")
	if err := writeSites(sites); err != nil {
		return 0, 0, 0, err
	}
	file := filepath.Join(dir, "records.yml")
	if err := writeRecords(file, c.zone, port); err != nil {
		return 0, 0, 0, err
	}
	c.chain = strings.NewReplacer("PORT", strconv.Itoa(port), "SITES", sites, "RECORDS", file).Replace(c.chain)
	var f figures
	for range *pairs {
		if err := f.addPair(dir, c); err != nil {
			return 0, 0, 0, err
		}
	}
	return measure.Median(f.plain), measure.Median(f.with), measure.Median(f.ratios), nil
}

// figures has one entry for each round of each pair: microseconds of processor time a query, and ratios.
type figures struct{ plain, with, ratios []float64 }

// addPair starts a pair of servers, and adds the figures of their rounds. The first round is not counted: it fills the
// caches, and teaches the pool the targets, whose first probes must be over before the next round begins.
func (f *figures) addPair(dir string, c comparison) error {
	var servers [2]*server
	for i, chain := range c.chains() {
		s, err := start(dir, c.zone, chain)
		if err != nil {
			return err
		}
		defer s.stop()
		servers[i] = s
	}
	for round := range *rounds + 1 {
		var cost [2]float64
		for i := range servers {
			k := (i + round) % 2 // alternate which server is first, so that drift within a round favours neither
			var err error
			if cost[k], err = servers[k].window(*queries); err != nil {
				return err
			}
		}
		if round == 0 {
			time.Sleep(c.settling())
			continue
		}
		f.plain, f.with = append(f.plain, cost[0]), append(f.with, cost[1])
		f.ratios = append(f.ratios, cost[1]/cost[0])
	}
	return nil
}

// chains returns what the two servers of a pair run. A plain server has the plugin cache, and so has the one that is compared
// with it, except for CoreDNS-GSLB, which has cache only where a row says so: what is in the cache does not see that a backend
// went down.
func (c comparison) chains() [2]chain {
	plain, with := chain{*binary, "cache"}, chain{*binary, c.chain + "\n    cache"}
	if *before != "" {
		plain = chain{*before, with.plugins}
	}
	if c.gslb {
		with = chain{*gslb, c.chain}
	}
	return [2]chain{plain, with}
}

// settling is how long the first probes of all targets take.
func (c comparison) settling() time.Duration {
	if c.gslb {
		return 12 * time.Second // more than its interval
	}
	return 2*time.Second + time.Duration(c.zone.others)*time.Millisecond // 1 ms a target is ample
}
