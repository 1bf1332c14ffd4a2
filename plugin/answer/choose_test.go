package answer

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// addresses returns an answer with n addresses, 10.0.0.0 and up.
func addresses(n int, ttl uint32) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	m.Response = true
	for i := range n {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
			A:   net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)),
		})
	}
	return m
}

func healthy(limit int) *world {
	return &world{
		rule:    Rule{Types: TypesOf(filterable...), Policy: Policy{Limit: limit, MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}},
		unknown: verdict.Verdict{State: verdict.Up, Holds: time.Minute},
	}
}

func (w *world) fell(addr string, ago time.Duration) {
	if w.health == nil {
		w.health = make(map[netip.Addr]verdict.Verdict)
	}
	w.health[netip.MustParseAddr(addr)] = verdict.Verdict{State: verdict.Down, Since: now.Add(-ago), Holds: time.Minute}
}

// Over many answers each address of a large set is served about equally often, and in each place (B2, B4, B7).
func TestSampleIsUniform(t *testing.T) {
	const n, limit, draws = 20, 8, 20_000
	rng := rand.New(rand.NewPCG(3, 4))
	w := healthy(limit)
	w.fell("10.0.0.7", time.Minute)
	var often, first [n]int
	for range draws {
		out, report := Thin(addresses(n, 30), w, &Draw{IntN: rng.IntN})
		if len(out.Answer) != limit || report.Outcome != Thinned || report.Total != n {
			t.Fatalf("%d records, %+v", len(out.Answer), report)
		}
		for place, rr := range out.Answer {
			i := rr.(*dns.A).A[15]
			often[i]++
			if place == 0 {
				first[i]++
			}
		}
	}
	if often[7] != 0 {
		t.Errorf("the address that is down came %d times", often[7])
	}
	// With 18 degrees of freedom, one in a thousand fair draws exceeds 42.3. The seed is fixed.
	for what, counts := range map[string][n]int{"address": often, "first place": first} {
		var total, chi float64
		for _, c := range counts {
			total += float64(c)
		}
		want := total / (n - 1)
		for i, c := range counts {
			if i != 7 {
				chi += (float64(c) - want) * (float64(c) - want) / want
			}
		}
		if chi > 42.3 {
			t.Errorf("each %s: chi-square %.1f over %v", what, chi, counts)
		}
	}
}

// For every size of a set and every number of fit addresses: what a share as min_up gives, as up_thresh of gdnsd does.
func TestMinUpTable(t *testing.T) {
	for n := 2; n <= 10; n++ {
		for fit := range n + 1 {
			for percent := 10; percent <= 100; percent += 10 {
				w := healthy(0)
				w.rule.Policy.MinUp = Quorum{Percent: percent}
				for i := range n - fit {
					w.fell(fmt.Sprintf("10.0.0.%d", i), time.Minute)
				}
				want := fit
				if fit*100 < n*percent || fit == 0 {
					want = n
				}
				if out, _ := Thin(addresses(n, 30), w, &Draw{IntN: rand.IntN}); len(out.Answer) != want {
					t.Errorf("%d of %d healthy, min_up %d%%: %d served, want %d", fit, n, percent, len(out.Answer), want)
				}
			}
		}
	}
}

// From sets of every size the right number of addresses is served, each once (B2, B3).
func TestLimit(t *testing.T) {
	for _, n := range []int{1, 2, 7, 8, 9, 63, 64, 65, 100, 1000, 5000, 70_000} {
		for _, limit := range []int{0, 1, 8} {
			out, report := Thin(addresses(n, 30), healthy(limit), &Draw{IntN: rand.IntN})
			want := n
			if limit > 0 {
				want = min(n, limit)
			}
			seen := make(map[string]bool)
			for _, rr := range out.Answer {
				seen[rr.(*dns.A).A.String()] = true
			}
			if len(out.Answer) != want || len(seen) != want || report.Total != n {
				t.Errorf("%d addresses, limit %d: %d records, %d different, report %+v", n, limit, len(out.Answer), len(seen), report)
			}
		}
	}
}

// Thin does not change what it returned, under every policy, except for a share as min_up of a set that was cut (B27).
func TestThinTwice(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		n := 2 + rng.IntN(20)
		w := healthy([]int{0, 1, 3, 8}[rng.IntN(4)])
		w.rule.Policy.MinUp.Count = 1 + rng.IntN(4)
		for i := range n {
			if rng.IntN(2) == 0 {
				w.fell(fmt.Sprintf("10.0.0.%d", i), time.Duration(rng.IntN(1000))*time.Second)
			}
		}
		once, first := Thin(addresses(n, 300), w, &Draw{IntN: rng.IntN})
		twice, second := Thin(once, w, &Draw{IntN: rng.IntN})
		if twice != once {
			t.Fatalf("%+v: %d addresses, %+v, then %+v:\n%s\n%s", w.rule.Policy, n, first, second, once, twice)
		}
	}
}

// An answer of thousands of sets costs no more than one of a few, and the sets that are not filtered are served.
func TestManySets(t *testing.T) {
	m := addresses(2, 30)
	for i := range 2000 {
		owner := fmt.Sprintf("x%d.example.org.", i)
		m.Answer = append(m.Answer,
			&dns.A{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.IPv4(10, 0, 0, 0)},
			&dns.A{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.IPv4(10, 0, 0, 1)})
	}
	w := healthy(8)
	w.fell("10.0.0.0", time.Minute)
	out, report := Thin(m, w, &Draw{IntN: rand.IntN})
	if report.Total != 2*maxSets || len(out.Answer) != len(m.Answer)-maxSets {
		t.Errorf("%+v, %d records of %d", report, len(out.Answer), len(m.Answer))
	}
}

// An answer with more targets than pooledSize is filtered completely, and its glue, too.
func TestManyTargets(t *testing.T) {
	for _, n := range []int{pooledSize - 1, pooledSize, pooledSize + 1, 2 * pooledSize, 2000} {
		m, w := targets(n), healthy(8)
		w.hosts = make(map[string][]netip.Addr)
		for i := range n {
			w.hosts[fmt.Sprintf("host%d.example.org. AAAA", i)] = nil
		}
		w.fell("10.0.0.1", time.Minute)
		w.fell(m.Extra[n-1].(*dns.A).A.String(), time.Minute)
		out, report := Thin(m, w, &Draw{IntN: rand.IntN})
		if report != (Report{Outcome: Thinned, Enforced: Thinned, Kept: n - 2, Total: n, Down: 2, Checked: true}) || len(out.Answer) != n-2 || len(out.Extra) != n-2 {
			t.Errorf("%d targets: %+v, %d and %d records", n, report, len(out.Answer), len(out.Extra))
		}
	}
}

// An answer whose many records name one host of many addresses costs little more than maxSteps lookups. What is beyond them
// is left unchanged.
func TestManyTargetsOfOneHost(t *testing.T) {
	const n = 1000
	m, w := targets(n), healthy(8)
	for i := range n {
		m.Answer[i].(*dns.SRV).Target, m.Extra[i].Header().Name = "host.example.org.", "host.example.org."
	}
	w.unknown, w.health = verdict.Verdict{State: verdict.Down}, make(map[netip.Addr]verdict.Verdict)
	w.hosts = map[string][]netip.Addr{"host.example.org. AAAA": nil}
	m.Answer[0].(*dns.SRV).Target, m.Extra[0].Header().Name = "host0.example.org.", "host0.example.org."
	w.hosts["host0.example.org. AAAA"] = nil
	counter := &counter{Health: w}
	out, _ := Thin(m, counted{w, counter}, &Draw{IntN: rand.IntN})
	if counter.looks > maxSteps || len(out.Answer) == n || len(out.Answer) < n-maxSteps/n-1 || len(out.Extra) != n {
		t.Errorf("%d looks, %d and %d records", counter.looks, len(out.Answer), len(out.Extra))
	}
	few := *m // the steps end while the glue is being adapted
	few.Answer = m.Answer[:21]
	w.health[netip.MustParseAddr("10.0.0.1")] = verdict.Verdict{State: verdict.Up}
	if out, _ := Thin(&few, w, &Draw{IntN: rand.IntN}); len(out.Answer) != 20 || len(out.Extra) != n {
		t.Errorf("%d and %d records", len(out.Answer), len(out.Extra))
	}
	delete(w.health, netip.MustParseAddr("10.0.0.1"))
	m.Extra = nil // the same, with the addresses of the host from elsewhere
	w.hosts["host.example.org. A"], counter.looks = slices.Repeat(parseAddrs([]string{"10.0.0.1"}), n), 0
	if out, _ := Thin(m, counted{w, counter}, &Draw{IntN: rand.IntN}); counter.looks > maxSteps || len(out.Answer) < n-maxSteps/n {
		t.Errorf("%d looks, %d records", counter.looks, len(out.Answer))
	}
}

type counter struct {
	Health
	looks int
}

func (c *counter) Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	c.looks++
	return c.Health.Look(at, addr, port, ttl)
}

// counted is a world that counts the lookups.
type counted struct {
	*world
	counter *counter
}

func (c counted) Rule(owner string) *Rule {
	rule := *c.world.Rule(owner)
	rule.Health = c.counter
	return &rule
}

// A record with data of a wrong length is no candidate, and causes no panic.
func TestMalformedRecords(t *testing.T) {
	m := addresses(3, 30)
	m.Answer[1].(*dns.A).A = nil
	m.Answer = append(m.Answer, &dns.AAAA{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeAAAA, Class: dns.ClassINET}})
	if out, report := Thin(m, healthy(8), &Draw{IntN: rand.IntN}); out != m || report.Total != 2 {
		t.Errorf("%+v\n%s", report, out)
	}
	for _, n := range []int{8, pooledSize, pooledSize + 1, 100} { // with the odd record after as many as lent allows
		m := addresses(n+1, 30)
		m.Answer[n].(*dns.A).A = nil
		if out, report := Thin(m, healthy(0), &Draw{IntN: rand.IntN}); out != m || report.Total != n {
			t.Errorf("%d: %+v", n, report)
		}
	}
	for _, odd := range []*dns.Msg{nil, {}, {Question: make([]dns.Question, 2), Answer: m.Answer}} {
		if out, report := Thin(odd, healthy(8), &Draw{IntN: rand.IntN}); out != odd || report != (Report{}) {
			t.Errorf("%+v\n%s", report, out)
		}
	}
}

// Where all of a set is served, in another order or with lower TTLs, such a record stays in the answer. Where the set is cut, it goes.
func TestMalformedRecordsStay(t *testing.T) {
	const day = 24 * time.Hour
	for name, change := range map[string]func(*world){
		"weight": func(w *world) { w.rule.Policy.Weights = []Weight{{netip.MustParsePrefix("10.0.0.2/32"), 1000}} },
		"reported weight": func(w *world) {
			w.rule.Policy.Reports = true
			w.health[netip.MustParseAddr("10.0.0.0")] = verdict.Verdict{State: verdict.Up, Since: now.Add(-day), Holds: time.Minute, Said: &report.Said{Shed: 99}}
		},
		"warmup": func(w *world) {
			w.rule.Policy.Warmup = time.Hour
			w.health[netip.MustParseAddr("10.0.0.0")] = verdict.Verdict{State: verdict.Up, Since: now, Holds: time.Minute}
		},
		"client": func(w *world) { w.rule.Policy.Client = true },
		"ttl":    func(w *world) { w.rule.Policy.TTL.Max = 7 },
		"weight and ttl": func(w *world) {
			w.rule.Policy.Weights = []Weight{{netip.MustParsePrefix("10.0.0.2/32"), 1000}}
			w.rule.Policy.TTL.Max = 7
		},
		"cut": func(w *world) { w.fell("10.0.0.0", time.Minute) },
	} {
		changed := 0
		for seed := range uint64(50) {
			for odd := range 4 { // its place
				w := healthy(0)
				w.health = make(map[netip.Addr]verdict.Verdict)
				for i := range 4 {
					w.health[netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})] = verdict.Verdict{State: verdict.Up, Since: now.Add(-day), Holds: time.Minute}
				}
				change(w)
				m := addresses(4, 30)
				m.AuthenticatedData = true
				m.Answer[odd].(*dns.A).A = nil
				d := chance(seed)
				d.Client = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(seed), 0}), 24)
				out, report := Thin(m, w, d)
				kept := slices.IndexFunc(out.Answer, func(rr dns.RR) bool { return rr.(*dns.A).A == nil })
				cut := report.Outcome != Whole
				switch {
				case cut && (kept >= 0 || len(out.Answer) != 2 || out.AuthenticatedData):
					t.Fatalf("%s, odd record at %d: cut to\n%s", name, odd, out)
				case !cut && (kept < 0 || len(out.Answer) != 4 || !out.AuthenticatedData):
					t.Fatalf("%s, odd record at %d: not cut, and it became\n%s", name, odd, out)
				case !cut && w.rule.Policy.TTL.Max > 0 && out.Answer[kept].Header().Ttl != 7:
					t.Fatalf("%s, odd record at %d: TTLs of one set differ:\n%s", name, odd, out)
				}
				if out != m {
					changed++
				}
			}
		}
		if changed == 0 {
			t.Errorf("%s: never changed an answer", name)
		}
	}
}

// Nor does a record whose Go type differs from its header, or one without the host or the addresses that it should have.
func TestMalformedTargets(t *testing.T) {
	header := func(rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: "www.example.org.", Rrtype: rrtype, Class: dns.ClassINET, Ttl: 300}
	}
	w := healthy(8)
	w.fell("10.0.0.0", time.Minute)
	for _, rrtype := range filterable {
		m := addresses(2, 300)
		m.Answer = append(m.Answer,
			&dns.SRV{Hdr: header(dns.TypeSRV)}, &dns.SRV{Hdr: header(dns.TypeSRV)}, &dns.MX{Hdr: header(dns.TypeMX)},
			&dns.HTTPS{SVCB: dns.SVCB{Hdr: header(dns.TypeHTTPS)}},
			&dns.SVCB{Hdr: header(dns.TypeSVCB), Value: []dns.SVCBKeyValue{&dns.SVCBIPv4Hint{Hint: []net.IP{nil, {1}, net.IPv4(10, 0, 0, 0)}}}},
			&dns.RFC3597{Hdr: header(rrtype)})
		m.Extra = []dns.RR{&dns.A{Hdr: header(dns.TypeA)}, &dns.AAAA{Hdr: header(dns.TypeAAAA)}, &dns.A{Hdr: dns.RR_Header{Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 0, 0, 0)}}
		out, report := Thin(m, w, &Draw{IntN: rand.IntN})
		if report.Outcome != Thinned || len(out.Extra) != 3 {
			t.Errorf("%s: %+v\n%s", dns.TypeToString[rrtype], report, out)
		}
	}
}

// fickle returns a rule for each set only once.
type fickle struct {
	*world
	asked map[string]bool
}

func (f fickle) Rule(owner string) *Rule {
	if f.asked[owner] {
		return nil
	}
	f.asked[owner] = true
	return f.world.Rule(owner)
}

// A set is filtered by one rule, even if another rule applies a moment later.
func TestRuleIsAskedOnce(t *testing.T) {
	m, w := targets(4), healthy(0)
	w.fell("10.0.0.1", time.Minute)
	w.hosts = map[string][]netip.Addr{"host1.example.org. AAAA": nil}
	if out, report := Thin(m, fickle{w, make(map[string]bool)}, &Draw{IntN: rand.IntN}); report.Outcome != Thinned || len(out.Extra) != 3 {
		t.Errorf("%+v\n%s", report, out)
	}
}

// IPv4 hints may be in the longer form of package net.
func TestHintsOfSixteenOctets(t *testing.T) {
	w := healthy(8)
	w.fell("10.0.0.1", time.Minute)
	out, report := Thin(service8(), w, &Draw{IntN: rand.IntN})
	if report != (Report{Outcome: Thinned, Enforced: Thinned, Kept: 7, Total: 8, Down: 1, Checked: true}) || len(out.Extra) != 7 {
		t.Errorf("%+v\n%s", report, out)
	}
}

// targets is an answer with n SRV records, whose hosts have one address each in the additional section.
func targets(n int) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("_http._tcp.example.org.", dns.TypeSRV)
	m.Response = true
	for i := range n {
		host := fmt.Sprintf("host%d.example.org.", i)
		m.Answer = append(m.Answer, &dns.SRV{
			Hdr:    dns.RR_Header{Name: "_http._tcp.example.org.", Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: 30},
			Weight: 1, Port: 8080, Target: host,
		})
		m.Extra = append(m.Extra, &dns.A{
			Hdr: dns.RR_Header{Name: host, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
			A:   net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)),
		})
	}
	return m
}

func TestTTLLongest(t *testing.T) {
	for _, tc := range []struct {
		ttl   TTL
		own   uint32
		holds time.Duration
		want  uint32
	}{
		{TTL{Min: 30}, 3600, 14 * time.Second, 30},
		{TTL{Min: 30}, 3600, 90 * time.Second, 90},
		{TTL{Min: 30}, 20, 90 * time.Second, 20},
		{TTL{Max: 60, Min: 30}, 3600, 90 * time.Second, 60},
		{TTL{Off: true}, 3600, 90 * time.Second, 3600},
	} {
		if got := tc.ttl.Longest(tc.own, tc.holds); got != tc.want {
			t.Errorf("%+v, own %d, holds %s: %d, want %d", tc.ttl, tc.own, tc.holds, got, tc.want)
		}
	}
}

func TestQuorumString(t *testing.T) {
	if got := (Quorum{Count: 3}).String() + " " + (Quorum{Percent: 40}).String(); got != "3 40%" {
		t.Error(got)
	}
}

func TestQuorumOf(t *testing.T) {
	for _, tt := range []struct {
		q            Quorum
		checks, want int
	}{
		{Quorum{Count: 1}, 3, 1}, {Quorum{Count: 4}, 3, 4}, {Quorum{Percent: 50}, 3, 2},
		{Quorum{Percent: 1}, 3, 1}, {Quorum{Percent: 100}, 3, 3}, {Quorum{Percent: 67}, 3, 3}, {Quorum{Percent: 34}, 3, 2},
	} {
		if got := tt.q.Of(tt.checks); got != tt.want {
			t.Errorf("%+v of %d: %d, want %d", tt.q, tt.checks, got, tt.want)
		}
	}
}
