package answer

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"golang.org/x/tools/txtar"
)

// In all cases of TestThin the decisions on the sets add up to the report on the answer, and each decision agrees with its
// outcome.
func TestObserve(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	told := make(map[Outcome]int)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sections := make(map[string]string)
		for _, f := range archive.Files {
			sections[f.Name] = string(f.Data)
		}
		m, w := message(t, sections), parseWorld(t, sections)
		w.draw.IntN = rand.IntN
		var sum Report
		w.rule.Observe = func(d Decision) {
			sum.Signed = sum.Signed || d.Signed
			sum.Outcome = max(sum.Outcome, d.Outcome)
			sum.Kept += d.Served
			sum.Total += len(d.Candidates) + d.Unjudged
			sum.Checked = sum.Checked || d.Checked()
			drained := 0
			for _, c := range d.Candidates {
				if c.Verdict.State() == verdict.Down {
					sum.Down++
				}
				if c.Verdict.Drained() {
					drained++
				}
				sum.Forced = sum.Forced || c.Verdict.ForcedUp()
			}
			sum.Drained = sum.Drained || drained > 0 && drained == len(d.Candidates)
			if d.Outcome == Backup {
				for _, c := range d.Candidates[:d.Served] {
					sum.Rank = max(sum.Rank, c.Tier.Rank())
				}
			}
			if d.Instead.Name != "" {
				sum.Instead = d.Instead
			}
			told[d.Outcome]++
			d.assertConsistent(t, file)
		}
		_, report := Thin(m, w, &w.draw)
		if report.Enforced, report.Unchecked, report.Mendable = 0, sum.Unchecked, sum.Mendable; sum != report {
			t.Errorf("%s: observed %+v, reported %+v", file, sum, report)
		}
	}
	for o := Whole; o <= Closed; o++ {
		if told[o] == 0 && o != Sample { // the cases have no sample, because its result is random
			t.Errorf("no case has the outcome %s", o)
		}
	}
}

// assertConsistent reports what is inconsistent in a decision.
func (d *Decision) assertConsistent(t *testing.T, file string) {
	t.Helper()
	bad, good := 0, 0
	for i, c := range d.Candidates {
		if c.Record == nil {
			t.Errorf("%s: a candidate has no record", file)
		}
		if (c.Tier == unfit) != !c.Verdict.State().Fit() {
			t.Errorf("%s: %s is %s", file, c.Verdict.State(), c.Tier)
		}
		switch {
		case i < d.Served && !c.Verdict.State().Fit():
			bad++
		case c.Tier == primary:
			good++
		}
	}
	if d.OthersServed > len(d.Others) || d.OthersServed > 0 && (!d.Instead.TookOver() || d.Outcome != Closed) || d.Instead.TookOver() && d.Outcome != Closed {
		t.Errorf("%s: %s, with %d of %d addresses of %+v", file, d.Outcome, d.OthersServed, len(d.Others), d.Instead)
	}
	if !d.Alone && bad > 0 && d.Outcome != Open {
		t.Errorf("%s: %d unhealthy addresses go out with outcome %s", file, bad, d.Outcome)
	}
	if d.Outcome == Closed && d.Served > 0 || d.Outcome == Open && good >= d.Need {
		t.Errorf("%s: %s, and %d of %d go out, need %d", file, d.Outcome, d.Served, len(d.Candidates), d.Need)
	}
}
