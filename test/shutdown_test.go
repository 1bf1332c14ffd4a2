package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// hourly waits up to an hour for an answer, so a probe of a backend that never answers ends only if it is cancelled.
// Its records come from template, because the file plugin must not be shut down twice.
const hourly = `
example.org:0 {
    bind 127.0.0.1
    template IN A {
        answer "{{ .Name }} 60 IN A 127.0.0.11"
        answer "{{ .Name }} 60 IN A 127.0.0.12"
        answer "{{ .Name }} 60 IN A 127.0.0.13"
    }
    multivalue {
        check http://:PORT/
        interval 1h 100ms
        timeout 1h
        within 127.0.0.0/8
        all_down nodata
    }
}`

// hung starts a server whose backends accept and never answer, and waits until it probes all of them.
func hung(t *testing.T) *server {
	t.Helper()
	s := newScene(t)
	for n, host := range map[int]string{11: "127.0.0.11", 12: "127.0.0.12", 13: "127.0.0.13"} {
		s.backends[n] = s.listen(host, hang)
	}
	v := s.serve(hourly)
	v.ask("www.example.org A")
	s.visited(1)
	return v
}

// visited waits until each backend has that many open connections.
func (s *scene) visited(want int) {
	s.Helper()
	for n, b := range s.backends {
		s.eventually(func() bool { return b.visitors() == want },
			func() string {
				return fmt.Sprintf("backend %d has %d open connections, want %d", n, b.visitors(), want)
			})
	}
}

// A stop cancels the probes under way; it does not wait for a reply or for its own time limit. A second stop is
// harmless (B71).
func TestStopCutsHangingProbes(t *testing.T) {
	v := hung(t)
	mark := logs.Mark()
	v.stop()
	v.visited(0)
	v.stop()
	if text := logs.Since(mark); strings.Contains(text, "under way") {
		t.Errorf("the stop gave up waiting for its probes: %s", text)
	}
}

// A reload neither waits for hanging probes nor cancels the probes of a check that stays.
func TestReloadLeavesHangingProbesAlone(t *testing.T) {
	v := hung(t)
	for range 3 {
		v.mustReload(hourly)
	}
	v.visited(1)
	for n, b := range v.backends {
		if got := b.accepted.Load(); got != 1 {
			t.Errorf("backend %d was probed %d times, want once", n, got)
		}
	}
}

// A stop during a query for an SOA record, which the upstream never answers, ends as well (B71).
func TestStopWhileADenialIsPrepared(t *testing.T) {
	s := newScene(t, 11)
	asked := make(chan struct{}, 100)
	upstream := s.upstream(func(w dns.ResponseWriter, r *dns.Msg) {
		if r.Question[0].Qtype == dns.TypeSOA {
			asked <- struct{}{}
			return
		}
		m := new(dns.Msg).SetReply(r)
		for _, n := range []string{"11", "12"} {
			rr, _ := dns.NewRR(r.Question[0].Name + " 300 IN A 127.0.0." + n)
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	v := s.serve(".:0 {\n bind 127.0.0.1\n forward . " + upstream + " {\n prefer_udp\n }\n multivalue {\n CALM\n all_down nodata\n }\n}")
	v.ask("www.example.org A")
	<-asked
	v.stop()
}
