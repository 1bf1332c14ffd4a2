package inspect

import (
	"net"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Each health has words on the page, the worst of several is told, and an outcome that is bad itself is not made better by it (B94).
func TestHealthHasWords(t *testing.T) {
	for h := health(1); h < forcedUp<<1; h++ {
		want := "forced up"
		switch {
		case h&onlyDown != 0:
			want = "down, but served"
		case h&allDrained != 0:
			want = "drained, but served"
		}
		for _, o := range []answer.Outcome{answer.Whole, answer.Sample, answer.Thinned, answer.Backup, answer.Open, answer.Closed, answer.None} {
			label := want
			if o != answer.Whole && o != answer.Sample {
				label = status.OutcomeTerm(o.String()).Label
			}
			for _, checked := range []bool{false, true} {
				if got := status.OutcomeOf(o.String(), checked, h.String()).Label; got != label {
					t.Errorf("%s, %s: %q, want %q", o, h, got, label)
				}
			}
		}
	}
	if h := healthOf(answer.Report{Outcome: answer.Thinned, Drained: true, Forced: true}); h != 0 {
		t.Errorf("a filtered answer is %s", h)
	}
}

// A set that is not all drained is none, and one of which a member is forced up is told as that.
func TestHealthOfASet(t *testing.T) {
	up := verdict.Verdict{State: verdict.Up}.Brief()
	down, forced := verdict.BriefDown, verdict.Brief(0).ForceUp()
	for _, c := range []struct {
		outcome answer.Outcome
		alone   bool
		all     []verdict.Brief
		want    health
	}{
		{answer.Whole, false, []verdict.Brief{up, up}, 0},
		{answer.Whole, false, []verdict.Brief{up.Drain(), up}, 0},
		{answer.Whole, false, []verdict.Brief{up.Drain(), verdict.Outside.Brief().Drain()}, allDrained},
		{answer.Sample, false, []verdict.Brief{up.Drain(), up.Drain()}, allDrained},
		{answer.Whole, false, []verdict.Brief{up.Drain(), forced}, forcedUp},
		{answer.Backup, false, []verdict.Brief{up.Drain(), down}, 0},
		{answer.Whole, true, []verdict.Brief{down}, onlyDown},
		{answer.Whole, true, []verdict.Brief{0}, 0},
		{answer.Whole, false, nil, 0},
	} {
		d := decision{Decision: answer.Decision{Outcome: c.outcome, Alone: c.alone, Served: len(c.all)}}
		for _, v := range c.all {
			d.Candidates = append(d.Candidates, answer.Candidate{Verdict: v})
		}
		if got := d.health(); got != c.want {
			t.Errorf("%s of %x: %q, want %q", c.outcome, c.all, got, c.want)
		}
	}
}

// One that is forced up and waits as a backup is in no answer; one that only the limit leaves out is in other answers.
func TestHealthOfForcedBackups(t *testing.T) {
	up, forced := verdict.Verdict{State: verdict.Up}.Brief(), verdict.Brief(0).ForceUp()
	for _, c := range []struct {
		policy answer.Policy
		want   health
	}{
		{answer.Policy{Backup: []answer.Rank{{Network: netip.MustParsePrefix("192.0.2.3/32"), Rank: 1}}}, 0},
		{answer.Policy{}, forcedUp},
		{answer.Policy{Limit: 1}, forcedUp},
		{answer.Policy{MinUp: answer.Quorum{Count: 3}, Backup: []answer.Rank{{Network: netip.MustParsePrefix("192.0.2.3/32"), Rank: 1}}}, 0}, // on backups, which the outcome says
	} {
		var d decision
		rule := &answer.Rule{Types: answer.DefaultTypes, Policy: c.policy, Health: briefs{up, up, forced}, Observe: func(x answer.Decision) { d.Decision = x }}
		m := new(dns.Msg)
		m.SetQuestion("www.example.org.", dns.TypeA)
		for i := range 3 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, byte(i+1))})
		}
		_, report := answer.Thin(m, oneRule{rule}, &answer.Draw{IntN: func(int) int { return 0 }})
		if got, of := d.health(), healthOf(report); got != c.want || of != c.want {
			t.Errorf("%+v: %q, of the report %q, want %q", c.policy, got, of, c.want)
		}
	}
}

// briefs are the verdicts on 192.0.2.1 and the addresses after it.
type briefs []verdict.Brief

func (b briefs) Open(owner string, _ uint16) verdict.RecordSet {
	return verdict.RecordSet{Owner: owner}
}

func (b briefs) Look(_ verdict.RecordSet, addr netip.Addr, _ uint16, _ uint32) verdict.Brief {
	return b[addr.As4()[3]-1]
}

// oneRule has a rule for all names.
type oneRule struct{ rule *answer.Rule }

func (r oneRule) Rule(string) *answer.Rule                               { return r.rule }
func (r oneRule) SOA(string) *dns.SOA                                    { return nil }
func (r oneRule) Follow(string, string) bool                             { return true }
func (r oneRule) Absent(string, uint16)                                  {}
func (r oneRule) Addresses(string, uint16) ([]netip.Addr, bool)          { return nil, false }
func (r oneRule) Fallback(string, string, uint16) (none answer.Fallback) { return none }
