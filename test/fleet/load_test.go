//go:build linux

package fleet

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// load asks servers all the time, and holds them to what must be in their answers and what must not.
type load struct {
	scene *scene
	mu    sync.Mutex
	have  map[int]bool
	lack  map[int]bool
	asks  map[int]int
	wrong map[string]int
	first []string
	stop  chan struct{}
	runs  sync.WaitGroup
}

// load begins to ask all servers that run. All backends that answer must be in each answer.
func (s *scene) load() *load {
	l := &load{scene: s, have: make(map[int]bool), lack: make(map[int]bool), asks: make(map[int]int), wrong: make(map[string]int), stop: make(chan struct{})}
	for n, b := range s.backends {
		if b.as == sound {
			l.have[n] = true
		}
	}
	for _, p := range s.live() {
		l.join(p)
	}
	s.Cleanup(l.end)
	return l
}

// join begins to ask a server, until it is meant to stop.
func (l *load) join(p *server) {
	run := p.life
	l.runs.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			case <-run.ended:
				return
			case <-time.After(100 * time.Millisecond):
				l.ask(p, run)
			}
		}
	})
}

func (l *load) ask(p *server, run *life) {
	l.mu.Lock()
	have, lack := maps.Clone(l.have), maps.Clone(l.lack) // as of before the question
	l.mu.Unlock()
	began := time.Now()
	got, err := p.ask()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks[p.n]++
	switch {
	case !run.runs(): // it may have been stopped, or hang
		return
	case err != nil && l.scene.halts.stalled(began, time.Now()) > time.Second:
		return // its time was over before the server had any
	case err != nil:
		l.note(p, "no answer: "+err.Error())
		return
	}
	for n := range have {
		if l.have[n] && !slices.Contains(got, n) {
			l.note(p, fmt.Sprintf("lacks the living %d", n))
		}
	}
	for n := range lack {
		if l.lack[n] && slices.Contains(got, n) {
			l.note(p, fmt.Sprintf("has the dead %d", n))
		}
	}
}

func (l *load) note(p *server, what string) {
	if l.wrong[what]++; l.wrong[what] == 1 {
		l.first = append(l.first, fmt.Sprintf("%s: server %d %s", time.Now().Format("15:04:05.000"), p.n, what))
	}
}

// expects sets what must be in the answers from now on, and what must not.
func (l *load) expects(have, lack []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.have)
	clear(l.lack)
	for _, n := range have {
		l.have[n] = true
	}
	for _, n := range lack {
		l.lack[n] = true
	}
}

// end stops asking, and fails the test if an answer was wrong.
func (l *load) end() {
	l.mu.Lock()
	select {
	case <-l.stop:
		l.mu.Unlock()
		return
	default:
	}
	close(l.stop)
	l.mu.Unlock()
	l.runs.Wait()
	for _, text := range l.first {
		l.scene.Error(text)
	}
	for what, n := range l.wrong {
		l.scene.Errorf("%d answers: %s", n, what)
	}
	l.scene.Logf("answers by server: %v", l.asks)
}

// rates holds what probes came to backends in a time.
type rates struct {
	perInterval float64       // of one backend, the mean of all
	most        float64       // in five intervals in a row, each
	longest     time.Duration // without a probe
}

// rates measures the probes of sound backends from one time to another, while the machine ran.
func (s *scene) rates(from, to time.Time) (r rates) {
	count, backends := 0, 0
	const window = 5 * interval
	for _, b := range s.backends {
		if b.as != sound {
			continue
		}
		backends++
		visits := b.visits(from, to)
		count += len(visits)
		last := from
		for i, v := range visits {
			r.longest = max(r.longest, v.at.Sub(last)-s.halts.stalled(last, v.at))
			last = v.at
			n := 0
			for _, w := range visits[i:] {
				if w.at.Sub(v.at) < window {
					n++
				}
			}
			r.most = max(r.most, float64(n)/float64(window/interval))
		}
		r.longest = max(r.longest, to.Sub(last)-s.halts.stalled(last, to))
	}
	ran := to.Sub(from) - s.halts.stalled(from, to)
	r.perInterval = float64(count) / float64(backends) / ran.Seconds() * interval.Seconds()
	return r
}

// crowded reports whether more than so many servers probed at a time. A wait is shortened by up to a tenth, so that one server may
// probe six times in five intervals.
func (r rates) crowded(servers int) bool { return r.most > 1.2*float64(servers)+0.01 }

// String says what was measured.
func (r rates) String() string {
	return fmt.Sprintf("%.2f probes an interval, at most %.2f, none for up to %s", r.perInterval, r.most, r.longest.Round(time.Millisecond))
}
