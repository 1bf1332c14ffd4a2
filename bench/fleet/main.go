// Command fleet measures what a fleet costs and how fast it is: many CoreDNS that share the probes of their targets.
//
// Each size of fleet runs twice, one run after the other: with the property fleet in the Corefiles, and without, so that each
// CoreDNS probes for itself. All members are processes of their own on loopback addresses, in a network namespace that has
// nothing else: so the kernel's counters of packets are those of the members. The targets count the probes that arrive.
//
// A member says of itself only how many bytes it sends to the fleet, and an etcd how many it exchanges with all members. Their processor
// time and memory are the kernel's account.
// Whether it knows of a death is asked as clients do, by DNS. The program exits with status 0 whatever the figures are: a
// figure on a shared machine is not a test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// Longer windows average out other load on the machine. The defaults take some eight minutes for each size.
var (
	sizes       = flag.String("n", "3,10,50", "how many members, separated by commas")
	targets     = flag.Int("targets", 0, "targets that can die; 0 for 10000, or 1000 with more than 10 members. One in eight more stays alive")
	rest        = flag.Duration("rest", 30*time.Second, "how long members are measured at rest")
	transitions = flag.Int("transitions", 20, "deaths and returns of one target")
	engine      = flag.String("engine", "gossip", "what the fleet is over: gossip, or etcd, whose own cost is printed, too")
	only        = flag.String("only", "", "run only one of: fleet, alone")
	short       = flag.Bool("short", false, "a quick run, whose figures mean little: 200 targets, 4 transitions, 10 seconds at rest")
	limit       = flag.Duration("limit", 20*time.Minute, "give up a size after this time")
	profile     = flag.String("profile", "", "a folder for processor profiles of one member: at rest, and while targets die")
	binary      = flag.String("coredns", "", "path of a CoreDNS with multivalue; built from cmd/coredns if empty")
	etcdBinary  = flag.String("etcd", "", "path of an etcd; built from the module in test/kube if empty")
)

// main runs all that the flags ask for, and ends what it has started.
func main() {
	// Members are ended by the kernel if the thread ends that started them, so this goroutine keeps its thread.
	runtime.LockOSThread()
	flag.Parse()
	if *short {
		*targets, *rest, *transitions = 200, 10*time.Second, 4
	}
	isInside, err := enterNamespace()
	if err == nil && isInside {
		err = run()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run measures each size.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := measure.Workplace("fleet", binary)
	defer os.RemoveAll(dir) // which does nothing if there is none
	if err != nil {
		return err
	}
	program := ""
	switch *engine {
	case "gossip":
	case "etcd":
		if program, err = buildStore(dir); err != nil {
			return err
		}
	default:
		return fmt.Errorf("invalid engine %q: use gossip or etcd", *engine)
	}
	// One backend serves all runs: its counters are set to zero between them.
	backend, err := startBackend()
	if err != nil {
		return err
	}
	defer backend.shut()
	for word := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 2 || n > maxMembers {
			return fmt.Errorf("invalid size %q: use a count from 2 to %d", word, maxMembers)
		}
		if err := measureSize(ctx, workload{members: n, dir: dir, etcd: program, backend: backend}); err != nil {
			return fmt.Errorf("%d members: %w", n, err)
		}
	}
	return nil
}

// measureSize measures one size with and without a fleet, and prints the figures of both.
func measureSize(ctx context.Context, w workload) error {
	// Members that never become ready, or never know, end a size by limits of their own; this one is for all else.
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, errors.New("it takes too long: see -limit"))
	defer cancel()
	mortal := *targets
	if mortal == 0 {
		mortal = 10_000
		if w.members > 10 {
			mortal = 1_000
		}
	}
	// All names have eight targets, so there may be a few more than asked for.
	w.names = (mortal + mortalPerName - 1) / mortalPerName
	fmt.Printf("\n%d members, a fleet over %s, %d targets, of which %d die; every %s, fast %s, timeout %s; load %s\n", w.members, *engine, w.targets(),
		w.names*mortalPerName, interval, fast, timeout, load())
	// The fleet comes first, so that it has the machine as it was when the load was printed.
	var both [2]*figures
	for i, shared := range []bool{true, false} {
		if *only != "" && shared != (*only == "fleet") {
			continue
		}
		w.shared = shared
		// Each target of each member costs the machine some 80 µs of processor time, of which the backend has a part.
		if rate := w.members * w.targets() / int(interval.Seconds()); !shared && rate > maxRate {
			fmt.Printf("alone: left out, it would be %d probes a second\n", rate)
			continue
		}
		f, err := w.measure(ctx)
		if err != nil {
			return err
		}
		both[i] = f
	}
	printFigures(w, both[0], both[1])
	return nil
}

// load is the load of the machine, as the kernel averages it over a minute: other programs are part of it.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
