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
	// sumsKept is how many sums are told apart, and reasonsTold how many reasons a line names for each check.
	sumsKept    = 256
	reasonsTold = 3
)

// herald tells the log of changes of state. It belongs to the loop.
type herald struct {
	second time.Time // when the one that is counted began
	lines  int       // in it
	sums   map[sumOf]int
}

// sumOf is what is summed up.
type sumOf struct {
	check  string
	to     verdict.State
	reason string
}

// mayTell reports whether there is room for one more line now. If not, the change is summed up.
func (h *herald) mayTell(s sumOf, now time.Time) bool {
	h.tell(now)
	if now.Sub(h.second) >= time.Second {
		h.second, h.lines = now, 0
	}
	if h.lines++; h.lines <= linesASecond {
		return true
	}
	if h.sums == nil {
		h.sums = make(map[sumOf]int)
	}
	if _, known := h.sums[s]; !known && len(h.sums) >= sumsKept {
		s = sumOf{check: "other checks", to: s.to}
	}
	h.sums[s]++
	return false
}

// tell says what was summed up, if its second is over.
func (h *herald) tell(now time.Time) {
	if len(h.sums) == 0 || now.Sub(h.second) < time.Second {
		return
	}
	log.Warningf("within a second, besides these: %s", summary(h.sums))
	clear(h.sums)
}

// wait is how long the loop may rest on its account.
func (h *herald) wait(now time.Time) time.Duration {
	if len(h.sums) == 0 {
		return never
	}
	return max(0, time.Second-now.Sub(h.second))
}

// summary puts sums into words: how many of each check came to be what, and for which reasons, the most frequent first.
func summary(sums map[sumOf]int) string {
	total := make(map[sumOf]int)
	reasons := make(map[sumOf][]string)
	for _, s := range slices.SortedFunc(maps.Keys(sums), func(a, b sumOf) int { return cmp.Or(sums[b]-sums[a], cmp.Compare(a.reason, b.reason)) }) {
		of := sumOf{check: s.check, to: s.to}
		total[of] += sums[s]
		if s.reason != "" {
			reasons[of] = append(reasons[of], fmt.Sprintf("%s %d", s.reason, sums[s]))
		}
	}
	var words []string
	for _, of := range slices.SortedFunc(maps.Keys(total), func(a, b sumOf) int {
		return cmp.Or(total[b]-total[a], cmp.Compare(a.check, b.check), cmp.Compare(a.to, b.to))
	}) {
		text := fmt.Sprintf("%d of %s are %s", total[of], of.check, of.to)
		if all := reasons[of]; len(all) > reasonsTold {
			text += fmt.Sprintf(" (%s and %d other reasons)", strings.Join(all[:reasonsTold], ", "), len(all)-reasonsTold)
		} else if len(all) > 0 {
			text += " (" + strings.Join(all, ", ") + ")"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}
