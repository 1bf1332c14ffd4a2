package gossip

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// flow is an inflow that writes down what it tells.
type flow struct {
	inflow
	told  []string
	total int
	now   time.Time
}

func newFlow(last uint64) *flow {
	f := &flow{now: time.Now()}
	f.inflow.total = &f.total
	f.startAfter(last)
	return f
}

func (f *flow) tell(batch []byte) { f.told = append(f.told, string(batch)) }
func (f *flow) word(numbers ...int) {
	for _, n := range numbers {
		f.hearWord(uint64(n), fmt.Append(nil, n), f.now, f.tell)
	}
}
func (f *flow) beat(last, first uint64) {
	f.reach(last, first, f.now, func() { f.told = append(f.told, "restart") }, f.tell)
}
func (f *flow) got() string {
	text := strings.Join(f.told, " ")
	f.told = nil
	return text
}

// Words are told in order and once, early ones when their turn has come, and what is missing is known.
func TestInflowOrder(t *testing.T) {
	f := newFlow(4)
	f.word(4, 7, 5, 5, 7, 9)
	if got := f.got(); got != "5" || f.whole() {
		t.Errorf("told %q", got)
	}
	if missing, _ := f.due(f.now); missing != nil {
		t.Errorf("asked at once for %v", missing)
	}
	f.beat(12, 1)
	missing, isNew := f.due(f.now.Add(askAfter))
	if fmt.Sprint(missing) != "[{6 6} {8 8} {10 12}]" || !isNew {
		t.Errorf("missing %v, %t", missing, isNew)
	}
	if missing, _ := f.due(f.now.Add(askAfter)); missing != nil {
		t.Errorf("asked again at once for %v", missing)
	}
	if missing, isNew := f.due(f.now.Add(askAfter + askEvery)); len(missing) != 3 || isNew {
		t.Errorf("asked again for %v, %t", missing, isNew)
	}
	f.word(8, 6, 12, 11, 10)
	if got := f.got(); got != "6 7 8 9 10 11 12" || !f.whole() || f.total != 0 || !f.since.IsZero() {
		t.Errorf("told %q, %d bytes kept", got, f.total)
	}
}

// Answers are told at their position, and never behind it.
func TestInflowAnswers(t *testing.T) {
	f := newFlow(0)
	f.answer(0, []byte("now"), f.now, f.tell)
	f.answer(2, []byte("later"), f.now, f.tell)
	f.answer(4, []byte("expired"), f.now.Add(-heldFor), f.tell)
	f.expire(f.now)
	f.word(2, 3, 1, 4)
	f.answer(3, []byte("late"), f.now, f.tell)
	if got := f.got(); got != "now 1 2 later 3 4" || f.total != 0 {
		t.Errorf("told %q, %d bytes kept", got, f.total)
	}
	for range heldAnswers + 10 {
		f.answer(9, []byte("x"), f.now, f.tell)
	}
	if len(f.held) != heldAnswers {
		t.Errorf("%d are kept", len(f.held))
	}
}

// What the author does not keep any longer begins the stream again, in front of all that follows.
func TestInflowRestart(t *testing.T) {
	f := newFlow(0)
	f.word(1, 6, 11, 12)
	f.answer(10, []byte("answer"), f.now, f.tell)
	f.beat(10, 2)
	if got := f.got(); got != "1" {
		t.Errorf("told %q, though all can still be had", got)
	}
	f.beat(10, 3)
	if got := f.got(); got != "restart answer 11 12" || !f.whole() || f.total != 0 {
		t.Errorf("told %q, %d bytes kept", got, f.total)
	}
}

// What is far ahead is neither kept nor asked for, and all members together have a bound.
func TestInflowBounds(t *testing.T) {
	f := newFlow(0)
	f.word(earlyWords+1, earlyWords)
	f.beat(1<<40, 1)
	if len(f.early) != 1 {
		t.Errorf("%d kept", len(f.early))
	}
	missing, _ := f.due(f.now.Add(askAfter))
	if fmt.Sprint(missing) != fmt.Sprintf("[{1 %d}]", earlyWords-1) {
		t.Errorf("missing %v", missing)
	}
	f.hearWord(3, make([]byte, earlyBytes), f.now, f.tell)
	if len(f.early) != 1 {
		t.Errorf("%d bytes kept", f.total)
	}
}

// What is kept is a copy that costs more than its bytes, and all of it is given back: the message that it came in may be far longer.
func TestInflowKeepsCopies(t *testing.T) {
	f := newFlow(0)
	long := make([]byte, 1<<20)
	f.hearWord(3, long[:1], f.now, f.tell)
	f.answer(2, long[1:2], f.now, f.tell)
	if kept, held := f.early[3], f.held[0].batch; cap(kept) > keepCost || cap(held) > keepCost || f.total != 2*(1+keepCost) {
		t.Errorf("%d and %d bytes are kept, and %d counted", cap(kept), cap(held), f.total)
	}
	for n := 2; n < 2*earlyBytes/keepCost; n++ {
		f.hearWord(uint64(2+n%earlyWords), nil, f.now, f.tell)
		f.inflow.delivered += uint64(n / earlyWords % 2) // others come into reach
	}
	if f.total > earlyBytes {
		t.Errorf("%d bytes are kept", f.total)
	}
	f.drop()
	if f.total != 0 {
		t.Errorf("%d bytes are not given back", f.total)
	}
}

// Any order, with losses that are repaired, gives the same stream.
func TestInflowShuffled(t *testing.T) {
	for range 200 {
		f := newFlow(0)
		const words = 60
		order := rand.Perm(words)
		kept := slices.DeleteFunc(order, func(int) bool { return rand.IntN(3) == 0 })
		for _, n := range kept {
			f.word(n+1, n+1)
		}
		f.beat(words, 1)
		for rounds := 0; !f.whole(); rounds++ {
			f.now = f.now.Add(askEvery)
			missing, _ := f.due(f.now)
			for _, s := range missing {
				for n := s.from; n <= s.to; n++ {
					f.word(int(n))
				}
			}
			if rounds > 10 {
				t.Fatalf("still missing: %v", missing)
			}
		}
		for i, text := range f.told {
			if text != fmt.Sprint(i+1) {
				t.Fatalf("%s at place %d", text, i)
			}
		}
		if len(f.told) != words || f.total != 0 {
			t.Fatalf("%d words, %d bytes", len(f.told), f.total)
		}
	}
}

// The log keeps so many votes and bytes, and knows which words are gone.
func TestWordLog(t *testing.T) {
	var l wordLog
	for i := range 100 {
		l.push(word{make([]byte, 10), logVotes / 10})
		if l.last() != uint64(i+1) || l.votes > logVotes || l.at(l.gone) != nil || l.at(l.gone+1) == nil || l.at(l.last()) == nil || l.at(l.last()+1) != nil {
			t.Fatalf("%d words, %d gone, %d votes", len(l.words), l.gone, l.votes)
		}
	}
	if len(l.words) != 10 || l.gone != 90 {
		t.Errorf("%d words, %d gone", len(l.words), l.gone)
	}
	l.push(word{make([]byte, logBytes), 1})
	if len(l.words) != 1 || l.bytes != logBytes {
		t.Errorf("%d words, %d bytes", len(l.words), l.bytes)
	}
}
