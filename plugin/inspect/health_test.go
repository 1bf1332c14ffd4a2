package inspect

import (
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
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
		d := decision{Decision: answer.Decision{Outcome: c.outcome, Alone: c.alone}}
		for _, v := range c.all {
			d.Candidates = append(d.Candidates, answer.Candidate{Verdict: v})
		}
		if got := d.health(); got != c.want {
			t.Errorf("%s of %x: %q, want %q", c.outcome, c.all, got, c.want)
		}
	}
}
