package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// row is a check by one of the servers of a comparison.
type row struct {
	server  string // multivalue, gdnsd or haproxy
	check   string // tcp, http, https, dns or icmp
	options string // of the check of multivalue, or of a server of HAProxy
}

// String names the row in the output.
func (r row) String() string { return strings.TrimSpace(r.server + " " + r.check + " " + r.options) }

// base reports whether the other rows of a comparison are measured against this one.
func (r row) base() bool { return r.server == gdnsd }

// unseen reports whether the backend does not see the probes. HAProxy never completes a connection that it has nothing to say
// on: it answers the peer's SYN with a reset, so the connection does not reach the listener. Such probes are counted by their
// pace, which HAProxy keeps as long as it has a processor to itself.
func (r row) unseen() bool { return r.server == haproxy && r.check == "tcp" }

// comparisons are what the sections with the same names measure. All rows of a comparison run at the same time, so that they
// see the same machine. Those over TLS are apart from each other, because two cores are hardly enough for one of them and for
// the backend, which has its half of each handshake. gdnsd's http probe is in each of them, for the ratio.
var comparisons = map[string][]row{
	"tcp":         {{multivalue, "tcp", ""}, {before, "tcp", ""}, {gdnsd, "tcp", ""}, {haproxy, "tcp", ""}},
	"http":        {{multivalue, "http", ""}, {multivalue, "http", "reuse"}, {before, "http", ""}, {gdnsd, "http", ""}, {haproxy, "http", ""}},
	"https":       {{multivalue, "https", "insecure"}, {gdnsd, "http", ""}},
	"https-reuse": {{multivalue, "https", "insecure reuse"}, {gdnsd, "http", ""}},
	// gdnsd has no TLS. HAProxy resumes sessions unless it is told not to.
	"https-haproxy": {{haproxy, "https", "no-ssl-reuse"}, {gdnsd, "http", ""}},
	"https-resumed": {{haproxy, "https", ""}, {gdnsd, "http", ""}},
}

const (
	// pace is the interval of the probes in a comparison, in seconds.
	pace = 2
	// reused is for how many probes a connection is used that is asked again.
	reused = 30
)

// figure is what was measured for a row: medians over all windows.
type figure struct {
	row
	us      float64 // processor time of a probe, in microseconds
	ratio   float64 // to the base of its comparison
	probes  float64 // a connection: 1 if each probe has one of its own
	resumed float64 // the share of connections that resumed a session of TLS
	arrived float64 // the probes, as a share of those that were due; more than 1 if waits are shortened at random
}

// measured are the figures of all comparisons so far, for the chart.
var measured []figure

// cost prints the processor time of a probe for each row, in microseconds, and its ratio to gdnsd's or, if that is not
// installed, to the first row's. All servers have the same targets, interval, timeout and numbers of results that change a
// state.
//
// A ratio is taken within a window, and the printed figures are medians over all windows. The cost includes whatever else
// the process does meanwhile, such as its scheduler and garbage collection, because each probe causes its share of that.
func cost(dir, name string) error {
	rows, err := installed(comparisons[name])
	if err != nil {
		return err
	}
	c, err := startComparison(dir, rows)
	defer c.shutdown()
	if err != nil {
		return err
	}
	time.Sleep(c.settling())
	windows := make([][]usage, len(rows)) // of each row
	for range *windowCount {
		used, err := c.window(c.windowLength())
		if err != nil {
			return err
		}
		for i := range used {
			used[i].ratio = used[i].us / used[c.base()].us
			windows[i] = append(windows[i], used[i])
		}
	}
	for i, r := range rows {
		f := summarize(r, windows[i])
		measured = append(measured, f)
		fmt.Printf("%-13s %6d targets  %-35s %6.1f µs a probe  %5.2f of %s%s\n", name, *targets, r, f.us, f.ratio, rows[c.base()].server+" "+rows[c.base()].check, f.remarks())
	}
	return nil
}

// summarize reduces the windows of a row to medians.
func summarize(r row, windows []usage) figure {
	var us, ratios []float64
	var sum tally
	var due float64
	for _, w := range windows {
		due += w.due
		us, ratios = append(us, w.us), append(ratios, w.ratio)
		sum.probes += w.probes
		sum.connections += w.connections
		sum.resumed += w.resumed
	}
	connections := float64(max(1, sum.connections))
	return figure{
		row: r, us: measure.Median(us), ratio: measure.Median(ratios),
		probes: float64(sum.probes) / connections, resumed: float64(sum.resumed) / connections, arrived: float64(sum.probes) / due,
	}
}

// remarks tells how a row used its connections, if that is not one fresh connection for each probe, and whether the figure is
// one to trust: a handshake that takes longer than the timeout is paid for, and is no probe.
func (f figure) remarks() (text string) {
	if f.probes > 1.05 && !f.unseen() {
		text += fmt.Sprintf(", %.1f probes a connection", f.probes)
	}
	if f.resumed > 0.01 {
		text += fmt.Sprintf(", %.0f %% of handshakes resumed", 100*f.resumed)
	}
	if f.arrived < 0.95 {
		text += fmt.Sprintf(", %.0f %% of the probes that were due", 100*f.arrived)
	}
	return text
}

// installed returns the rows of servers that are there, and says which of the others are not. In CI a server that .ci/run installs must
// be there.
func installed(rows []row) (there []row, err error) {
	said := make(map[string]bool)
	for _, r := range rows {
		if r.server == before && *beforePath == "" {
			continue
		}
		if r.server != multivalue && r.server != before {
			if _, err := program(r.server); err != nil {
				if r.server == haproxy && os.Getenv("CI") == "true" {
					return nil, err
				}
				if !said[r.server] {
					fmt.Println(err)
				}
				said[r.server] = true
				continue
			}
		}
		there = append(there, r)
	}
	return there, nil
}

// A comparison is rows that are being measured.
type comparison struct {
	rows    []row
	servers []*server // in the order of rows
	backend *backend  // whose ports have the same order
}

// startComparison starts the servers of all rows, and the backend. On an error it returns what it started, for the caller to
// stop.
func startComparison(dir string, rows []row) (*comparison, error) {
	c := &comparison{rows: rows}
	var protocols []string
	for _, r := range rows {
		protocols = append(protocols, r.check)
	}
	var err error
	if c.backend, err = startBackend(protocols...); err != nil {
		return c, err
	}
	for i, r := range rows {
		s, err := workload{targets: *targets, protocol: r.check, options: r.options, interval: pace}.start(r.server, dir, c.backend.ports[i])
		if err != nil {
			return c, fmt.Errorf("%s: %w", r, err)
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

// shutdown ends the servers, then the backend.
func (c *comparison) shutdown() {
	stopAll(c.servers)
	if c.backend != nil {
		c.backend.shutdown()
	}
}

// base returns the index of the row that others are measured against.
func (c *comparison) base() int {
	for i, r := range c.rows {
		if r.base() {
			return i
		}
	}
	return 0
}

// reuses reports whether a row asks again on connections.
func (c *comparison) reuses() bool {
	for _, r := range c.rows {
		if strings.Contains(r.options, "reuse") && r.server == multivalue {
			return true
		}
	}
	return false
}

// settling is how long to wait before the first window. After three intervals all servers have learned every target, and are
// past the faster pace of targets that are unknown. Connections that are used again were all opened at the start: they cost
// nothing until they reach their number of probes, and what they cost on average shows only after that.
func (c *comparison) settling() time.Duration {
	if c.reuses() {
		return (reused + 5) * pace * time.Second
	}
	return 3 * pace * time.Second
}

// windowLength is -window, or long enough for all windows to see each connection end once.
func (c *comparison) windowLength() time.Duration {
	if all := reused * pace * time.Second; c.reuses() {
		return max(*window, all/time.Duration(*windowCount))
	}
	return *window
}

// usage is what a server did in a window.
type usage struct {
	tally
	us    float64 // processor time of a probe, in microseconds
	ratio float64 // to the base
	due   float64 // how many probes should have arrived
}

// window waits for a while, and returns what each server used meanwhile. It divides by the probes that arrived at the
// backend. So a server that sends more of them, because it shortens its waits by a random part, does not look dearer for
// that.
func (c *comparison) window(length time.Duration) ([]usage, error) {
	before, err := takeSamples(c.servers, c.backend)
	if err != nil {
		return nil, err
	}
	time.Sleep(length)
	after, err := takeSamples(c.servers, c.backend)
	if err != nil {
		return nil, err
	}
	all := make([]usage, len(c.servers))
	for i := range all {
		due := float64(*targets) * after[i].at.Sub(before[i].at).Seconds() / pace
		if c.rows[i].unseen() {
			after[i].probes = before[i].probes + int64(due)
		}
		all[i] = after[i].since(before[i])
		all[i].due = due
	}
	return all, nil
}

// sample is what one server has used and sent since it started.
type sample struct {
	tally
	cpu int64 // nanoseconds
	at  time.Time
}

// since returns what was used between two samples.
func (s sample) since(earlier sample) usage {
	u := usage{tally: tally{s.probes - earlier.probes, s.connections - earlier.connections, s.resumed - earlier.resumed}}
	// At least one probe, so that a server that sent none shows a huge cost and not an infinite one.
	u.us = float64(s.cpu-earlier.cpu) / 1e3 / float64(max(1, u.probes))
	return u
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
		all[i].tally, all[i].at = counts[i], time.Now()
		if all[i].cpu, err = measure.CPU(s.process.Process.Pid); err != nil {
			return nil, err
		}
	}
	return all, nil
}
