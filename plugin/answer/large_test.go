package answer

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// lookups is a health that counts how often it is asked.
type lookups struct {
	*board
	n       int
	drained []netip.Addr
}

func (l *lookups) Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	l.n++
	v := l.board.Look(at, addr, port, ttl)
	if slices.Contains(l.drained, addr) {
		v = v.Drain()
	}
	return v
}

// largeRules has the health of addresses(n): those at the indexes in down are down.
func largeRules(n int, policy Policy, down ...int) *lookups {
	l := &lookups{board: boardFor(n, 0, 0)}
	for _, i := range down {
		l.verdicts[large10(i)].State = verdict.Down
	}
	l.rule.Policy, l.rule.Health = policy, l
	return l
}

// large10 is the address of addresses at an index.
func large10(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// numbersOf lists the addresses of an answer by their indexes in addresses.
func numbersOf(m *dns.Msg) (all []int) {
	for _, rr := range m.Answer {
		if addr, ok := Address(rr); ok {
			raw := addr.As4()
			all = append(all, int(raw[1])<<16|int(raw[2])<<8|int(raw[3]))
		}
	}
	return all
}

// count lists the integers from low up to but not including high, without some of them.
func count(low, high int, without ...int) (all []int) {
	for i := low; i < high; i++ {
		if !slices.Contains(without, i) {
			all = append(all, i)
		}
	}
	return all
}

// restUnchecked is the gap of a large set that is served.
var restUnchecked = [verdict.Gaps]bool{verdict.Rest: true}

// Of a set of more than 4,096 addresses the first 4,096 are judged. Without a limit the rest is served after them, whatever its
// health is; with one it is left out. Shares are those of the judged ones, and the report counts all.
func TestLargeSet(t *testing.T) {
	const n = 6000
	half := count(0, 2048)
	one := Quorum{Count: 1}
	for _, tc := range []struct {
		name    string
		policy  Policy
		down    []int
		served  []int // nil if it is drawn
		outcome Outcome
		kept    int
	}{
		{"healthy", Policy{MinUp: one}, nil, count(0, n), Whole, n},
		{"some are down", Policy{MinUp: one}, []int{0, 7, 4095, 4096, 5999}, count(0, n, 0, 7, 4095), Thinned, n - 3},
		{"the rest is down", Policy{MinUp: one}, count(4096, n), count(0, n), Whole, n},
		{"the judged are down", Policy{MinUp: one}, count(0, 4096), count(0, n), Open, n},
		{"the judged are down, and nodata", Policy{MinUp: one, AllDown: NoData}, count(0, 4096), count(4096, n), Thinned, n - 4096},
		{"the judged are down, and servfail", Policy{MinUp: one, AllDown: ServFail}, count(0, 4096), count(4096, n), Thinned, n - 4096},
		{"enough for a share", Policy{MinUp: Quorum{Percent: 50}}, half, count(2048, n), Thinned, n - 2048},
		{"too few for a share", Policy{MinUp: Quorum{Percent: 50}}, append(half, 5000, 4095), nil, Open, n},
		{"enough for a number that is larger", Policy{MinUp: Quorum{Count: 5000}}, nil, count(0, n), Whole, n},
		{"limit", Policy{MinUp: one, Limit: 8}, nil, nil, Sample, 8},
		{"limit of all that are judged", Policy{MinUp: one, Limit: 4096}, nil, count(0, 4096), Sample, 4096},
		{"larger limit", Policy{MinUp: one, Limit: 5000}, nil, count(0, 4096), Sample, 4096},
		{"limit, and some are down", Policy{MinUp: one, Limit: 5000}, []int{3, 4097}, count(0, 4096, 3), Thinned, 4095},
		{"limit, and the judged are down, and nodata", Policy{MinUp: one, Limit: 8, AllDown: NoData}, count(0, 4096), []int{}, Closed, 0},
	} {
		m, rules := addresses(n, 10), largeRules(n, tc.policy, tc.down...)
		before := slices.Clone(m.Answer)
		var told Decision
		rules.rule.Observe = func(d Decision) { told = d }
		out, report := Thin(m, rules, &Draw{IntN: rand.IntN})
		want := Report{Outcome: tc.outcome, Enforced: tc.outcome, Kept: tc.kept, Total: n, Checked: true}
		want.Down = len(slices.DeleteFunc(slices.Clone(tc.down), func(i int) bool { return i >= maxJudged }))
		if tc.policy.Limit == 0 { // the rest is served
			want.Unchecked = restUnchecked
		}
		if report != want {
			t.Errorf("%s: %+v, want %+v", tc.name, report, want)
		}
		if tc.served != nil && !slices.Equal(numbersOf(out), tc.served) {
			t.Errorf("%s: %d are served, want %d", tc.name, len(out.Answer), len(tc.served))
		}
		if tc.outcome == Sample && tc.served == nil && slices.Max(numbersOf(out)) >= 4096 {
			t.Errorf("%s: drawn from the rest: %v", tc.name, numbersOf(out))
		}
		if len(out.Answer) != tc.kept || (out == m) != (tc.kept == n) || !slices.Equal(before, m.Answer) {
			t.Errorf("%s: %d are served, want %d, or the message is changed", tc.name, len(out.Answer), tc.kept)
		}
		if rules.n != 4096 || len(told.Candidates) != 4096 || told.Unjudged != n-4096 {
			t.Errorf("%s: %d are judged, and %d observed with %d others", tc.name, rules.n, len(told.Candidates), told.Unjudged)
		}
		rules.rule.Policy.DryRun = true
		report.Enforced = None
		if same, dry := Thin(m, rules, &Draw{IntN: rand.IntN}); same != m || dry != report {
			t.Errorf("%s: a dry run reports %+v, want %+v", tc.name, dry, report)
		}
	}
}

// Duplicates are not among the 4,096, and one that comes later does not bring an address back that is down.
func TestLargeSetWithDuplicates(t *testing.T) {
	m := addresses(5000, 30)
	first := m.Answer[:1000:1000]
	m.Answer = slices.Concat(first, first, m.Answer[1000:], first) // addresses 4096 to 4999 and the last 1000 are not judged
	rules := largeRules(5000, Policy{MinUp: Quorum{Count: 1}}, 7, 4095, 4096)
	out, report := Thin(m, rules, &Draw{IntN: rand.IntN})
	if want := append(count(0, 5000, 7, 4095), count(0, 1000, 7)...); !slices.Equal(numbersOf(out), want) {
		t.Errorf("%d are served, want %d", len(out.Answer), len(want))
	}
	if rules.n != 4096 || report.Outcome != Thinned || report.Total != 6000 {
		t.Errorf("%d are judged: %+v", rules.n, report)
	}
	// A large set of few addresses has no rest.
	m.Answer = slices.Concat(first, first, first, first, first)
	rules = largeRules(5000, Policy{MinUp: Quorum{Count: 1}, Limit: 2000}, 7)
	if out, report = Thin(m, rules, &Draw{IntN: rand.IntN}); !slices.Equal(numbersOf(out), count(0, 1000, 7)) || report.Total != 1000 || rules.n != 1000 {
		t.Errorf("%d of 1000 are served, %d are judged: %+v", len(out.Answer), rules.n, report)
	}
}

// The records that are judged go out with one TTL, and the rest of the set as it came; and what another plugin owns keeps its
// own.
func TestLargeSetTTL(t *testing.T) {
	for _, six := range []bool{false, true} {
		m, rules := addresses(6000, 300), largeRules(6000, Policy{MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}, 5)
		if six {
			m.Question[0].Qtype = dns.TypeAAAA
			for i, rr := range m.Answer {
				a := &dns.AAAA{Hdr: *rr.Header(), AAAA: net.ParseIP(fmt.Sprintf("2001:db8::%x", i))}
				a.Hdr.Rrtype, m.Answer[i] = dns.TypeAAAA, a
				addr, _ := Address(a)
				rules.verdicts[addr] = rules.verdicts[large10(i)]
			}
		}
		out, _ := Thin(m, rules, &Draw{IntN: rand.IntN})
		if len(out.Answer) != 5999 {
			t.Fatalf("%d records", len(out.Answer))
		}
		for i, rr := range out.Answer {
			want := uint32(30)
			if i >= maxJudged-1 { // one of those that are judged is left out
				want = 300
			}
			if rr.Header().Ttl != want {
				t.Fatalf("record %d has a TTL of %d, want %d", i, rr.Header().Ttl, want)
			}
		}
		for i, rr := range m.Answer {
			if rr.Header().Ttl != 300 {
				t.Fatalf("the original of record %d has a TTL of %d", i, rr.Header().Ttl)
			}
		}
	}
	// A TTL that is low enough stays, and only records with a higher one are copied.
	m, rules := addresses(6000, 20), largeRules(6000, Policy{MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}})
	if out, _ := Thin(m, rules, &Draw{IntN: rand.IntN}); out != m {
		t.Error("the message is copied, and nothing changes")
	}
	m.Answer[500].Header().Ttl = 40
	out, _ := Thin(m, rules, &Draw{IntN: rand.IntN})
	for i, rr := range out.Answer {
		if changed := rr != m.Answer[i]; changed != (i == 500) || rr.Header().Ttl > 30 {
			t.Errorf("record %d: a TTL of %d, a copy: %v", i, rr.Header().Ttl, changed)
		}
	}
}

// The rest of a set stays in its place if records of other sets are between, and those stay as they are.
func TestLargeSetAmongOthers(t *testing.T) {
	m := addresses(5000, 30)
	alias := &dns.CNAME{Hdr: dns.RR_Header{Name: "alias.example.org.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "www.example.org."}
	text := &dns.TXT{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}}
	m.Answer = slices.Concat([]dns.RR{alias}, m.Answer[:4500], []dns.RR{text}, m.Answer[4500:])
	out, report := Thin(m, largeRules(5000, Policy{MinUp: Quorum{Count: 1}}, 7, 4500), &Draw{IntN: rand.IntN})
	if !slices.Equal(numbersOf(out), count(0, 5000, 7)) || out.Answer[0] != alias || out.Answer[4500] != text || report.Kept != 4999 {
		t.Errorf("%d records, %+v", len(out.Answer), report)
	}
	m.Answer = append(m.Answer, &dns.RRSIG{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeRRSIG, Class: dns.ClassINET}, TypeCovered: dns.TypeA})
	rules := largeRules(5000, Policy{MinUp: Quorum{Count: 1}}, 7)
	if out, report := Thin(m, rules, &Draw{IntN: rand.IntN}); out != m || !report.Signed || rules.n != 0 {
		t.Errorf("a signed set: %+v, %d are judged", report, rules.n)
	}
}

// Drained addresses and backups count among the judged ones; those after them are served like any other.
func TestLargeSetTiers(t *testing.T) {
	m := addresses(5000, 30)
	rules := largeRules(5000, Policy{MinUp: Quorum{Count: 1}, Backup: []Rank{{netip.MustParsePrefix("10.0.0.0/24"), 1}}}, 300)
	rules.drained = []netip.Addr{large10(4000), large10(4999)}
	out, report := Thin(m, rules, &Draw{IntN: rand.IntN})
	if !slices.Equal(numbersOf(out), count(256, 5000, 300, 4000)) || report.Outcome != Thinned {
		t.Errorf("%d records, %+v", len(out.Answer), report)
	}
}

// Of SRV records the first 4,096 are judged, and of the addresses in the hints of HTTPS records. The others stay.
func TestLargeSetOfOtherTypes(t *testing.T) {
	m := targets(6000)
	rules := largeRules(6000, Policy{MinUp: Quorum{Count: 1}, Limit: 8, TTL: TTL{Off: true}}, 0, 5999)
	out, report := Thin(m, rules, &Draw{IntN: rand.IntN})
	if len(out.Answer) != 5999 || out.Answer[0] != m.Answer[1] || report.Outcome != Thinned || report.Kept != 5999 || report.Total != 6000 {
		t.Errorf("SRV: %d records, %+v", len(out.Answer), report)
	}
	all := addresses(6000, 30)
	var hint [3]dns.SVCBIPv4Hint
	for i, rr := range all.Answer {
		hint[i/2000].Hint = append(hint[i/2000].Hint, rr.(*dns.A).A)
	}
	m = service8()
	record := m.Answer[0]
	m.Answer, m.Extra = nil, nil
	for i := range hint {
		https := dns.Copy(record).(*dns.HTTPS)
		https.Value = []dns.SVCBKeyValue{&hint[i]}
		m.Answer = append(m.Answer, https)
	}
	rules = largeRules(6000, Policy{MinUp: Quorum{Count: 1}}, 1, 4001, 4097, 5999)
	var told []Decision
	rules.rule.Observe = func(d Decision) { told = append(told, d) }
	out, report = Thin(m, rules, &Draw{IntN: rand.IntN})
	if want := (Report{Outcome: Thinned, Enforced: Thinned, Kept: 5998, Total: 6000, Down: 2, Checked: true, Unchecked: restUnchecked}); report != want {
		t.Errorf("HTTPS: %+v, want %+v", report, want)
	}
	if len(told) != 3 || told[2].Unjudged != 6000-4096 || len(told[2].Candidates) != 96 {
		t.Errorf("HTTPS: observed %d", len(told))
	}
	var left []int
	for _, rr := range out.Answer {
		EachHint(rr, func(addr netip.Addr) {
			raw := addr.As4()
			left = append(left, int(raw[2])<<8|int(raw[3]))
		})
	}
	if !slices.Equal(left, count(0, 6000, 1, 4001)) {
		t.Errorf("HTTPS: %d addresses are left", len(left))
	}
}

// A set that is smaller than the one before does not see what that has left behind.
func TestLargeSetLeavesNothingBehind(t *testing.T) {
	for i, n := range []int{5000, 100, 5000, 70, 8, 4096, 65} {
		down := i % 3
		out, report := Thin(addresses(n, 30), largeRules(n, Policy{MinUp: Quorum{Count: 1}}, count(0, down)...), &Draw{IntN: rand.IntN, Now: uint64(time.Hour)})
		if !slices.Equal(numbersOf(out), count(down, n)) || report.Kept != n-down || report.Total != n {
			t.Errorf("%d of %d are served: %+v", len(out.Answer), n, report)
		}
	}
}
