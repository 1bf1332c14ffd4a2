package answer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// absences is the rules of an answer that nothing covers. It notes which sets are said to be absent.
type absences struct {
	world
	sets []string
}

func (a *absences) Rule(string) *Rule { return nil }
func (a *absences) Absent(owner string, rrtype uint16) {
	a.sets = append(a.sets, owner+" "+dns.TypeToString[rrtype])
}

// An answer says which sets do not exist: at the name that was asked for, and at the end of its aliases (RFC 2308, section 2).
// Aliases take the place of a set. What is no denial says nothing (B63, B85).
func TestAbsent(t *testing.T) {
	const all = "A, AAAA, SRV, MX, HTTPS, SVCB"
	everyType := func(name string) (sets []string) {
		for _, rrtype := range strings.Split(all, ", ") {
			sets = append(sets, name+" "+rrtype)
		}
		return sets
	}
	soa, ns := "example.org. 60 IN SOA ns.example.org. admin.example.org. 1 2 3 4 5", "sub.example.org. 60 IN NS ns.sub.example.org."
	for name, tc := range map[string]struct {
		qtype      uint16
		rcode      int
		answer, ns string // in presentation format, separated by semicolons
		change     func(*dns.Msg)
		want       []string
	}{
		"an answer":                {qtype: dns.TypeA, answer: "www.example.org. 60 IN A 10.0.0.1"},
		"NODATA":                   {qtype: dns.TypeAAAA, ns: soa, want: []string{"www.example.org. AAAA"}},
		"NODATA without an SOA":    {qtype: dns.TypeAAAA, want: []string{"www.example.org. AAAA"}},
		"NODATA of another type":   {qtype: dns.TypeTXT, ns: soa},
		"NXDOMAIN":                 {qtype: dns.TypeTXT, rcode: dns.RcodeNameError, ns: soa, want: everyType("www.example.org.")},
		"a referral":               {qtype: dns.TypeA, ns: ns},
		"SERVFAIL":                 {qtype: dns.TypeA, rcode: dns.RcodeServerFailure},
		"truncated":                {qtype: dns.TypeA, change: func(m *dns.Msg) { m.Truncated = true }},
		"an update":                {qtype: dns.TypeA, change: func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }},
		"no question":              {qtype: dns.TypeA, change: func(m *dns.Msg) { m.Question = nil }},
		"an alias":                 {qtype: dns.TypeA, answer: "WWW.example.org. 60 IN CNAME x.example.org.; x.example.org. 60 IN A 10.0.0.1", want: []string{"www.example.org. A"}},
		"an alias that leads away": {qtype: dns.TypeA, answer: "www.example.org. 60 IN CNAME x.example.net.", want: []string{"www.example.org. A", "x.example.net. A"}},
		"aliases to a name without a set": {qtype: dns.TypeA, answer: "www.example.org. 60 IN CNAME x.example.org.; x.example.org. 60 IN CNAME y.example.org.", ns: soa,
			want: []string{"www.example.org. A", "x.example.org. A", "y.example.org. A"}},
		"an alias to a name that does not exist": {qtype: dns.TypeA, rcode: dns.RcodeNameError, answer: "www.example.org. 60 IN CNAME x.example.org.", ns: soa,
			want: append([]string{"www.example.org. A"}, everyType("x.example.org.")...)},
	} {
		t.Run(name, func(t *testing.T) {
			m := new(dns.Msg)
			m.SetQuestion("www.example.org.", tc.qtype)
			m.Response, m.Rcode = true, tc.rcode
			for text := range strings.SplitSeq(tc.answer, "; ") {
				if text != "" {
					m.Answer = append(m.Answer, record(t, text))
				}
			}
			if tc.ns != "" {
				m.Ns = append(m.Ns, record(t, tc.ns))
			}
			if tc.change != nil {
				tc.change(m)
			}
			var a absences
			if out, _ := Thin(m, &a, new(Draw)); out != m {
				t.Error("the message was changed")
			}
			if !slices.Equal(a.sets, tc.want) {
				t.Errorf("absent are %v, want %v", a.sets, tc.want)
			}
		})
	}
}

// Noting what is absent allocates nothing.
func TestAbsentAllocatesNothing(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeAAAA)
	m.Answer = []dns.RR{record(t, "www.example.org. 60 IN CNAME x.example.org.")}
	a := &countingRules{}
	if got := testing.AllocsPerRun(100, func() { tellAbsent(m, a) }); got != 0 || a.n == 0 {
		t.Errorf("%v allocations, %d sets", got, a.n)
	}
}

type countingRules struct {
	world
	n int
}

func (c *countingRules) Absent(string, uint16) { c.n++ }

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", text, err))
	}
	return rr
}
