package answer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// board stands for the pool's: one map of verdicts.
type board struct {
	rule     Rule
	verdicts map[netip.Addr]*verdict.Verdict
}

func (b *board) Rule(string) *Rule   { return &b.rule }
func (b *board) SOA(string) *dns.SOA { return nil }
func (b *board) Look(addr netip.Addr, _ uint32) verdict.Brief {
	if v := b.verdicts[addr]; v != nil {
		return v.Brief()
	}
	return 0
}

// boardFor knows n addresses of addresses(n), of which the first few are down.
func boardFor(n, down, limit int) *board {
	b := &board{verdicts: make(map[netip.Addr]*verdict.Verdict)}
	b.rule = Rule{Policy: Policy{Limit: limit, MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}, Health: b}
	for i, rr := range addresses(n, 30).Answer {
		addr, _ := address(rr)
		b.verdicts[addr] = &verdict.Verdict{State: verdict.Up, Holds: 13 * time.Second}
		if i < down {
			b.verdicts[addr].State = verdict.Down
		}
	}
	return b
}

// BenchmarkThin has 0 allocs/op where nothing changes: the message itself goes on.
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
		{"2 of 8 down", 8, 2, 8, 30, true},
		{"healthy 8, TTL capped", 8, 0, 8, 300, true},
		{"64 sampled to 8", 64, 0, 8, 30, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			m, rules := addresses(bm.n, bm.ttl), boardFor(bm.n, bm.down, bm.limit)
			b.ReportAllocs()
			for b.Loop() {
				out, _ := Thin(m, rules, rand.IntN)
				if (out != m) != bm.changes {
					b.Fatal("not what is to be measured")
				}
			}
		})
	}
}

// Nothing is allocated while nothing changes, up to lent addresses, and with a chain in front.
func TestThinAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 2, 8, lent} {
		m, rules := addresses(n, 30), boardFor(n, 0, 0)
		m.Question[0].Name = "alias.example.org."
		chain := &dns.CNAME{Hdr: dns.RR_Header{Name: "alias.example.org.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "www.example.org."}
		m.Answer = append([]dns.RR{chain}, m.Answer...)
		if allocs := testing.AllocsPerRun(100, func() { Thin(m, rules, rand.IntN) }); allocs != 0 {
			t.Errorf("%d addresses: %v allocations", n, allocs)
		}
	}
}

func ExampleThin() {
	m, rules := addresses(3, 30), boardFor(3, 1, 8)
	out, report := Thin(m, rules, rand.IntN)
	fmt.Println(report.Outcome, report.Kept, "of", report.Total)
	for _, rr := range out.Answer {
		fmt.Println(rr.(*dns.A).A)
	}
	// Output:
	// thin 2 of 3
	// 10.0.0.1
	// 10.0.0.2
}
