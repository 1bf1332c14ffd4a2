//go:build linux

package kube

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Eight of a thousand endpoints fit into any answer over UDP. Without the plugin, answers are truncated, and every
// client must ask again over TCP. Dead endpoints are in no answer.
func TestThousandEndpoints(t *testing.T) {
	s := newScene(t)
	s.apply(headless("crowd"))
	for part := range 10 {
		var some []string
		for i := range 100 {
			some = append(some, fmt.Sprintf("198.18.%d.%d", part, i+1))
		}
		s.serve(some[2:]...)
		s.apply(slice("crowd", fmt.Sprintf("crowd-%d", part), some...))
	}
	s.start("", strings.NewReplacer("cluster.local {", "cluster.local:54 {", "multivalue {", "multivalue nobody.cluster.local {",
		"    prometheus 127.0.0.1:9153\n", "").Replace(corefile))
	s.settled("crowd", 980, 20)
	for _, q := range []question{{plain: true}, {size: 512}, {size: 1232}, {size: 4096}, {tcp: true}} {
		with := s.askBy(q, "crowd", "A")
		with.Compress = true
		q.server = "127.0.0.1:54"
		without := s.askBy(q, "crowd", "A")
		t.Logf("EDNS %t with %d, TCP %t: %d bytes of 8 addresses; without the plugin %d addresses, truncated %t",
			!q.plain, q.size, q.tcp, with.Len(), len(without.Answer), without.Truncated)
		if with.Truncated || len(with.Answer) != 8 || with.Len() > dns.MinMsgSize {
			t.Errorf("%d addresses in %d bytes, truncated %t", len(with.Answer), with.Len(), with.Truncated)
		}
		if without.Truncated == q.tcp || q.tcp && len(without.Answer) != 1000 {
			t.Errorf("without the plugin %d addresses, truncated %t", len(without.Answer), without.Truncated)
		}
	}
	drawn := s.drawn("crowd", 500)
	if len(drawn) < 900 {
		t.Errorf("%d different addresses in 500 answers", len(drawn))
	}
	for address := range drawn {
		if strings.HasSuffix(address, ".1") || strings.HasSuffix(address, ".2") {
			t.Errorf("%s, which is dead, is in an answer", address)
		}
	}
}

// Clients choose from SRV records themselves, so only dead ones are left out. Over UDP an answer is truncated for a
// client of any size, with and without the plugin, and a client that asks again over TCP gets the healthy ones.
func TestThousandServices(t *testing.T) {
	s := newScene(t)
	s.apply(headless("crowd"))
	for part := range 10 {
		var some []string
		for i := range 100 {
			some = append(some, fmt.Sprintf("198.18.%d.%d", part, i+1))
		}
		s.serve(some[1:]...)
		s.apply(slice("crowd", fmt.Sprintf("crowd-%d", part), some...))
	}
	s.start("")
	s.settled("crowd", 990, 10)
	for _, q := range []question{{plain: true}, {size: 512}, {size: 1232}, {size: 4096}} {
		answer := s.askBy(q, "_http._tcp.crowd", "SRV")
		answer.Compress = true
		if limit := max(int(q.size), dns.MinMsgSize); !answer.Truncated || answer.Len() > limit {
			t.Errorf("%d bytes, truncated %t, for a client that takes %d", answer.Len(), answer.Truncated, limit)
		}
	}
	s.eventually(patience, func() bool { // until all hosts of the records are known
		answer := s.askBy(question{tcp: true}, "_http._tcp.crowd", "SRV")
		for _, host := range data(answer.Answer) {
			if strings.HasSuffix(host, "-1:8080") {
				return false
			}
		}
		t.Logf("%d records over TCP, truncated %t", len(answer.Answer), answer.Truncated)
		return len(answer.Answer) > 500
	}, func() string { return "dead hosts are in the answer" })
}

// drawn returns the addresses in that many answers.
func (s *scene) drawn(name string, answers int) map[string]bool {
	s.Helper()
	all := make(map[string]bool)
	for range answers {
		for _, address := range s.data(name, "A") {
			all[address] = true
		}
	}
	return all
}
