//go:build linux && scale

package kube

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// These are the numbers of headless Services and of endpoints of each, for a large cluster.
const services, endpoints = 5000, 10

// Two CoreDNS that differ only in the stanza see the same cluster and get the same queries. The test reads their
// costs from the kernel's accounting. It takes minutes:
//
//	test/kube/run -tags scale -run TestScale -v
func TestScale(t *testing.T) {
	s := newScene(t)
	s.listens()
	began := time.Now()
	s.each(services, func(n int) { s.creates(n) })
	t.Logf("%d Services with %d endpoints are written after %s", services, services*endpoints, time.Since(began).Round(time.Second))

	above, stanza, _ := strings.Cut(large, "    multivalue {")
	_, below, _ := strings.Cut(stanza, "    }\n")
	both := []*instance{
		s.instance("without", above+below, "54", "9154"),
		s.instance("with", large, "53", "9153"),
	}
	window := func(what string, during func()) {
		before, began := []sample{both[0].sample(), both[1].sample()}, time.Now()
		during()
		s.compare(fmt.Sprintf("%s: %s", what, time.Since(began).Round(100*time.Millisecond)), both, before)
	}
	idle := func() { time.Sleep(30 * time.Second) } // the length of a measurement
	window("nobody asks", idle)
	window("each name asked once", func() { s.asksAll(both) })
	s.eventually(5*time.Minute, func() bool {
		s.asksAll(both)
		return s.metric("coredns_multivalue_targets", `state="up"`) == services*endpoints
	}, func() string { return "not all targets are up: " + s.page("127.0.0.1:9153/metrics") })
	late := s.lags()
	window("probing, nobody asks", idle)
	s.tellLags(late, s.lags())
	window("500 slices changed", func() { s.churns(both) })
	if down := s.metric("coredns_multivalue_transitions_total", `to="down"`); down > 0 {
		t.Errorf("%v targets were taken down", down)
	}
}

// bounds are some of the buckets of the histogram of how late probes started, in seconds.
var bounds = []string{"0.002", "0.016", "0.128", "+Inf"}

// lags counts the probes that started no later than each of the bounds.
func (s *scene) lags() (counts []float64) {
	for _, b := range bounds {
		counts = append(counts, s.metric("coredns_multivalue_probe_lag_seconds_bucket", `le="`+b+`"`))
	}
	return counts
}

func (s *scene) tellLags(before, after []float64) {
	all := after[len(bounds)-1] - before[len(bounds)-1]
	for i, b := range bounds {
		s.Logf("%.2f %% of %.0f probes started no later than %s s", 100*(after[i]-before[i])/all, all, b)
	}
}

const large = `
cluster.local:PORT {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:METRICS
    multivalue {
        check http://:8080/healthz
        limit off
        within 198.18.0.0/16
    }
    kubernetes cluster.local {
        kubeconfig CONFIG
    }
    cache 30
}
`

// listens answers for all endpoints at once: every address of the range leads to this machine.
func (s *scene) listens() {
	l, err := net.Listen("tcp", "0.0.0.0:8080")
	if err != nil {
		s.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = server.Serve(l) }()
	s.Cleanup(func() { _ = server.Close() })
}

// each calls a function for the numbers below n, a few at a time.
func (s *scene) each(n int, do func(int)) {
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < n; i += 8 {
				do(i)
			}
		})
	}
	all.Wait()
}

// creates makes a Service with its endpoints.
func (s *scene) creates(n int) {
	name := fmt.Sprintf("s%d", n)
	s.apply(strings.Replace(headless(name), "RequireDualStack", "SingleStack", 1), s.sliceOf(n, 0))
}

// sliceOf returns the endpoints of a Service. Some of them differ from those of the previous version.
func (s *scene) sliceOf(n, others int) string {
	name := fmt.Sprintf("s%d", n)
	var some []string
	for i := range endpoints {
		number := n*endpoints + i
		if i < others {
			number = services*endpoints + n/10
		}
		some = append(some, fmt.Sprintf("198.18.%d.%d", number/250, number%250+1))
	}
	return slice(name, name, some...)
}

// instance is one of the two CoreDNS.
type instance struct {
	*process
	server string
}

// instance starts a CoreDNS, and logs how long it took to learn the cluster.
func (s *scene) instance(what, text, port, metrics string) *instance {
	text = strings.NewReplacer("PORT", port, "METRICS", metrics, "CONFIG", cluster.file("coredns")).Replace(text)
	began := time.Now()
	i := &instance{s.program(s.file(what, text)), "127.0.0.1:" + port}
	last := fmt.Sprintf("s%d", services-1)
	s.eventually(2*time.Minute, func() bool {
		reply, err := question{server: i.server}.ask(s.full(last), "A")
		return err == nil && len(reply.Answer) == endpoints
	}, func() string { return "the program does not learn the cluster" })
	s.Logf("%s the stanza: the first right answer after %s, %d MiB", what, time.Since(began).Round(10*time.Millisecond), i.sample().memory>>10)
	return i
}

// asksAll asks both instances for each name once.
func (s *scene) asksAll(both []*instance) {
	s.each(services, func(n int) {
		for _, i := range both {
			reply, err := question{server: i.server}.ask(s.full(fmt.Sprintf("s%d", n)), "A")
			if err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != endpoints {
				s.Errorf("%v, %v", reply, err)
			}
		}
	})
}

// churns changes an endpoint of every tenth Service, and waits until both instances answer with the last change.
func (s *scene) churns(both []*instance) {
	s.each(services/10, func(n int) { s.apply(s.sliceOf(n*10, 1)) })
	began := time.Now()
	for _, i := range both {
		s.eventually(2*time.Minute, func() bool {
			reply, err := question{server: i.server}.ask(s.full(fmt.Sprintf("s%d", services-10)), "A")
			return err == nil && strings.Contains(fmt.Sprint(data(reply.Answer)), "198.18.20")
		}, func() string { return "the last change is not in the answers" })
	}
	s.Logf("the last change is in both answers after %s; the cache holds what it had for 5 s", time.Since(began).Round(10*time.Millisecond))
}

// sample is the use of a process: processor time in ms, and memory in KiB.
type sample struct{ time, memory int }

func (i *instance) sample() (now sample) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", i.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.Process.Pid))
	_, rest, _ = strings.Cut(string(status), "VmRSS:")
	_, _ = fmt.Sscan(rest, &now.memory)
	now.time = 10 * (user + system) // the kernel counts hundredths of a second
	return now
}

// compare logs what both instances have used since.
func (s *scene) compare(what string, both []*instance, before []sample) {
	without, with := both[0].sample(), both[1].sample()
	s.Logf("%-32s without: %6d ms, %4d MiB   with: %6d ms, %4d MiB   memory %.2f", what,
		without.time-before[0].time, without.memory>>10, with.time-before[1].time, with.memory>>10,
		float64(with.memory)/float64(without.memory))
}
