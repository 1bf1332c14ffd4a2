package answer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// board has the health of addresses in one map.
type board struct {
	rule     Rule
	verdicts map[netip.Addr]*verdict.Verdict
}

func (b *board) Rule(string) *Rule     { return &b.rule }
func (b *board) Absent(string, uint16) {}
func (b *board) SOA(string) *dns.SOA   { return nil }

// Addresses says that no host has an IPv6 address.
func (b *board) Follow(string, string) bool { return true }
func (b *board) Addresses(_ string, rrtype uint16) ([]netip.Addr, bool) {
	return nil, rrtype == dns.TypeAAAA
}

func (b *board) Fallback(_, _ string, _ uint16) Fallback { return Fallback{} }

func (b *board) Open(string, uint16) verdict.RecordSet { return verdict.RecordSet{} }
func (b *board) Look(_ verdict.RecordSet, addr netip.Addr, _ uint16, _ uint32) verdict.Brief {
	if v := b.verdicts[addr]; v != nil {
		return v.Brief()
	}
	return 0
}

// boardFor has the health of addresses(n): the first few are down.
func boardFor(n, down, limit int) *board {
	b := &board{verdicts: make(map[netip.Addr]*verdict.Verdict)}
	b.rule = Rule{Types: TypesOf(filterable...), Policy: Policy{Limit: limit, MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}, Health: b}
	for i, rr := range addresses(n, 30).Answer {
		addr, _ := Address(rr)
		b.verdicts[addr] = &verdict.Verdict{State: verdict.Up, Holds: 13 * time.Second}
		if i < down {
			b.verdicts[addr].State = verdict.Down
		}
	}
	return b
}

// BenchmarkThin has 0 allocs/op if nothing changes: the message itself is returned.
func BenchmarkThin(b *testing.B) {
	for _, bm := range []struct {
		name           string
		n, down, limit int
		ttl            uint32
		changes        bool
	}{
		{"healthy 4", 4, 0, 8, 30, false},
		{"healthy 8", 8, 0, 8, 30, false},
		{"healthy 64, no limit", 64, 0, 0, 30, false},
		{"healthy 4096, no limit", maxJudged, 0, 0, 30, false},
		{"healthy 65000, no limit", 65_000, 0, 0, 30, false},
		{"1 of 65000 down, no limit", 65_000, 1, 0, 30, true},
		{"65000 sampled to 8", 65_000, 0, 8, 30, true},
		{"2 of 8 down", 8, 2, 8, 30, true},
		{"healthy 8, TTL capped", 8, 0, 8, 300, true},
		{"64 sampled to 8", 64, 0, 8, 30, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			m, rules := addresses(bm.n, bm.ttl), boardFor(bm.n, bm.down, bm.limit)
			draw := &Draw{IntN: rand.IntN}
			b.ReportAllocs()
			for b.Loop() {
				out, _ := Thin(m, rules, draw)
				if (out != m) != bm.changes {
					b.Fatal("the answer is not the one to measure")
				}
			}
		})
	}
}

// Nothing is allocated if nothing changes, with any number of addresses, and also behind a chain of aliases.
func TestThinAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 2, 8, pooledSize, pooledSize + 1, maxJudged, 20_000} {
		m, rules := addresses(n, 30), boardFor(n, 0, 0)
		m.Question[0].Name = "alias.example.org."
		chain := &dns.CNAME{Hdr: dns.RR_Header{Name: "alias.example.org.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "www.example.org."}
		m.Answer = append([]dns.RR{chain}, m.Answer...)
		draw := &Draw{IntN: rand.IntN}
		if allocs := allocations(func() { Thin(m, rules, draw) }); allocs != 0 {
			t.Errorf("%d addresses: %v allocations", n, allocs)
		}
	}
}

// Where all addresses of a set have the same share, nothing is drawn and nothing is allocated (B93).
func TestEvenSharesChangeNothing(t *testing.T) {
	for name, p := range map[string]Policy{
		"weights of others":       {Weights: []Weight{{netip.MustParsePrefix("192.0.2.0/24"), 10}}},
		"one weight for all":      {Weights: []Weight{{netip.MustParsePrefix("10.0.0.0/8"), 7}}},
		"all are warm":            {Warmup: time.Minute},
		"a client that is hidden": {Client: true},
	} {
		for _, n := range []int{2, 8, pooledSize + 1, maxJudged} {
			m, rules := addresses(n, 30), boardFor(n, 0, 0)
			p.MinUp, p.TTL = rules.rule.Policy.MinUp, rules.rule.Policy.TTL
			rules.rule.Policy = p
			draw := &Draw{IntN: rand.IntN, Now: 1e12}
			if out, report := Thin(m, rules, draw); out != m || report.Outcome != Whole {
				t.Errorf("%s, %d addresses: %+v", name, n, report)
			}
			if allocs := allocations(func() { Thin(m, rules, draw) }); allocs != 0 {
				t.Errorf("%s, %d addresses: %v allocations", name, n, allocs)
			}
		}
	}
}

// allocations is how often a function allocates, which is the same each time but for the scratch that it takes from a sync.Pool: with the
// race detector, a pool drops one in four at random, and a garbage collection empties it. So the least of many single runs counts.
func allocations(f func()) float64 {
	least := testing.AllocsPerRun(1, f)
	for range 40 {
		least = min(least, testing.AllocsPerRun(1, f))
	}
	return least
}

// Nothing is allocated for targets with their glue, or for hints, if nothing changes.
func TestThinAllocatesNothingForTargets(t *testing.T) {
	for name, m := range map[string]*dns.Msg{
		"8 SRV": targets(8), "a full house of SRV": targets(pooledSize), "SRV without glue": {MsgHdr: targets(8).MsgHdr, Question: targets(8).Question, Answer: targets(8).Answer},
		"HTTPS": service8(),
	} {
		rules, draw := boardFor(pooledSize, 0, 8), &Draw{IntN: rand.IntN}
		if out, report := Thin(m, rules, draw); out != m || report.Outcome != Whole {
			t.Errorf("%s: %+v", name, report)
		}
		if allocs := allocations(func() { Thin(m, rules, draw) }); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// service8 is an HTTPS record with eight hints, with the addresses in the additional section.
func service8() *dns.Msg {
	m := addresses(8, 30)
	m.Extra, m.Question[0].Qtype = m.Answer, dns.TypeHTTPS
	hint := new(dns.SVCBIPv4Hint)
	for _, rr := range m.Extra {
		hint.Hint = append(hint.Hint, rr.(*dns.A).A)
	}
	m.Answer = []dns.RR{&dns.HTTPS{SVCB: dns.SVCB{
		Hdr:      dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 30},
		Priority: 1, Target: ".", Value: []dns.SVCBKeyValue{&dns.SVCBPort{Port: 8443}, hint},
	}}}
	return m
}

// BenchmarkThinTargets has 0 allocs/op if all is healthy.
func BenchmarkThinTargets(b *testing.B) {
	shared := targets(1000)
	for _, section := range [][]dns.RR{shared.Answer, shared.Extra} {
		for _, rr := range section {
			if srv, ok := rr.(*dns.SRV); ok {
				srv.Target = "host.example.org."
			} else {
				rr.Header().Name = "host.example.org."
			}
		}
	}
	for _, bm := range []struct {
		name    string
		m       *dns.Msg
		n, down int
	}{
		{"SRV 8 healthy", targets(8), 8, 0},
		{"SRV 2 of 8 down", targets(8), 8, 2},
		{"HTTPS 8 healthy", service8(), 8, 0},
		{"HTTPS 2 of 8 down", service8(), 8, 2},
		{"SRV 1000, 1 down", targets(1000), 1000, 1},
		{"SRV 1000, 500 down", targets(1000), 1000, 500},
		{"SRV 1000 at one host of 1000, all but 1 down", shared, 1000, 999},
	} {
		b.Run(bm.name, func(b *testing.B) {
			rules, draw := boardFor(bm.n, bm.down, 8), &Draw{IntN: rand.IntN}
			b.ReportAllocs()
			for b.Loop() {
				Thin(bm.m, rules, draw)
			}
		})
	}
}

// BenchmarkOrder draws the order of eight addresses. "even" is what a stanza with weights costs a set without any.
func BenchmarkOrder(b *testing.B) {
	benchmarkDraw(b, 8, []namedPolicy{
		{"none", Policy{}},
		{"even", Policy{Weights: []Weight{{netip.MustParsePrefix("192.0.2.0/24"), 10}}}},
		{"weights", Policy{Weights: []Weight{{netip.MustParsePrefix("10.0.0.0/30"), 10}}}},
		{"full weights", Policy{Reports: true}},
		{reportingHalf, Policy{Reports: true}},
		{"client", Policy{Client: true}},
		{"nearest", Policy{Nearest: true}},
	})
}

// BenchmarkDraw is the draw of BenchmarkOrder alone: eight addresses by weight, without the rest of the filter.
func BenchmarkDraw(b *testing.B) {
	all := fleet(8)
	for i := range all {
		all[i].verdict = verdict.Verdict{State: verdict.Up, Said: &report.Said{Shed: uint8(10 * i)}}.Brief()
	}
	for _, bm := range []namedPolicy{
		{"weights", Policy{Weights: []Weight{{netip.MustParsePrefix("10.0.0.0/30"), 10}}}},
		{reportingHalf, Policy{Reports: true}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			draw, order := &Draw{IntN: rand.IntN}, make([]candidate, len(all))
			b.ReportAllocs()
			for b.Loop() {
				copy(order, all)
				bm.policy.sample(order, 8, draw)
			}
		})
	}
}

// BenchmarkSample draws 8 of 64 addresses.
func BenchmarkSample(b *testing.B) {
	benchmarkDraw(b, 64, []namedPolicy{
		{"chance", Policy{}},
		{"weights", Policy{Weights: []Weight{{netip.MustParsePrefix("10.0.0.0/28"), 10}, {netip.MustParsePrefix("10.0.0.0/8"), 5}}}},
		{"client", Policy{Client: true}},
		{"warmup", Policy{Warmup: time.Minute}},
	})
}

// reportingHalf is the policy for which every other address wants half of its weight.
const reportingHalf = "reported weights"

// namedPolicy is a policy with the name of its benchmark.
type namedPolicy struct {
	name   string
	policy Policy
}

// benchmarkDraw filters an answer of n healthy addresses by each policy, with a limit of eight.
func benchmarkDraw(b *testing.B, n int, policies []namedPolicy) {
	for _, bm := range policies {
		b.Run(bm.name, func(b *testing.B) {
			m, rules := addresses(n, 30), boardFor(n, 0, 8)
			bm.policy.Limit, bm.policy.MinUp, bm.policy.TTL = 8, rules.rule.Policy.MinUp, rules.rule.Policy.TTL
			rules.rule.Policy = bm.policy
			for i, rr := range m.Answer {
				if addr, _ := Address(rr); bm.name == reportingHalf && i%2 == 0 {
					rules.verdicts[addr].Said = &report.Said{Shed: 50}
				}
			}
			draw := &Draw{IntN: rand.IntN, Client: netip.MustParsePrefix("192.0.2.0/24"), Now: 1e12, Near: byOctet{}}
			b.ReportAllocs()
			for b.Loop() {
				Thin(m, rules, draw)
			}
		})
	}
}

func ExampleThin() {
	m, rules := addresses(3, 30), boardFor(3, 1, 8)
	out, report := Thin(m, rules, &Draw{IntN: rand.IntN})
	fmt.Println(report.Outcome, report.Kept, "of", report.Total)
	for _, rr := range out.Answer {
		fmt.Println(rr.(*dns.A).A)
	}
	// Output:
	// thin 2 of 3
	// 10.0.0.1
	// 10.0.0.2
}
