//go:build linux

package kube

import (
	"testing"

	"github.com/miekg/dns"
)

// If one family of a Service is dead, all its addresses are served with all_down serve, and none with nodata. The
// other family stays unchanged.
func TestFamilies(t *testing.T) {
	s := newScene(t)
	s.serve(cartHosts...)
	s.apply(cart()...)
	s.apply(headless("till"), slice("till", "till-4", "192.0.2.11", "192.0.2.12"),
		slice("till", "till-6", "2001:db8::11", "2001:db8::12"))
	s.start("}\n    multivalue till.NS.svc.cluster.local {\n check http://:8080/healthz\n PACE\n" +
		" within 192.0.2.0/24 2001:db8::/64\n all_down nodata")
	both := func(name string, four, six []string) {
		t.Helper()
		s.leavesTo(name, "A", four...)
		s.leavesTo(name, "AAAA", six...)
	}
	four, six := []string{"192.0.2.11", "192.0.2.12"}, []string{"2001:db8::11", "2001:db8::12"}
	both("cart", four, six)
	both("till", four, six)
	s.settled("cart", 4, 0)

	s.stop(six...)
	both("till", four, nil)
	both("cart", four, six)
	s.settled("cart", 2, 2)
	if reply := s.ask("till", "AAAA"); len(reply.Ns) != 1 || reply.Ns[0].Header().Rrtype != dns.TypeSOA {
		t.Errorf("the authority section has %v, want an SOA", reply.Ns)
	}
	if s.explains("cart", "A") || !s.explains("cart", "AAAA") || !s.explains("till", "AAAA") {
		t.Error("the extended errors are not those of a family that is down")
	}

	s.stop("192.0.2.12")
	both("till", four[:1], nil)
	both("cart", four[:1], six)
	s.serve(six[0], four[1])
	both("till", four, six[:1])
	both("cart", four, six[:1])
}

// explains reports whether an answer has an extended error.
func (s *scene) explains(name, kind string) bool {
	s.Helper()
	if edns := s.ask(name, kind).IsEdns0(); edns != nil {
		for _, option := range edns.Option {
			if option.Option() == dns.EDNS0EDE {
				return true
			}
		}
	}
	return false
}
