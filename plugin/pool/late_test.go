package pool

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// If more targets are in doubt than half of the places can ask in a fast interval, the log says so, once, and says when
// it is over. The gauge of the lane shows how late the probes are (B89).
func TestLateProbesAreLogged(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		text := pooltest.Logged(t)
		p.schedule.bound = 64
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		all := addrs(0, 500)
		lookAll(s, all)
		pooltest.Elapse(30 * time.Second)
		if got := pooltest.CountLines(text, "probes are late"); got != 0 {
			t.Errorf("%d lines while nothing is late", got)
		}
		n.Swallow(all[:450]...)
		var worst float64
		for range 15 {
			pooltest.Elapse(2 * time.Second)
			worst = max(worst, testutil.ToFloat64(lags[doubt]))
		}
		var shot status.Snapshot
		if err := p.Do(t.Context(), func(v View) { v.Totals(&shot) }); err != nil || shot.Summary.LateSince.IsZero() {
			t.Errorf("the summary says that probes are late since %s, %v", shot.Summary.LateSince, err)
		}
		if worst < 2 {
			t.Errorf("the gauge showed a lag of %v seconds at most", worst)
		}
		if got := pooltest.CountLines(text, "probes are late: "); got != 1 {
			t.Errorf("%d lines, want one:\n%s", got, text)
		}
		n.Set(n.Holes, false, all)
		pooltest.Elapse(2 * time.Minute)
		if got := pooltest.CountLines(text, "probes are on time again"); got != 1 {
			t.Errorf("%d lines, want one:\n%s", got, text)
		}
		expect(t, s, all, verdict.Up)
		for l, g := range lags {
			if got := testutil.ToFloat64(g); got > 1 {
				t.Errorf("%s: the gauge still shows a lag of %v seconds", lane(l), got)
			}
		}
	})
}
