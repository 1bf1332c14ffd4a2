package answer

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// gapsOf lists the gaps in a set.
func gapsOf(unchecked [verdict.Gaps]bool) string {
	words := ""
	for g, is := range unchecked {
		if is {
			words += " " + verdict.Gap(g).String()
		}
	}
	return words
}

// partly has the verdicts of some addresses by their last octet; all others are up.
type partly struct {
	board
	brief map[byte]verdict.Brief
}

func (p *partly) Look(_ verdict.RecordSet, addr netip.Addr, _ uint16, _ uint32) verdict.Brief {
	raw := addr.As16()
	if v, ok := p.brief[raw[15]]; ok {
		return v
	}
	return verdict.Verdict{State: verdict.Up}.Brief()
}

func (p *partly) Follow(_, host string) bool { return host != "h2.example.org." }

// nullMX says that a name takes no mail (RFC 7505).
func nullMX(t *testing.T) *dns.Msg {
	m := addresses(1, 30)
	m.Question[0].Qtype, m.Answer = dns.TypeMX, []dns.RR{record(t, "www.example.org. 30 IN MX 0 .")}
	return m
}

// A report says for each answer why addresses in it were not checked, and whether any was (B94).
func TestReportOfGaps(t *testing.T) {
	hosts := func(n int) *dns.Msg {
		m := targets(n)
		for i, rr := range m.Answer { // the hosts are h0, h1, ...
			rr.(*dns.SRV).Target = "h" + string(rune('0'+i)) + ".example.org."
			m.Extra[i].Header().Name = rr.(*dns.SRV).Target
		}
		return m
	}
	bare := hosts(2)
	bare.Extra = nil
	both := addresses(1, 30)
	both.Question[0].Qtype, both.Answer = dns.TypeANY, append(both.Answer, nullMX(t).Answer...)
	for name, tc := range map[string]struct {
		m       *dns.Msg
		brief   map[byte]verdict.Brief
		limit   int
		allDown AllDown
		gaps    string
		checked bool
	}{
		"all up":                            {addresses(3, 30), nil, 8, Serve, "", true},
		"one":                               {addresses(1, 30), nil, 8, Serve, " single", false},
		"one, where its health matters":     {addresses(1, 30), nil, 8, NoData, "", true},
		"two of three":                      {addresses(3, 30), map[byte]verdict.Brief{0: verdict.Special.Brief(), 2: verdict.Full.Brief()}, 8, Serve, " special max_targets", true},
		"two alike":                         {addresses(2, 30), map[byte]verdict.Brief{0: verdict.Outside.Brief(), 1: verdict.Outside.Brief()}, 8, Serve, " within", false},
		"drained, and outside":              {addresses(2, 30), map[byte]verdict.Brief{0: verdict.Outside.Brief().Drain(), 1: verdict.Special.Brief()}, 8, Serve, " special", false},
		"not decided":                       {addresses(2, 30), map[byte]verdict.Brief{0: 0, 1: 0}, 8, Serve, "", false},
		"all down":                          {addresses(2, 30), map[byte]verdict.Brief{0: verdict.BriefDown, 1: verdict.BriefDown}, 8, Serve, "", true},
		"hosts":                             {hosts(2), nil, 8, Serve, "", true},
		"a host that is not followed":       {hosts(3), nil, 8, Serve, " host", true},
		"hosts whose ports nothing names":   {hosts(2), map[byte]verdict.Brief{0: verdict.NoPort.Brief(), 1: verdict.NoPort.Brief()}, 8, Serve, " port", false},
		"hosts whose addresses are unknown": {bare, nil, 8, Serve, "", false},
		"a null host":                       {nullMX(t), nil, 8, Serve, "", false},
		"one, and a null host":              {both, nil, 8, Serve, " single", false},
		"left out by the limit":             {addresses(3, 30), map[byte]verdict.Brief{0: verdict.Special.Brief(), 1: verdict.Special.Brief(), 2: verdict.Special.Brief().Drain()}, 1, Serve, " special", false},
		"a drained one that is not needed":  {addresses(2, 30), map[byte]verdict.Brief{0: verdict.Special.Brief().Drain()}, 8, Serve, "", true},
		"more records than are judged":      {targets(maxJudged + 1), nil, 8, Serve, " size", true},
		"hints":                             {service8(), map[byte]verdict.Brief{3: verdict.Special.Brief()}, 8, Serve, " special", true},
		"more than are judged":              {addresses(maxJudged+1, 30), nil, 0, Serve, " size", true},
		"more than are judged, and a limit": {addresses(maxJudged+1, 30), nil, 8, Serve, "", true},
	} {
		w := &partly{brief: tc.brief}
		w.rule = Rule{Types: TypesOf(filterable...), Health: w, Policy: Policy{Limit: tc.limit, AllDown: tc.allDown, MinUp: Quorum{Count: 1}}}
		_, report := Thin(tc.m, w, &Draw{IntN: rand.IntN})
		if got := gapsOf(report.Unchecked); got != tc.gaps || report.Checked != tc.checked {
			t.Errorf("%s: unchecked%s, checked %t; want%s, %t", name, got, report.Checked, tc.gaps, tc.checked)
		}
	}
}
