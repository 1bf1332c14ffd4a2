package multivalue

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// answering answers every question with these records, whatever their names are.
func answering(text ...string) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.Answer = records(text...)
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

// What is served unchecked is counted once an answer and reason. What the operator can mend is said once a stanza and reason,
// with the address and what to write (B94).
func TestUncheckedIsSaid(t *testing.T) {
	const www = "www.example.org. 30 IN "
	for _, tc := range []struct {
		name, question string
		within         string
		records        []string
		max            int
		reasons        string // that are counted
		said           string // in one line; empty if nothing is said
	}{
		{"checked", "www A", "", []string{www + "A 10.0.0.1", www + "A 10.0.0.2"}, 0, "", ""},
		{"loopback without within", "www A", "", []string{www + "A 127.0.0.1", www + "A 127.0.0.2"}, 0, "special",
			"www.example.org.: 127.0.0.1 is served unchecked, because special addresses such as loopback are probed only where within names them. If it is a server of yours, write within with it and all other networks of your servers (stanza at Corefile:1)"},
		{"one that is not special beside it", "www A", "", []string{www + "A 10.0.0.1", www + "A 169.254.169.254"}, 0, "special", "169.254.169.254 is served unchecked"},
		{"link-local", "www AAAA", "", []string{www + "AAAA 2001:db8::1", www + "AAAA fe80::1"}, 0, "special", "fe80::1 is served unchecked"},
		{"a network that was not meant for it", "www A", "0.0.0.0/0", []string{www + "A 10.0.0.1", www + "A 127.0.0.1"}, 0, "special",
			"127.0.0.1 is served unchecked, because special addresses such as loopback are probed only if within has a network inside their range. If it is a server of yours, add it to within"},
		{"outside", "www A", "10.0.0.0/8", []string{www + "A 10.0.0.1", www + "A 192.0.2.1", www + "A 127.0.0.1"}, 0, "within", ""},
		{"one address", "www A", "", []string{www + "A 127.0.0.1"}, 0, "single", ""},
		{"the target of an alias", "www A", "", []string{www + "CNAME lb.example.com.", "lb.example.com. 30 IN A 192.0.2.1", "lb.example.com. 30 IN A 192.0.2.2"}, 0, "alias",
			"www.example.org.: the addresses of lb.example.com. are served unchecked, because it is outside the zones of the stanza, and within does not say where such names may be probed: write within with"},
		{"and where within says so", "www A", "192.0.2.0/24", []string{www + "CNAME lb.example.com.", "lb.example.com. 30 IN A 192.0.2.1", "lb.example.com. 30 IN A 192.0.2.2"}, 0, "", ""},
		{"a host", "www MX", "", []string{www + "MX 1 a.example.com.", www + "MX 2 b.example.com."}, 0, "host", "www.example.org.: the host b.example.com. is served unchecked, because it is outside"},
		{"no host", "www MX", "", []string{www + "MX 0 ."}, 0, "", ""},
		{"a signed target of an alias", "www A", "", []string{www + "CNAME lb.example.com.", "lb.example.com. 30 IN A 192.0.2.1", "lb.example.com. 30 IN A 192.0.2.2",
			"lb.example.com. 30 IN RRSIG A 13 3 30 20300101000000 20200101000000 1 example.com. AAAA"}, 0, "", ""},
		{"an alias, and a type that is not judged", "www TXT", "", []string{www + "CNAME lb.example.com.", "lb.example.com. 30 IN A 192.0.2.1"}, 0, "", ""},
		{"one hint", "www HTTPS", "", []string{www + "HTTPS 1 . ipv4hint=127.0.0.1"}, 0, "single", ""},
		{"hints", "www HTTPS", "", []string{www + "HTTPS 1 . ipv4hint=127.0.0.1,127.0.0.2"}, 0, "special", "127.0.0.1 is served unchecked"},
		{"forced down", "www A", "", []string{www + "A 127.0.0.9", www + "A 10.0.0.2"}, 0, "", ""},
		{"a backup that is not needed", "www A", "", []string{www + "A 127.0.1.1", www + "A 10.0.0.2"}, 0, "", ""},
		{"port 0", "www SRV", "", []string{www + "SRV 1 1 0 a.example.org.", www + "SRV 1 1 0 b.example.org.", "a.example.org. 30 IN A 10.0.0.1", "b.example.org. 30 IN A 10.0.0.2"}, 0, "port", "the check names none: write a port into the URL of the check"},
		{"a limit of targets", "www A", "", []string{www + "A 10.0.0.1", www + "A 10.0.0.2", www + "A 10.0.0.3"}, 1, "max_targets", "max_targets 1 is reached"},
		{"another type", "www TXT", "", []string{www + "TXT 127.0.0.1"}, 0, "", ""},
	} {
		text := pooltest.Logged(t)
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			url, next := "tcp://:80", answering(tc.records...)
			if tc.reasons == "port" {
				url, next = "tcp://", zoneOf(records(tc.records...)...)
			}
			s := forZone(testStanza(url, n, pooltest.Pace), "example.org.")
			s.Rule.Types = answer.TypesOf(dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeMX, dns.TypeHTTPS)
			if err := s.Rule.Policy.AddBackup(netip.MustParsePrefix("127.0.1.0/24"), 1); err != nil {
				t.Fatal(err)
			}
			forced, err := force.Parse([]byte("down 127.0.0.9"))
			if err != nil {
				t.Fatal(err)
			}
			s.Force(force.Static(forced))
			if tc.within != "" {
				s.Within = network.List{network.New(netip.MustParsePrefix(tc.within))}
			}
			if tc.max > 0 {
				s.Group.Max = tc.max
			}
			h := serving(p, next, s)
			name, qtype, _ := strings.Cut(tc.question, " ")
			ask := func() {
				serve(t, h, query(name+".example.org.", dns.StringToType[qtype]))
				pooltest.Elapse(2 * time.Second)
			}
			for range 10 { // until all is learned
				ask()
			}
			before := counted()
			for range 5 {
				ask()
			}
			synctest.Wait()
			after, got := counted(), ""
			for g := range verdict.Gaps {
				if more := after[g] - before[g]; more == 5 {
					got += " " + g.String()
				} else if more != 0 {
					t.Errorf("%s: %s was counted %v times in 5 answers", tc.name, g, more)
				}
			}
			if strings.TrimSpace(got) != tc.reasons {
				t.Errorf("%s: counted %q, want %q", tc.name, got, tc.reasons)
			}
			if lines := pooltest.CountLines(text, "unchecked"); tc.said == "" && lines != 0 || tc.said != "" && (lines != 1 || !strings.Contains(text.String(), tc.said)) {
				t.Errorf("%s: want once %q, got\n%s", tc.name, tc.said, text)
			}
		})
	}
}

// counted is how many answers are counted by reason.
func counted() (n [verdict.Gaps]float64) {
	for g := range verdict.Gaps {
		n[g] = testutil.ToFloat64(metrics.Unchecked.WithLabelValues(g.String()))
	}
	return n
}
