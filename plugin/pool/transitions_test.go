package pool

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// When a thousand targets die at once, the log names a few of them and counts the others in one line a second. None
// is left out, and a later single transition has its own line again (B74).
func TestLogOfAFlood(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, verdict.Pace{Interval: 10 * time.Second, Fast: time.Second, Timeout: time.Second, Rise: 2, Fall: 3})
		begin(p, s)
		all := addrs(0, 1050)
		lookAll(s, all)
		pooltest.Elapse(time.Minute)
		n.Kill(all[:1000]...) // the others answer, so this is not isolation
		pooltest.Elapse(20 * time.Second)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		named, summed, sums := 0, 0, 0
		for _, line := range lines {
			if m := regexp.MustCompile(`more state changes in the last second: (\d+) of tcp://:80 are down \(connection refused (\d+)\)$`).FindStringSubmatch(line); m != nil {
				count, _ := strconv.Atoi(m[1])
				summed += count
				sums++
				if m[1] != m[2] {
					t.Error(line)
				}
			} else if strings.Contains(line, " is down after 3 failures of tcp://:80: connection refused") {
				named++
			} else {
				t.Errorf("the log has %s", line)
			}
		}
		if named+summed != 1000 || sums == 0 || sums > 15 || named > 15*linesASecond {
			t.Errorf("%d lines with names, %d lines with sums, which add up to %d", named, sums, summed)
		}
		text.Reset()
		n.Revive(all[7])
		pooltest.Elapse(30 * time.Second)
		if got := strings.TrimSpace(text.String()); strings.Count(got, "\n") != 0 || !strings.Contains(got, "10.0.0.7:80 is up after 2 successes") {
			t.Errorf("after the flood the log has %s", got)
		}
	})
}

// A summary has a limited length, and its numbers add up.
func TestSummary(t *testing.T) {
	down := func(check, reason string) transitionKey { return transitionKey{check, verdict.Down, reason} }
	got := summary(map[transitionKey]int{
		down("tcp://:1", "timed out"): 5, down("tcp://:1", "connection refused"): 30, down("tcp://:1", "status 500"): 2, down("tcp://:1", "reset"): 1, down("tcp://:1", "x"): 1,
		{check: "tcp://:2", to: verdict.Up}: 7, down("tcp://:2", "timed out"): 4,
	})
	want := "39 of tcp://:1 are down (connection refused 30, timed out 5, status 500 2 and 2 other reasons); 7 of tcp://:2 are up; 4 of tcp://:2 are down (timed out 4)"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var h transitionLog
	now := time.Now()
	for i := range 10 * maxSums {
		h.allow(down("tcp://:1", strconv.Itoa(i)), now)
	}
	total := 0
	for _, n := range h.sums {
		total += n
	}
	if len(h.sums) > maxSums+1 || total != 10*maxSums-linesASecond || h.wait(now) != time.Second {
		t.Errorf("%d sums with a total of %d, wait %s", len(h.sums), total, h.wait(now))
	}
}
