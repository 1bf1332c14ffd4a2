package pool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// linesASecond is how many state changes a second get a log line of their own. The others are summed up in one line a
	// second: when a rack fails, writing the log must not be what keeps the loop busy.
	linesASecond = 20
	// maxSums is how many kinds of change are counted apart, maxReasons how many reasons a line names for each check.
	maxSums    = 256
	maxReasons = 3
)

// transitionLog writes state changes to the log, and sums them up if there are too many. It belongs to the loop.
type transitionLog struct {
	second time.Time // when the second began that is counted
	lines  int       // in that second
	sums   map[transitionKey]int
}

// transitionKey is a kind of change that is summed up.
type transitionKey struct {
	check  string
	to     verdict.State
	reason string
}

// allow reports whether a change may have a line of its own now. If not, it is summed up.
func (h *transitionLog) allow(s transitionKey, now time.Time) bool {
	h.flush(now)
	if now.Sub(h.second) >= time.Second {
		h.second, h.lines = now, 0
	}
	if h.lines++; h.lines <= linesASecond {
		return true
	}
	if h.sums == nil {
		h.sums = make(map[transitionKey]int)
	}
	if _, known := h.sums[s]; !known && len(h.sums) >= maxSums {
		s = transitionKey{check: "other checks", to: s.to}
	}
	h.sums[s]++
	return false
}

// flush logs what was summed up, if its second is over.
func (h *transitionLog) flush(now time.Time) {
	if len(h.sums) == 0 || now.Sub(h.second) < time.Second {
		return
	}
	log.Warningf("more state changes in the last second: %s", summary(h.sums))
	clear(h.sums)
}

// wait is how long flush can wait.
func (h *transitionLog) wait(now time.Time) time.Duration {
	if len(h.sums) == 0 {
		return never
	}
	return max(0, time.Second-now.Sub(h.second))
}

// summary puts counts into words: how many targets of each check are what now, and for which reasons, the most frequent first.
func summary(sums map[transitionKey]int) string {
	total := make(map[transitionKey]int)
	reasons := make(map[transitionKey][]string)
	for _, s := range slices.SortedFunc(maps.Keys(sums), func(a, b transitionKey) int { return cmp.Or(sums[b]-sums[a], cmp.Compare(a.reason, b.reason)) }) {
		of := transitionKey{check: s.check, to: s.to}
		total[of] += sums[s]
		if s.reason != "" {
			reasons[of] = append(reasons[of], fmt.Sprintf("%s %d", s.reason, sums[s]))
		}
	}
	var words []string
	for _, of := range slices.SortedFunc(maps.Keys(total), func(a, b transitionKey) int {
		return cmp.Or(total[b]-total[a], cmp.Compare(a.check, b.check), cmp.Compare(a.to, b.to))
	}) {
		text := fmt.Sprintf("%d of %s are %s", total[of], of.check, of.to)
		if all := reasons[of]; len(all) > maxReasons {
			text += fmt.Sprintf(" (%s and %d other reasons)", strings.Join(all[:maxReasons], ", "), len(all)-maxReasons)
		} else if len(all) > 0 {
			text += " (" + strings.Join(all, ", ") + ")"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}
