//go:build linux

package fleet

import (
	"slices"
	"sync"
	"time"
)

// haltFrom is from when on a tick of this process is so late that the machine must have stood still.
const haltFrom = 250 * time.Millisecond

// halts notes when the machine stands still, as a virtual one does that is moved or short of processor time: servers, backends and
// tests alike. Such time is not counted: nothing that is promised can happen in it.
type halts struct {
	mu     sync.Mutex
	all    []span
	ticked time.Time // when it was last seen to run
	stop   chan struct{}
	runs   sync.WaitGroup
}

// span is from one time to another.
type span struct{ from, to time.Time }

// watchHalts begins to look. It ends with the test.
func (s *scene) watchHalts() {
	x := &halts{ticked: time.Now(), stop: make(chan struct{})}
	s.halts = x
	x.runs.Go(x.look)
	s.Cleanup(func() { close(x.stop); x.runs.Wait() })
}

func (x *halts) look() {
	for {
		select {
		case <-x.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		x.mu.Lock()
		now := time.Now()
		if now.Sub(x.ticked) > haltFrom {
			x.all = append(x.all, span{x.ticked, now})
		}
		x.ticked = now
		x.mu.Unlock()
	}
}

// stalled is for how long the machine stood still between two times.
func (x *halts) stalled(from, to time.Time) (sum time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.all
	if now := time.Now(); now.Sub(x.ticked) > haltFrom { // it is over, and not seen yet
		all = append(slices.Clip(all), span{x.ticked, now})
	}
	for _, s := range all {
		begin, end := s.from, s.to
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(begin))
	}
	return sum
}

// since is the time that has passed, without that in which the machine stood still.
func (x *halts) since(began time.Time) time.Duration {
	now := time.Now()
	return now.Sub(began) - x.stalled(began, now)
}

// undisturbed makes a trial whose result a machine spoils that stands still for a second: members take each other for silent then, and
// probe for themselves. It is made again if that happened, or had a while before, and fails the test if it is not as it should be
// without that.
func (s *scene) undisturbed(trial func() (complaint string)) {
	s.Helper()
	for n := 1; ; n++ {
		began := time.Now()
		complaint := trial()
		stood := s.halts.stalled(began.Add(-reseated), time.Now())
		switch {
		case complaint == "":
			return
		case stood < time.Second || n == 5:
			s.Errorf("%s (trial %d; the machine stood still for %s)", complaint, n, stood)
			return
		}
		s.Logf("again, because the machine stood still for %s: %s", stood, complaint)
		s.joined(patience)
		s.shared(2*settling+patience, 3)
	}
}
