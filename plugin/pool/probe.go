package pool

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// probeResult is what a probe has found out.
type probeResult struct {
	monitor *monitor
	err     error // nil, why the target is unfit, or one that wraps check.ErrAbstain
	took    time.Duration
	report  *report.Report // what the backend says of itself; nil unless the check reports
	held    *wire.Held     // the connection, if it is to be held
	kept    *check.Kept    // the connection for the next probe, if there is one
	reused  bool           // there might have been one
	had     bool           // there was one, from the probe before

	askedAgain, again bool // a connection was asked again, and gave the answer
}

// start hands a monitor to a probe: to the event loop if that can ask the check, else to a goroutine. The monitor comes back
// as the probe's result.
func (p *Pool) start(ctx context.Context, probes *sync.WaitGroup, m *monitor, now time.Time) {
	late := clock.At(now).Sub(m.due)
	if late > m.check.pace.Interval {
		metrics.SkippedOverdue.Inc() // it missed a whole turn, which is not made up for
	}
	metrics.ProbeLag.Observe(max(0, late.Seconds()))
	m.started = clock.At(now)
	if p.prober.canAsk(m, now) {
		p.dropKept(m) // what a goroutine left while there was no event loop
		p.prober.enqueue(m)
		return
	}
	reusing := p.prober.reusing(m, now)
	prober, timeout, addr := m.prober(), m.check.pace.Timeout, m.entry.Target.Addr
	var holding *holdingProbe
	if reusing != nil {
		prober = reusing
	} else if holding = p.prober.holding(m, now); holding != nil {
		prober = holding
	}
	probes.Go(func() {
		began := time.Now()
		r := probeResult{monitor: m}
		r.err = ask(r.listen(ctx), prober, timeout, addr)
		if r.took = time.Since(began); holding != nil {
			r.held = holding.conn
		}
		if reusing != nil {
			r.reused, r.had, r.kept, r.held = true, reusing.had, reusing.kept, reusing.conn
			r.askedAgain, r.again = reusing.asked, reusing.good
		}
		p.probed <- r
	})
}

// ask probes once. A panic in a check proves nothing about the target, and must not end the process.
func ask(ctx context.Context, prober Prober, timeout time.Duration, addr netip.AddrPort) (err error) {
	defer func() {
		if r := recover(); r != nil {
			metrics.Panics.Inc()
			err = fmt.Errorf("%w: the check panicked: %v", check.ErrAbstain, r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return prober.Probe(ctx, addr)
}
