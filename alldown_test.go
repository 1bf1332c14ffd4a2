package multivalue

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// replaced returns a stanza for a zone, with a name that takes over.
func replaced(n *pooltest.FakeNetwork, zone, another string) *stanza {
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), zone)
	s.Rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, AllDown: answer.Named, Another: another}
	return s
}

// twoSites are the records of a name with one address, as of a failover record, and those of another one.
var twoSites = records("www.example.org. 300 IN A 10.0.0.1", "other.example.org. 60 IN A 10.0.0.7", "other.example.org. 60 IN A 10.0.0.8")

// The one address of a name is probed, and when it is down the healthy ones of the other name take over at once: their health is
// known, because they are probed from the start. When it is up again it is served again (B102).
func TestAnotherNameTakesOver(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		h := serving(p, zoneOf(twoSites...), replaced(n, "www.example.org.", "other.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org."))
		n.Kill(pooltest.Addr(8))
		if m := keepAsking(t, h, 20*time.Second, "www.example.org.", dns.TypeA); addressesOf(m) != "10.0.0.1" || n.Asked(pooltest.Addr(7)) == 0 || n.Asked(pooltest.Addr(8)) == 0 {
			t.Fatalf("while it is up: %s; the others had %d and %d probes", addressesOf(m), n.Asked(pooltest.Addr(7)), n.Asked(pooltest.Addr(8)))
		}
		n.Kill(pooltest.Addr(1))
		pooltest.Elapse(pooltest.Pace.Bound())
		m, _ := serve(t, h, query("www.example.org.", dns.TypeA))
		if addressesOf(m) != "10.0.0.7" || m.Answer[0].Header().Name != "www.example.org." || m.Answer[0].Header().Ttl > 60 {
			t.Errorf("when it is down:\n%s", m)
		}
		n.Revive(pooltest.Addr(1))
		if m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA); addressesOf(m) != "10.0.0.1" {
			t.Errorf("when it is up again: %s", addressesOf(m))
		}
	})
}

// The other name is looked up again as its TTL runs out, and when it is gone, or all of it is down, the set is served as it is.
// The log says so once a minute. A reload keeps what is known (B69, B102).
func TestAnotherNameIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		stanzas := func() []*stanza {
			return []*stanza{replaced(n, "www.example.org.", "other.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org.")}
		}
		z := changingZone(twoSites...)
		var fails atomic.Bool // look-ups of the other name
		next := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			if fails.Load() && r.Question[0].Name == "other.example.org." {
				return dns.RcodeServerFailure, nil
			}
			return z.ServeDNS(ctx, w, r)
		})
		h := serving(p, next, stanzas()...)
		n.Kill(pooltest.Addr(1))
		got := func(want, when string) {
			t.Helper()
			if m := keepAsking(t, h, 70*time.Second, "www.example.org.", dns.TypeA); addressesOf(m) != want {
				t.Errorf("%s: %s, want %s", when, addressesOf(m), want)
			}
		}
		got("10.0.0.7 10.0.0.8", "at first")
		z.set(twoSites[:2]...)
		got("10.0.0.7", "after an address has left")
		fails.Store(true)
		got("10.0.0.7", "while the look-up fails")
		fails.Store(false)
		text := pooltest.Logged(t)
		n.Kill(pooltest.Addr(7))
		got("10.0.0.1", "when both are down")
		z.set(twoSites[0])
		got("10.0.0.1", "when the other name is gone")
		got("10.0.0.1", "a minute later")
		for _, why := range []string{"has no healthy address either", "has no address"} {
			if !strings.Contains(text.String(), "www.example.org.: none of its addresses is healthy, and other.example.org., which should take over, "+why+": its own are served") {
				t.Errorf("%q is not in the log:\n%s", why, text)
			}
		}
		z.set(twoSites...)
		n.Revive(pooltest.Addr(7))
		got("10.0.0.7 10.0.0.8", "when it is back")
		got("10.0.0.7 10.0.0.8", "a minute later")
		if pooltest.CountLines(text, "1 of 1 addresses are down, serving those of other.example.org. (all_down") == 0 {
			t.Errorf("that another name took over is not in the log:\n%s", text)
		}
		g, b := blockOf(p, next, stanzas()...)
		if err := p.join(g); err != nil {
			t.Fatal(err)
		}
		p.confirm(g)
		if m, _ := serve(t, Multivalue{Next: next, block: b, process: p}, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.7 10.0.0.8" {
			t.Errorf("at once after a reload: %s", addressesOf(m))
		}
	})
}

// Which stanza judges the other name: the one that holds its addresses' owner name, and for one that no stanza holds the stanza
// that names it, if that has within. An exempt one, and one without within, is served unchecked (B60, B102).
func TestAnotherNameIsJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		another string
		within  bool
		except  bool
		judged  bool
	}{
		"of another stanza":             {another: "other.example.org.", judged: true},
		"an alias into another stanza":  {another: "alias.example.org.", judged: true},
		"exempt":                        {another: "other.example.org.", except: true, within: true},
		"outside, with within":          {another: "out.example.net.", within: true, judged: true},
		"outside, without":              {another: "out.example.net."},
		"an alias outside":              {another: "leaves.other.example.org."},
		"an alias outside, with within": {another: "leaves.www.example.org.", within: true, judged: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				first, second := replaced(n, "www.example.org.", tc.another), forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org.")
				if tc.within {
					first.Within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
				}
				if tc.except {
					first.config.Zones, first.config.Except = []string{"example.org."}, []string{"other.example.org."}
					second = forZone(second, "unused.example.org.")
				}
				h := serving(p, aliasZone{}, first, second)
				n.Kill(pooltest.Addr(1), pooltest.Addr(8))
				m := keepAsking(t, h, time.Minute, "www.example.org.", dns.TypeA)
				want := "10.0.0.7 10.0.0.8"
				if tc.judged {
					want = "10.0.0.7"
				}
				if probed := n.Asked(pooltest.Addr(7)) > 0; addressesOf(m) != want || probed != tc.judged {
					t.Errorf("%s, want %s; probed: %t", addressesOf(m), want, probed)
				}
			})
		})
	}
}

// A look-up of the other name looks at its set, so that queries need not: a name that no client asks for stays known for days, and
// nothing else is watched because of it (B84, B102).
func TestAnotherNameStaysKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		second := forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org.")
		h := serving(p, zoneOf(twoSites...), replaced(n, "www.example.org.", "other.example.org."), second)
		for range 3 * 24 {
			serve(t, h, query("www.example.org.", dns.TypeA))
			pooltest.Elapse(time.Hour)
		}
		if got := stateOf(second, pooltest.Addr(7)); got != verdict.Up || targetsIn(p) != 3 {
			t.Errorf("after three days it is %s, among %d targets", got, targetsIn(p))
		}
	})
}

// A query in a family that the other name does not have gets NODATA, with an SOA that was learned ahead; select client by the
// stanza of the other name is in the scope of the answer (B6, B31, B102).
func TestAnotherNameOfOneFamily(t *testing.T) {
	log := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		second := forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org.")
		second.Rule.Policy.Client = true
		both := append(records("www.example.org. 300 IN AAAA 2001:db8::1"), twoSites...)
		h := serving(p, zoneOf(both...), replaced(n, "www.example.org.", "other.example.org."), second)
		keepAsking(t, h, 5*time.Second, "www.example.org.", dns.TypeAAAA)
		n.Kill(pooltest.Addr(1), netip.MustParseAddr("2001:db8::1"))
		pooltest.Elapse(pooltest.Pace.Bound())
		if m, _ := serve(t, h, query("www.example.org.", dns.TypeAAAA)); len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
			t.Errorf("AAAA:\n%s", m)
		}
		pooltest.Elapse(time.Second) // the pool writes the log
		if got := log.String(); !strings.Contains(got, "1 of 1 addresses are down, serving none, because other.example.org. has addresses of the other family only") {
			t.Errorf("the log has %s", got)
		}
		all, err := p.source.Explain(t.Context(), status.Question{Name: "www.example.org.", Type: "AAAA"})
		if err != nil || len(all) != 1 || len(all[0].Sets) != 1 || all[0].Sets[0].Fallback != "" {
			t.Errorf("explained as %+v, %v", all, err)
		}
		keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		q := query("www.example.org.", dns.TypeA)
		q.SetEdns0(4096, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: []byte{192, 0, 2, 1}}}
		m, _ := serve(t, h, q)
		if !strings.Contains(m.IsEdns0().String(), "192.0.2.1/32/24") || !strings.Contains(m.IsEdns0().String(), textClosed) {
			t.Errorf("the client decided, and the answer has\n%s", m.IsEdns0())
		}
	})
}

// Forced states count for both names: one that is forced down gives way, and one that is drained still takes over (B55, B102).
func TestAnotherNameIsForced(t *testing.T) {
	for lines, want := range map[string]string{
		"":                                       "10.0.0.1",
		"down 10.0.0.1/32":                       "10.0.0.7 10.0.0.8",
		"down 10.0.0.1/32\ndown 10.0.0.7/32":     "10.0.0.8",
		"down 10.0.0.1/32\ndrain 10.0.0.8/32":    "10.0.0.7",
		"down 10.0.0.0/29\ndrain 10.0.0.8/32":    "10.0.0.8",
		"down 10.0.0.0/8":                        "10.0.0.1",
		"down 10.0.0.1/32\nup 192.0.2.0/24":      "10.0.0.7 10.0.0.8",
		"drain 10.0.0.1/32\ndrain 192.0.2.0/24":  "10.0.0.1",
		"down 10.0.0.1/32\ndrain 10.0.0.7/32 \n": "10.0.0.8",
	} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			forced, err := force.Parse([]byte(lines))
			if err != nil {
				t.Fatal(err)
			}
			first, second := replaced(n, "www.example.org.", "other.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org.")
			first.Forced = force.Static(forced)
			second.Forced = first.Forced
			if m := keepAsking(t, serving(p, zoneOf(twoSites...), first, second), 10*time.Second, "www.example.org.", dns.TypeA); addressesOf(m) != want {
				t.Errorf("%q: %s, want %s", lines, addressesOf(m), want)
			}
		})
	}
}

// An explanation says which name took over, with which addresses, or why it did not. It changes nothing (B83, B102).
func TestExplainAnotherName(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		z := changingZone(twoSites...)
		h := serving(p, z, replaced(n, "www.example.org.", "other.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "other.example.org."))
		n.Kill(pooltest.Addr(1), pooltest.Addr(8))
		keepAsking(t, h, time.Minute, "www.example.org.", dns.TypeA)
		explained := func() status.Explanation {
			t.Helper()
			all, err := p.source.Explain(t.Context(), status.Question{Name: "www.example.org.", Type: "A"})
			if err != nil || len(all) != 1 || len(all[0].Sets) != 1 {
				t.Fatalf("%v, %v", all, err)
			}
			return all[0]
		}
		e := explained()
		steps := strings.Join(e.Steps, "\n")
		for _, want := range []string{
			"none of 1 is up, and all_down is other.example.org, which takes over with 1 of its 2 addresses",
			"the addresses of other.example.org. for www.example.org. A: 10.0.0.7 is up, and served; 10.0.0.8 is down, and left out",
		} {
			if !strings.Contains(steps, want) {
				t.Errorf("%q is not in\n%s", want, steps)
			}
		}
		if e.Sets[0].Fallback != "other.example.org." || e.Outcome != "closed" || len(e.Records) != 1 {
			t.Errorf("%+v", e)
		}
		n.Kill(pooltest.Addr(7))
		keepAsking(t, h, time.Minute, "www.example.org.", dns.TypeA)
		if e = explained(); !strings.Contains(strings.Join(e.Steps, "\n"), "health is disregarded (all_down is other.example.org, which has no healthy address either)") || e.Sets[0].Fallback != "" || e.Outcome != "open" {
			t.Errorf("%+v", e)
		}
	})
}

// aliasZone answers for the names that are judged in TestAnotherNameIsJudged.
type aliasZone struct{}

func (aliasZone) Name() string { return "alias" }

func (aliasZone) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg)
	m.SetReply(r)
	owner := m.Question[0].Name
	if to := map[string]string{"alias.example.org.": "other.example.org.", "leaves.other.example.org.": "out.example.net.", "leaves.www.example.org.": "out.example.net."}[owner]; to != "" {
		m.Answer, owner = records(owner+" 30 IN CNAME "+to), to
	}
	switch {
	case m.Question[0].Qtype != dns.TypeA:
		m.Answer, m.Ns = nil, records("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60")
	case owner == "www.example.org.":
		m.Answer = records("www.example.org. 30 IN A 10.0.0.1")
	default:
		m.Answer = append(m.Answer, records(owner+" 30 IN A 10.0.0.7", owner+" 30 IN A 10.0.0.8")...)
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// A name in all_down costs a query nothing while something is healthy.
func TestAnotherNameAllocatesNothing(t *testing.T) {
	allocations := func(policy answer.AllDown) (allocated float64) {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			s := replaced(n, "example.org.", "other.example.org.")
			s.Rule.Policy.AllDown = policy
			h := serving(p, zoneOf(append(twoSites, www...)...), s)
			keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
			r, w := query("www.example.org.", dns.TypeA), &test.ResponseWriter{}
			allocated = testing.AllocsPerRun(200, func() { _, _ = h.ServeDNS(t.Context(), w, r) })
		})
		return allocated
	}
	if with, without := allocations(answer.Named), allocations(answer.NoData); with > without {
		t.Errorf("%v allocations with a name, %v with nodata", with, without)
	}
}
