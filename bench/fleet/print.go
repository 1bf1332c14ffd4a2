package main

import (
	"fmt"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// The goals are for fifty members on two cores that do nothing else. They are printed for all sizes: smaller ones should have no
// trouble with them.

// printFigures prints the figures of a size: with a fleet, of members alone, and what is aimed at with 50 members on two cores.
// One of the runs may be missing.
func printFigures(w workload, shared, alone *figures) {
	fmt.Printf("  %-58s %12s %12s %8s  %s\n", "", "fleet", "alone", "ratio", "aimed at")
	// A row takes a figure of each run. What a run does not have is a dash, and so is a ratio to nothing.
	row := func(what, format string, of func(*figures) (float64, bool), goal string) {
		text := [3]string{"-", "-", "-"}
		var values [2]float64
		// Zero is a figure, too: of bytes that a member alone sends, for one.
		for i, f := range []*figures{shared, alone} {
			if f != nil {
				if value, ok := of(f); ok {
					values[i], text[i] = value, fmt.Sprintf(format, value)
				}
			}
		}
		if values[0] != 0 && values[1] != 0 {
			text[2] = fmt.Sprintf("%.2f", values[0]/values[1])
		}
		fmt.Printf("  %-58s %12s %12s %8s  %s\n", what, text[0], text[1], text[2], goal)
	}
	plain := func(of func(*figures) float64) func(*figures) (float64, bool) {
		return func(f *figures) (float64, bool) { return of(f), true }
	}
	row("probes a target and interval, mean", "%.2f", plain(func(f *figures) float64 { return f.probes }), fmt.Sprint(min(vantage, w.members)))
	row("the target with the fewest", "%.2f", plain(func(f *figures) float64 { return f.least }), "> 0")
	row("from the start until all know all, s", "%.1f", plain(func(f *figures) float64 { return f.ready.Seconds() }), "")
	// A single vote is enough to serve an address, and to take it away: so this is when a fleet is as good as it gets.
	row("until no verdict rests on a single vote, s", "%.1f", func(f *figures) (float64, bool) { return f.whole.Seconds(), f == shared && f.whole > 0 }, "")
	printRates(row, "at rest", func(f *figures) (rates, bool) { return f.rest, true }, "0.5", "5")
	ofStore := func(of func(*figures) float64) func(*figures) (float64, bool) {
		return func(f *figures) (float64, bool) { return of(f), f.storeMemory > 0 }
	}
	if w.etcd != "" {
		row("memory of the etcd, MB", "%.0f", ofStore(func(f *figures) float64 { return f.storeMemory / 1e6 }), "")
		row("its data, MB", "%.1f", ofStore(func(f *figures) float64 { return f.storeData / 1e6 }), "")
	}
	row("own memory a member, MB", "%.1f", plain(func(f *figures) float64 { return f.memory / 1e6 }), "")
	row("heap a member after a collection, MB", "%.2f", plain(func(f *figures) float64 { return f.heap / 1e6 }), "")
	// Members have more than targets: buffers, lists, sockets. With few targets these are most of the difference.
	if shared != nil && alone != nil {
		fmt.Printf("  a shared target: %.0f bytes more heap (aimed at 80), with what a member needs without targets\n", (shared.heap-alone.heap)/float64(w.targets()))
	}
	printLags(row, "one transition, behind the first member", func(f *figures) ([]float64, bool) { return f.lags, len(f.lags) > 0 }, "150")
	row("of these, never known", "%.0f", plain(func(f *figures) float64 { return float64(f.lostOnes) }), "0")
	printDeaths(row, shared, alone)
	if shared != nil {
		fmt.Printf("  all members: %.0f gaps, dropped messages %v; at the end at most %.0f targets with one vote\n", shared.gaps, shared.drops, shared.thin)
	}
}

// rowPrinter prints a row: its name, a format, where to take the figure, and what is aimed at.
type rowPrinter func(what, format string, of func(*figures) (float64, bool), goal string)

// printDeaths prints the figures of many deaths and returns at once.
func printDeaths(row rowPrinter, shared, alone *figures) {
	some := shared
	if some == nil {
		some = alone
	}
	// Both runs have the same changes in the same order.
	for i, d := range some.deaths {
		at := func(f *figures) (death, bool) {
			if i < len(f.deaths) {
				return f.deaths[i], true
			}
			return death{}, false
		}
		what := fmt.Sprintf("%d %s", d.count, d.what)
		row(what+": until all know all, s", "%.1f", func(f *figures) (float64, bool) { d, ok := at(f); return d.last.Seconds(), ok }, "alone + 10")
		row(what+": never known", "%.0f", func(f *figures) (float64, bool) { d, ok := at(f); return float64(d.lost), ok }, "0")
		printLags(row, what+": behind the first member", func(f *figures) ([]float64, bool) { d, ok := at(f); return d.lags, ok && len(d.lags) > 0 }, "")
		printRates(row, what, func(f *figures) (rates, bool) { d, ok := at(f); return d.rates, ok }, "", "")
		row(what+": kB that a member has sent, in all", "%.0f", func(f *figures) (float64, bool) { d, ok := at(f); return d.bytes / 1e3, ok }, "")
	}
}

// printRates prints what a member uses.
func printRates(row rowPrinter, what string, of func(*figures) (rates, bool), cpu, bytes string) {
	// All rates are means over the members: those with more seats use more.
	for _, r := range []struct {
		what, format string
		of           func(rates) float64
		goal         string
	}{
		{"% of a core a member", "%.2f", func(r rates) float64 { return 100 * r.cpu }, cpu},
		{"kB/s that a member sends", "%.2f", func(r rates) float64 { return r.sent / 1e3 }, bytes},
		{"packets a second that a member sends", "%.1f", func(r rates) float64 { return r.packets }, ""},
	} {
		row(what+": "+r.what, r.format, func(f *figures) (float64, bool) { x, ok := of(f); return r.of(x), ok }, r.goal)
	}
	if *engine == "etcd" {
		printServerRates(row, what, of)
	}
}

// printServerRates prints what an etcd uses for all members.
func printServerRates(row rowPrinter, what string, of func(*figures) (rates, bool)) {
	for _, r := range []struct {
		what string
		of   func(serverUsage) float64
	}{
		{"% of a core of the etcd", func(u serverUsage) float64 { return 100 * u.cpu }},
		{"kB/s that the etcd receives", func(u serverUsage) float64 { return u.received / 1e3 }},
		{"kB/s that the etcd sends", func(u serverUsage) float64 { return u.sent / 1e3 }},
		{"keys written a second", func(u serverUsage) float64 { return u.writes }},
	} {
		// A member alone has none, and a server at rest uses something.
		row(what+": "+r.what, "%.2f", func(f *figures) (float64, bool) {
			x, ok := of(f)
			return r.of(x.server), ok && x.server.cpu > 0
		}, "")
	}
}

// printLags prints how far members are behind the first one.
func printLags(row rowPrinter, what string, of func(*figures) ([]float64, bool), goal string) {
	// The first call sorts the lags in place.
	for _, q := range []struct {
		word string
		q    float64
		goal string
	}{{"median", 0.5, goal}, {"99 %", 0.99, ""}, {"last", 1, ""}} {
		row(what+": "+q.word+", ms", "%.0f", func(f *figures) (float64, bool) {
			all, ok := of(f)
			if !ok {
				return 0, false
			}
			return measure.Quantile(all, q.q), true
		}, q.goal)
	}
}
