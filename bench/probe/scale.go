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

// scale prints how well a server keeps the schedule of a hundred thousand targets at ten seconds.
func scale(dir string) error { return kept(dir, fleet{targets: *crowd, protocol: "tcp", interval: 10}) }

// handshakes prints the same of probes that shake hands in TLS, which cost the most. The backend is on the same machine, and
// has its half of the work.
func handshakes(dir string) error {
	for _, interval := range []int{2, 4} {
		if err := kept(dir, fleet{targets: *targets, protocol: "https", options: "insecure", interval: interval}); err != nil {
			return err
		}
	}
	return nil
}

// kept prints how well a server keeps a schedule.
func kept(dir string, f fleet) error {
	peers, err := startPeers(f.protocol, 1)
	if err != nil {
		return err
	}
	defer peers.stop()
	s, err := f.coredns(dir, peers.ports[0])
	if err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(30 * time.Second) // all are known, and spread over their interval
	lag, err := s.lags()
	if err != nil {
		return err
	}
	before, err := snapshot([]*server{s}, peers)
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(3 * *window)
	after, err := snapshot([]*server{s}, peers)
	if err != nil {
		return err
	}
	took := time.Since(began)
	later, err := s.lags()
	if err != nil {
		return err
	}
	probes := after[0].probes - before[0].probes
	fmt.Printf("%-6s %6d targets  every %2d s  %6.0f probes a second  %6.1f µs a probe  lag: median below %s, p99 below %s\n", f.protocol, f.targets, f.interval,
		float64(probes)/took.Seconds(), float64(after[0].cpu-before[0].cpu)/1e3/float64(probes), later.minus(lag).below(0.5), later.minus(lag).below(0.99))
	return nil
}

// histogram is one of Prometheus's: how many fell below each bound, in seconds.
type histogram struct {
	bounds []float64
	counts []float64
}

func (h histogram) minus(earlier histogram) histogram {
	d := histogram{h.bounds, make([]float64, len(h.counts))}
	for i := range h.counts {
		d.counts[i] = h.counts[i] - earlier.counts[i]
	}
	return d
}

// below is the least bound that the share q is below.
func (h histogram) below(q float64) string {
	for i, n := range h.counts {
		if n >= q*h.counts[len(h.counts)-1] {
			return time.Duration(h.bounds[i] * float64(time.Second)).String()
		}
	}
	return "?"
}

// lags reads how late probes started from the server's metrics page.
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
		return h, errors.New("the metrics page does not tell the lag of probes")
	}
	return h, nil
}

// latency prints what 20 000 targets do to the slowest of the answers.
func latency(dir string) error {
	peers, err := startPeers("tcp", 2)
	if err != nil {
		return err
	}
	defer peers.stop()
	var servers []*server
	defer func() { stopAll(servers) }()
	for i, n := range []int{perName, *many} {
		s, err := fleet{targets: n, hosts: *many, protocol: "tcp", interval: 10}.coredns(dir, peers.ports[i])
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	time.Sleep(25 * time.Second)
	var medians, slow [2][]float64
	for range 2 * *windows {
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

// burst asks at a steady rate, whether the answers keep up or not, and returns what each took in microseconds.
func (s *server) burst(rate int, d time.Duration) ([]float64, error) {
	const sockets = 4
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
		return nil, fmt.Errorf("only %d answers: the machine is too slow for %d queries a second", len(all), rate)
	}
	return all, nil
}

// stream is one socket's share of a burst. The ID of a query tells when it was sent.
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
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if due.Sub(began) > d {
			break
		}
		time.Sleep(time.Until(due))
		query[0], query[1] = byte(i>>8), byte(i)
		mu.Lock()
		sent[uint16(i)] = time.Now()
		mu.Unlock()
		_, _ = conn.Write(query)
	}
	time.Sleep(50 * time.Millisecond)
	conn.Close()
	<-done
	return took
}
