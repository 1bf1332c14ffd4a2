package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"

	"github.com/miekg/dns"
)

// scale prints how well CoreDNS keeps the schedule of many targets, by default 100 000 every 10 seconds. It is not compared
// with anything: the goals are that every target is probed, and that 99 of 100 probes start less than 100 ms late.
func scale(dir string) error {
	return schedule(dir, workload{targets: *crowd, protocol: "tcp", interval: 10})
}

// lagOfReuse prints the same for probes over TLS that ask again on a kept connection, every 10 seconds. 99 of 100 should start less
// than 50 ms late. It measures for as long as it takes until each connection has had its number of probes, because the
// handshakes are what may delay others. The backend, which has its half of them, is on the same machine.
//
// A process keeps as many connections as half of its descriptors without those of probes: give it 65,536 for 10 000 targets.
func lagOfReuse(dir string) error {
	return schedule(dir, workload{targets: *kept, protocol: "https", options: "insecure reuse", interval: 10})
}

// schedule runs CoreDNS with a workload, and prints three figures: the probes that arrived in a second, the processor time
// of each, and how late probes started (median and 99th percentile, and the share of those that were less than 32 and 64 ms
// late). If fewer probes arrive than targets divided by the interval, the server does not keep up.
func schedule(dir string, w workload) error {
	backend, err := startBackend(w.protocol)
	if err != nil {
		return err
	}
	defer backend.shutdown()
	s, err := w.coredns(dir, backend.ports[0])
	if err != nil {
		return err
	}
	defer s.stop()
	// Three intervals of 10 seconds: every target is past its first probes, which come in a burst, and the probes are spread
	// evenly over the interval.
	time.Sleep(30 * time.Second)
	length := 3 * *window // 12 seconds by default, so at least one interval: each target has its probe
	if strings.Contains(w.options, "reuse") {
		length = time.Duration(reused*w.interval) * time.Second
	}
	earlier, err := s.lags()
	if err != nil {
		return err
	}
	before, err := takeSamples([]*server{s}, backend)
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(length)
	after, err := takeSamples([]*server{s}, backend)
	if err != nil {
		return err
	}
	took := time.Since(began)
	lags, err := s.lags()
	if err != nil {
		return err
	}
	lags = lags.minus(earlier)
	used := after[0].since(before[0])
	fmt.Printf("%-6s %6d targets  every %2d s  %6.0f probes a second  %6.1f µs a probe  %4.1f probes a connection  lag: median below %s, p99 below %s, %.2f %% below 32 ms, %.2f %% below 64 ms\n",
		w.protocol, w.targets, w.interval, float64(used.probes)/took.Seconds(), used.us, float64(used.probes)/float64(max(1, used.connections)),
		lags.quantile(0.5), lags.quantile(0.99), 100*lags.share(0.032), 100*lags.share(0.064))
	return nil
}

// histogram is a histogram of Prometheus, whose buckets are cumulative.
type histogram struct {
	bounds []float64 // upper bounds in seconds, ascending; the last is infinite
	counts []float64 // how many samples are at most each bound
}

// minus returns the samples since an earlier state of the same histogram. This leaves out the start of the server, when
// all targets are due at once.
func (h histogram) minus(earlier histogram) histogram {
	d := histogram{h.bounds, make([]float64, len(h.counts))}
	for i := range h.counts {
		d.counts[i] = h.counts[i] - earlier.counts[i]
	}
	return d
}

// quantile returns the lowest bound that at least the share q of the samples does not exceed. The true quantile is between
// this bound and the one before it. The buckets double, so it may be half as much.
func (h histogram) quantile(q float64) string {
	for i, n := range h.counts {
		if n >= q*h.counts[len(h.counts)-1] {
			return time.Duration(h.bounds[i] * float64(time.Second)).String()
		}
	}
	return "?"
}

// share returns the share of the samples that are at most as large as the largest bound up to a number of seconds.
func (h histogram) share(seconds float64) float64 {
	var n float64
	for i, bound := range h.bounds {
		if bound <= seconds {
			n = h.counts[i]
		}
	}
	return n / h.counts[len(h.counts)-1]
}

// lags reads from the server's metrics how late its probes have started since it started.
func (s *server) lags() (h histogram, err error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.metrics))
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		rest, ok := strings.CutPrefix(in.Text(), `coredns_multivalue_probe_lag_seconds_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		b, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return h, err
		}
		n, err := strconv.ParseFloat(count, 64)
		if err != nil {
			return h, err
		}
		h.bounds, h.counts = append(h.bounds, b), append(h.counts, n)
	}
	if len(h.counts) == 0 || math.IsNaN(h.counts[0]) {
		return h, errors.New("no coredns_multivalue_probe_lag_seconds on the metrics page: is -coredns a CoreDNS with this version of multivalue?")
	}
	return h, nil
}

// latency prints how long answers take while CoreDNS probes many targets, 20 000 by default, and compares that with 8.
//
// The two servers have the same zone, and get the same queries for a name with 8 addresses, so they differ only in the
// targets in the pool. Both probe all the time, but they get queries in turn, in short bursts: if they got them at once,
// each would be slowed down by the other. The median and the 99th percentile are those of a burst, and what is printed
// are the medians over all bursts. So a burst that something else disturbed does not decide the result.
func latency(dir string) error {
	backend, err := startBackend("tcp", "tcp")
	if err != nil {
		return err
	}
	defer backend.shutdown()
	var servers []*server
	defer func() { stopAll(servers) }()
	for i, n := range []int{perName, *many} {
		// Both read the same zone file. Only max_targets, which is n, keeps the first one's pool small.
		s, err := workload{targets: n, hosts: *many, protocol: "tcp", interval: 10}.coredns(dir, backend.ports[i])
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	time.Sleep(25 * time.Second) // two intervals, and time to learn the targets
	var medians, slow [2][]float64
	for range 2 * *windowCount { // each is half a window for each server
		for i, s := range servers {
			took, err := s.burst(*rate, *window/2)
			if err != nil {
				return err
			}
			medians[i] = append(medians[i], measure.Median(took))
			slow[i] = append(slow[i], measure.Quantile(took, 0.99))
		}
	}
	for i, n := range []int{perName, *many} {
		fmt.Printf("latency %5d queries a second  %6d targets  median %4.0f µs  p99 %5.0f µs  %4.2f of the first\n", *rate, n,
			measure.Median(medians[i]), measure.Median(slow[i]), measure.Median(slow[i])/measure.Median(slow[0]))
	}
	return nil
}

// burst sends queries at a steady rate, whether answers keep up or not, and returns how long each answer took, in
// microseconds. If each query waited for the answer to the last one, a slow answer would hold back the queries that it
// delays, and the slowest answers would look rare. With less than half of the answers, the figures would describe an
// overloaded machine, so that is an error.
func (s *server) burst(rate int, d time.Duration) ([]float64, error) {
	const sockets = 4 // so that a single reader or writer does not limit the rate
	results := make(chan []float64, sockets)
	for range sockets {
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err != nil {
			return nil, err
		}
		go func() { results <- stream(conn, rate/sockets, d) }()
	}
	var all []float64
	for range sockets {
		all = append(all, <-results...)
	}
	if len(all) < rate*int(d/time.Second)/2 {
		return nil, fmt.Errorf("only %d answers at %d queries a second: the machine is too slow; use a lower -rate", len(all), rate)
	}
	return all, nil
}

// stream sends and receives one socket's share of a burst. It finds the time that a query was sent by the ID of the answer.
// An ID is used again after 65 536 queries, 26 seconds at the default rate, when no answer is still expected.
func stream(conn net.Conn, rate int, d time.Duration) []float64 {
	var mu sync.Mutex
	sent := make(map[uint16]time.Time)
	var took []float64
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer := make([]byte, 4096)
		for {
			n, err := conn.Read(answer)
			if err != nil {
				return
			}
			if n > 2 {
				id := uint16(answer[0])<<8 | uint16(answer[1])
				mu.Lock()
				if at, ok := sent[id]; ok {
					took = append(took, float64(time.Since(at).Nanoseconds())/1e3)
					delete(sent, id)
				}
				mu.Unlock()
			}
		}
	}()
	m := new(dns.Msg)
	m.SetQuestion("www0.example.org.", dns.TypeA)
	query, _ := m.Pack()
	began := time.Now()
	for i := 0; ; i++ {
		// Each query is due at a time counted from the start, so that a late one does not delay all that follow.
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if due.Sub(began) > d {
			break
		}
		time.Sleep(time.Until(due))
		query[0], query[1] = byte(i>>8), byte(i)
		// The time when it is really sent, and not when it was due: a client that wakes up late is not the server's fault.
		mu.Lock()
		sent[uint16(i)] = time.Now()
		mu.Unlock()
		_, _ = conn.Write(query)
	}
	time.Sleep(50 * time.Millisecond) // for the last answers; a later one is not counted
	conn.Close()
	<-done
	return took
}
