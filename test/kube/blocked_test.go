//go:build linux

package kube

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// If the network alone blocks all probes, nothing is taken down in a large pool, because no target answers. In a
// small pool all targets go down, and all are served. Names keep resolving, and when probes get through again the
// state is as before (B56, B8).
func TestBlocked(t *testing.T) {
	for name, count := range map[string]int{"few": 4, "many": 20} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			var all []string
			for i := range count {
				all = append(all, fmt.Sprintf("192.0.2.%d", 20+i))
			}
			s.serve(all...)
			s.apply(headless("cart"), slice("cart", "cart-4", all...))
			s.start("limit off")
			s.settled("cart", count, 0)
			s.bears("cart", all, count > 16)
		})
	}
}

// bears blocks the probes of all addresses until the pool has reached a verdict, and then lets them through again.
func (s *scene) bears(name string, all []string, many bool) {
	s.Helper()
	l := s.load(2, name, func(_ time.Time, data []string) error {
		if many && len(data) < len(all) {
			return fmt.Errorf("%d addresses, want all", len(data))
		}
		return nil // a few targets are taken down one by one
	})
	s.nft("table inet kube {\n chain input {\n type filter hook input priority 0;\n tcp dport 8080 drop\n }\n}")
	if many {
		s.stays(name, "A", func() bool {
			return s.metric("coredns_multivalue_isolated", "") == 1 &&
				s.metric("coredns_multivalue_skipped_total", `reason="isolated"`) >= float64(len(all))
		}, all...)
		s.settled(name, len(all), 0)
	} else {
		s.settled(name, 0, len(all))
	}
	before := l.answered.Load()
	s.stays(name, "A", func() bool { return l.answered.Load() > before+200 }, all...)
	s.comesTo("kubernetes.default", "A", "198.51.100.1")
	s.nft("delete table inet kube")
	s.settled(name, len(all), 0)
	if down := s.metric("coredns_multivalue_transitions_total", `to="down"`); many && down > 0 {
		s.Errorf("%v targets went down", down)
	}
	l.ends()
}

// nft runs commands of the packet filter.
func (s *scene) nft(text string) {
	s.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
}
