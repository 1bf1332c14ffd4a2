package multivalue

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
	// linesASecond is how many changes of state have a line of their own in the log. Those beyond are summed up, in a line a
	// second: when a rack goes, the log must not be what is busy.
	linesASecond = 20
	// maxSums is how many sums are told apart, and reasonsTold how many reasons a line names for each check.
	maxSums    = 256
	maxReasons = 3
)

// transitionLog tells the log of changes of state. It belongs to the loop.
type transitionLog struct {
	second time.Time // when the one that is counted began
	lines  int       // in it
	sums   map[transitionKey]int
}

// transitionKey is what is summed up.
type transitionKey struct {
	check  string
	to     verdict.State
	reason string
}

// allow reports whether there is room for one more line now. If not, the change is summed up.
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

// flush says what was summed up, if its second is over.
func (h *transitionLog) flush(now time.Time) {
	if len(h.sums) == 0 || now.Sub(h.second) < time.Second {
		return
	}
	log.Warningf("within a second, besides these: %s", summary(h.sums))
	clear(h.sums)
}

// wait is how long the loop may rest on its account.
func (h *transitionLog) wait(now time.Time) time.Duration {
	if len(h.sums) == 0 {
		return never
	}
	return max(0, time.Second-now.Sub(h.second))
}

// summary puts sums into words: how many of each check came to be what, and for which reasons, the most frequent first.
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
