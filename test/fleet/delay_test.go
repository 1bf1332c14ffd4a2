//go:build faults && linux

package fleet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// slow is how long each message of the fleet takes each way.
const slow = 300 * time.Millisecond

// Where each message takes 300 ms each way, targets are probed as often as always, and what dies is out everywhere as soon as the last
// vantage point has noticed and said it. No member takes another for dead for long, all votes arrive, and a newcomer knows after a
// round trip what the others know (B104, B105, B106, B108).
func TestFaultDelay(t *testing.T) {
	t.Parallel()
	const members = 5
	s := newScene(t, list(11, lastDead+2)...)
	s.newRelays(members+3, slow)
	pages := s.freePort()
	edits := append(relayed(), "MORE", fmt.Sprint("status 127.8.0.NUMBER:", pages))
	for n := 1; n <= members; n++ {
		s.launch(n, edits...)
	}
	s.settle()
	s.shared(patience, 3)
	l, c := s.load(), s.countMembers(members-1)
	from := time.Now()
	s.passes(15 * interval)
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.perInterval < 2.4 || r.perInterval > 3.7 || r.longest > 2*interval+slack/4 {
		t.Errorf("%s, want 3, and never none", r)
	}

	var said []time.Duration
	for n := firstDead; n <= lastDead+1; n++ {
		said = append(said, s.diesSlowly(l, n))
	}
	slices.Sort(said)
	t.Logf("a death that all vantage points have noticed is out everywhere after %v", said)
	if median := said[len(said)/2]; median < slow/2 || median > slow+2*tick {
		t.Errorf("what is said is known everywhere after %s in the median, and a message takes %s", median, slow)
	}
	s.votesAreComplete(pages)
	t.Logf("a member missed others for up to %s", c.end())

	knew := false
	for n := members + 1; n <= members+3 && !knew; n++ {
		knew = s.newcomerKnows(n, append(list(11, lastLiving), lastDead+2), edits...)
	}
	if !knew {
		t.Error("no newcomer has answered by what the others know")
	}
	l.end()
}

// diesSlowly has one target more stop to answer. It is out everywhere in the time that is promised, and what the delay costs. It returns
// how long that is after the last of its vantage points had to know: while members hear each other, it is a message.
func (s *scene) diesSlowly(l *load, n int) time.Duration {
	s.Helper()
	rest := append(list(11, lastLiving), list(n+1, lastDead+2)...)
	l.expects(rest, list(firstDead, n-1))
	began := time.Now()
	s.backends[n].turn(stalls)
	took := s.serves(bound+slow+lapse+slack, rest...)
	out := time.Now()
	l.expects(rest, list(firstDead, n))
	if took > bound+slow+lapse+slack/2 {
		s.Errorf("target %d is out everywhere after %s, and %s is promised", n, took, bound+slow+lapse)
	}
	probes := make(map[int]int)
	var last time.Time
	for _, v := range s.backends[n].visits(began, time.Time{}) {
		if probes[v.by]++; probes[v.by] == 3 && v.at.Add(timeout).After(last) {
			last = v.at.Add(timeout) // the third failure
		}
	}
	return out.Sub(last) - s.halts.stalled(last, out)
}

// votesAreComplete fails the test unless each server soon has three votes that count on each target.
func (s *scene) votesAreComplete(pages int) {
	s.Helper()
	for _, p := range s.live() {
		var short []string
		p.eventually(slack, func() bool {
			short = p.shortOfVotes(pages)
			return len(short) == 0
		}, func() string { return fmt.Sprintf("server %d lacks votes: %v", p.n, short) })
	}
}

// shortOfVotes are the targets of which a server has not three votes that count.
func (p *server) shortOfVotes(pages int) (short []string) {
	response, err := p.client.Get(fmt.Sprintf("http://127.8.0.%d:%d/v1/targets", p.n, pages))
	if err != nil {
		return []string{err.Error()}
	}
	defer response.Body.Close()
	var page struct {
		Targets []struct {
			Address string
			Votes   []struct{ Standing string }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil || response.StatusCode != http.StatusOK || len(page.Targets) != len(p.backends) {
		return []string{fmt.Sprintf("%d targets, %s, %v", len(page.Targets), response.Status, err)}
	}
	for _, target := range page.Targets {
		count := 0
		for _, v := range target.Votes {
			if v.Standing == "counts" {
				count++
			}
		}
		if count != 3 {
			short = append(short, fmt.Sprintf("%s has %d", target.Address, count))
		}
	}
	return short
}

// census looks all the time how many others each server hears.
type census struct {
	scene   *scene
	want    int
	mu      sync.Mutex
	longest time.Duration // that a server heard fewer
	stop    chan struct{}
	runs    sync.WaitGroup
}

// countMembers begins to look. Each server that runs has to hear so many others.
func (s *scene) countMembers(want int) *census {
	c := &census{scene: s, want: want, stop: make(chan struct{})}
	for _, p := range s.live() {
		c.runs.Go(func() { c.look(p) })
	}
	s.Cleanup(func() { c.end() })
	return c
}

func (c *census) look(p *server) {
	complete := time.Now()
	for {
		select {
		case <-c.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		began := time.Now()
		if p.peers() == c.want {
			complete = time.Now()
			continue
		}
		c.mu.Lock()
		c.longest = max(c.longest, began.Sub(complete)-c.scene.halts.stalled(complete, began))
		c.mu.Unlock()
	}
}

// end stops to look, and fails the test if a server was without another for longer than votes count, on a busy machine. It returns for
// how long.
func (c *census) end() time.Duration {
	select {
	case <-c.stop:
		return c.longest
	default:
	}
	close(c.stop)
	c.runs.Wait()
	if c.longest > lapse+slack/2 {
		c.scene.Errorf("a server took a living member for silent or dead for %s", c.longest)
	}
	return c.longest
}
