package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

// at is an instant some time after the process began.
func at(d time.Duration) clock.Instant { return clock.Instant(d) }

// change is a state from some instant on.
type change struct {
	from  clock.Instant
	state State
}

// naive is a target as a list of its changes: what a Line is compared with.
type naive []change

// during is how long the target was up and down between two instants, and how often it changed.
func (n naive) during(from, to clock.Instant) (up, down time.Duration, flips int) {
	for i, c := range n {
		end := to
		if i+1 < len(n) {
			end = min(end, n[i+1].from)
		}
		begin := max(from, c.from)
		if i > 0 && c.from >= from && c.from < to && n[i-1].state != Unknown && c.state != Unknown {
			flips++
		}
		if end > begin {
			switch c.state {
			case Up:
				up += end.Sub(begin)
			case Down:
				down += end.Sub(begin)
			}
		}
	}
	return up, down, flips
}

// longest is the longest time down between two instants.
func (n naive) longest(from, to clock.Instant) (longest time.Duration) {
	for i, c := range n {
		end := to
		if i+1 < len(n) {
			end = min(end, n[i+1].from)
		}
		if begin := max(from, c.from); c.state == Down && end > begin {
			longest = max(longest, end.Sub(begin))
		}
	}
	return longest
}

// falls is how often the target went down between two instants.
func (n naive) falls(from, to clock.Instant) (count int) {
	for i, c := range n {
		if i > 0 && c.from >= from && c.from < to && n[i-1].state == Up && c.state == Down {
			count++
		}
	}
	return count
}

// randomLife is a target that changes at random, seldom or often, with gaps of hours in between.
func randomLife(random *rand.Rand) (naive, clock.Instant) {
	scale := []time.Duration{20 * time.Second, time.Minute, 10 * time.Minute, 2 * time.Hour, 9 * time.Hour}[random.IntN(5)]
	now := at(time.Duration(random.Int64N(int64(3*time.Hour))) - time.Hour) // a bubble of synctest is before the process
	state := State(random.IntN(3))
	life := naive{{now, state}}
	for range random.IntN(30) {
		now = now.Add(time.Duration(random.Int64N(int64(scale))) + 3*time.Second)
		next := State(1 + random.IntN(2))
		if random.IntN(20) == 0 {
			next = Unknown
		}
		if next != state {
			state = next
			life = append(life, change{now, state})
		}
	}
	return life, now.Add(time.Duration(random.Int64N(int64(scale))) + 1)
}

// A line says the same as the list of all changes: each step what it was, and the sums right to ten seconds a step that has a change.
func TestLineAgainstChanges(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		life, now := randomLife(random)
		b := NewBook(life[0].from)
		l := b.Open(life[0].state, life[0].from)
		for _, c := range life[1:] {
			if random.IntN(3) == 0 { // looking at it changes nothing
				TrackOf(l.Copy(), Hour, c.from)
			}
			b.Enter(l, c.state, c.from)
		}
		for _, s := range []Span{Hour, Day} {
			if err := compare(life, l.Copy(), s, now); err != nil {
				t.Fatalf("seed %d, %s: %v\n%v", seed, s.Name, err, life)
			}
		}
	}
}

// compare finds the first difference between a line and the list.
func compare(life naive, l *Line, s Span, now clock.Instant) error {
	cells := l.cells(s, now)
	first := stepOf(now, s.Step) - int32(s.Steps-1)
	var up, down, slack time.Duration
	flips, capped := 0, false
	for i := range cells {
		from := begins(first+int32(i), s.Step)
		u, d, f := life.during(from, min(from.Add(s.Step), now))
		up, down, flips = up+u, down+d, flips+f
		want := markUnknown
		switch {
		case u+d < 2*time.Microsecond: // less than a step can tell
			want = cells[i].mark()
		case u > 0 && d > 0:
			want = markMixed
		case u > 0:
			want = markUp
		case d > 0:
			want = markDown
		}
		if u > 0 && d > 0 || f > 0 || u+d < s.Step { // an outage, or a step that is known in part
			slack += octetUnit
		}
		capped = capped || f > 2
		if got := cells[i].mark(); got != want && f == 0 && !(u > 0 && d > 0) {
			return fmt.Errorf("step %d is %s, want %s (%s up, %s down, %d flips)", i, got, want, u, d, f)
		} else if f > 0 && got != markMixed {
			return fmt.Errorf("step %d is %s with %d flips", i, got, f)
		}
	}
	sum := TrackOf(l.Copy(), s, now).Summary
	if off := math.Abs(sum.Down - down.Seconds()); off > slack.Seconds()+.01 {
		return fmt.Errorf("%g s down, want %s, within %s", sum.Down, down, slack)
	}
	if down > time.Millisecond && sum.Down == 0 {
		return fmt.Errorf("%s down is not told", down)
	}
	gaps := 0 // a change may be seen across a short gap in which nothing is known
	for _, c := range life {
		if c.state == Unknown {
			gaps++
		}
	}
	if !capped && sum.Transitions < flips || sum.Transitions > flips+gaps || capped && sum.Transitions < flips && !sum.More {
		return fmt.Errorf("%d transitions, want %d", sum.Transitions, flips)
	}
	if falls := life.falls(begins(first, s.Step), now); gaps == 0 && !sum.More && sum.Falls != falls {
		return fmt.Errorf("went down %d times, want %d", sum.Falls, falls)
	}
	longest := life.longest(begins(first, s.Step), now)
	if off := math.Abs(sum.Longest - longest.Seconds()); off > 2*s.Step.Seconds() && (gaps == 0 || sum.Longest < longest.Seconds()) {
		return fmt.Errorf("%g s down at the longest, want %s", sum.Longest, longest)
	}
	return nil
}

// A day with three minutes of trouble reads as people expect it: up 99.8 %, two transitions, longest three minutes.
func TestSummaryOfADay(t *testing.T) {
	b := NewBook(at(0))
	l := b.Open(Up, at(0))
	b.Enter(l, Down, at(20*time.Hour+7*time.Second))
	b.Enter(l, Up, at(20*time.Hour+3*time.Minute+7*time.Second))
	now := at(30 * time.Hour)
	for _, copied := range []*Line{l.Copy(), l.Copy().Copy()} {
		sum := TrackOf(copied, Day, now).Summary
		if sum.Transitions != 2 || sum.More || sum.Longest != 180 || sum.Down != 180 || sum.Share == nil || math.Abs(*sum.Share-.9979) > .0001 {
			t.Errorf("%+v", sum)
		}
	}
	for _, second := range []time.Duration{10, 90} { // both in one step
		b.Enter(l, Down, now.Add(-2*time.Hour+second*time.Second))
		b.Enter(l, Up, now.Add(-2*time.Hour+(second+20)*time.Second))
	}
	if sum := TrackOf(l.Copy(), Day, now).Summary; sum.Longest != 180 || sum.Down != 220 || !sum.More || sum.Transitions < 5 {
		t.Errorf("with two more: %+v", sum)
	}
	if sum := TrackOf(l.Copy(), Day, now.Add(18*time.Hour)).Summary; sum.Longest != 20 {
		t.Errorf("two outages in one step: %+v", sum)
	}
	if sum := TrackOf(l.Copy(), Hour, now).Summary; sum.Transitions != 0 || sum.Down != 0 || *sum.Share != 1 || sum.Known < 3590 {
		t.Errorf("the last hour: %+v", sum)
	}
	if sum := TrackOf(nil, Day, now).Summary; sum.Share != nil || sum.Known != 0 {
		t.Errorf("nothing: %+v", sum)
	}
}

// A step of the day with a moment down is not shown as one without, nor one with a moment up as all down.
func TestMomentsAreTold(t *testing.T) {
	b := NewBook(at(0))
	l := b.Open(Up, at(0))
	b.Enter(l, Down, at(time.Hour+time.Minute))
	b.Enter(l, Up, at(time.Hour+time.Minute+2*time.Second))
	b.Enter(l, Down, at(2*time.Hour))
	b.Enter(l, Up, at(2*time.Hour+5*time.Minute-time.Second))
	if sum := TrackOf(l.Copy(), Day, at(10*time.Hour)).Summary; sum.Down != 10+290 || sum.Longest != 290 {
		t.Errorf("%+v", sum)
	}
}

// The time down of a step that is known in part is what was down in it: right to ten seconds for each of two outages.
func TestStepKnownInPart(t *testing.T) {
	b := NewBook(at(0))
	l := b.Open(Unknown, at(0))
	b.Enter(l, Down, at(5*time.Minute-2*time.Second))
	b.Enter(l, Up, at(5*time.Minute))
	b.Enter(l, Unknown, at(10*time.Minute))
	b.Enter(l, Down, at(13*time.Minute))
	b.Enter(l, Up, at(15*time.Minute))
	for _, s := range []Span{Hour, Day} {
		if sum := TrackOf(l.Copy(), s, at(40*time.Minute)).Summary; math.Abs(sum.Down-122) > 20 || math.Abs(sum.Longest-120) > 10 {
			t.Errorf("%s: %+v", s.Name, sum)
		}
	}
}

// A name is down only while all of its addresses are, and an address while any of its checks is.
func TestNameTrack(t *testing.T) {
	b := NewBook(at(0))
	lines := []*Line{b.Open(Up, at(0)), b.Open(Up, at(0)), b.Open(Up, at(0))} // two checks of one address, one of the other
	b.Enter(lines[0], Down, at(10*time.Minute))
	b.Enter(lines[2], Down, at(20*time.Minute))
	b.Enter(lines[0], Up, at(30*time.Minute))
	b.Enter(lines[2], Up, at(40*time.Minute))
	now := at(50 * time.Minute)
	copies := [][]*Line{{lines[0].Copy(), lines[1].Copy()}, {lines[2].Copy()}}
	track := NameTrack(copies, Hour, now)
	var states []string
	for _, r := range track.Runs {
		states = append(states, fmt.Sprint(r.State, r.To.Sub(r.From).Round(time.Minute)))
	}
	if want := []string{"unknown10m0s", "up10m0s", "mixed10m0s", "down10m0s", "mixed10m0s", "up10m0s"}; !slices.Equal(states, want) {
		t.Errorf("%v, want %v", states, want)
	}
	if sum := track.Summary; sum.Transitions != 2 || sum.Falls != 2 || sum.Longest < 590 || sum.Longest > 610 || math.Abs(sum.Some-1200) > 40 {
		t.Errorf("%+v", sum)
	}
}

// The whole counts what all lines are, at each step, also over a gap that is longer than its rings.
func TestWhole(t *testing.T) {
	b := NewBook(at(0))
	var lines []*Line
	for range 5 {
		lines = append(lines, b.Open(Unknown, at(time.Second)))
	}
	for _, l := range lines {
		b.Enter(l, Up, at(2*time.Second))
	}
	b.Enter(lines[0], Down, at(11*time.Second))
	b.Enter(lines[1], Down, at(12*time.Second))
	b.Enter(lines[1], Up, at(13*time.Second))
	b.Close(lines[4], at(14*time.Second))
	read := func(now clock.Instant) ([]Counts, *Whole) {
		var r Reading
		b.Read(&r, now)
		all, _ := r.Whole.Steps(Hour, now)
		return all, r.Whole
	}
	all, _ := read(at(25 * time.Second))
	if got, want := all[len(all)-3:], []Counts{{0, 5, 0, 0, true}, {0, 3, 1, 2, true}, {0, 3, 1, 1, true}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if all[len(all)-4].Known {
		t.Error("it is known what was before the book")
	}
	all, _ = read(at(100 * time.Hour))
	for i, c := range all {
		if c != (Counts{0, 3, 1, 1, true}) {
			t.Fatalf("step %d after a gap: %v", i, c)
		}
	}
}

// Quantiles are right to a quarter of what they are, whatever the number of probes, and those of an hour ago are gone.
func TestLatency(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 10, 360, 3600} {
		b := NewBook(at(0))
		l := b.Open(Up, at(0))
		l.Took(5*time.Second, at(0)) // too old to count
		var all []float64
		for i := range n {
			d := time.Duration(float64(3*time.Millisecond) * math.Exp(random.NormFloat64()/3))
			if random.IntN(50) == 0 {
				d *= 40
			}
			all = append(all, d.Seconds())
			l.Took(d, at(2*time.Hour+time.Duration(i)*time.Second/2))
		}
		slices.Sort(all)
		got := LatencyOf(at(2*time.Hour+30*time.Minute), l.Copy())
		for _, q := range []struct{ got, want float64 }{{got.Median, all[n/2]}, {got.P99, all[n*99/100]}} {
			if n > 300 && math.Abs(math.Log(q.got/q.want)) > math.Log(1.5) || q.got <= 0 {
				t.Errorf("%d probes: %g, want %g", n, q.got, q.want)
			}
		}
		if later := LatencyOf(at(4*time.Hour), l.Copy()); later != (Latency{}) {
			t.Errorf("an hour later: %+v", later)
		}
	}
}

// Each quarter of an hour, what is older than an hour goes.
func TestLatencyPasses(t *testing.T) {
	b := NewBook(at(0))
	l := b.Open(Up, at(0))
	for range 100 {
		l.Took(3*time.Second, at(time.Minute))
	}
	for i := range 90 {
		if i == 20 {
			l.Took(3*time.Second, at(20*time.Minute))
		}
		l.Took(2*time.Millisecond, at(time.Duration(i)*time.Minute))
		if got := LatencyOf(at(time.Duration(i)*time.Minute), l.Copy()); (got.P99 > 1) != (i < 75) {
			t.Fatalf("after %d minutes: %+v", i, got)
		}
	}
}

// The last events are kept, no more.
func TestEventsAreBounded(t *testing.T) {
	b := NewBook(at(time.Second))
	for i := range 1000 {
		b.NoteEvent(Reloaded, fmt.Sprint(i), at(time.Duration(i)*time.Second))
	}
	var r Reading
	b.Read(&r, at(time.Hour))
	if len(r.Events) != maxEvents || r.Events[maxEvents-1].Text != "999" || cap(b.events) > 2*maxEvents {
		t.Errorf("%d events, the last is %v", len(r.Events), r.Events[len(r.Events)-1])
	}
}

// A line takes at most 700 bytes with the day, by the memory that it really takes; beyond 32 MiB of all lines a new one has the
// hour alone (B117).
func TestMemory(t *testing.T) {
	const n = 100_000
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	lines := make([]*Line, n)
	b := NewBook(at(0))
	before, enough := used(), MaxBytes/(hourBytes+dayBytes)
	for i := range enough {
		lines[i] = b.Open(Up, at(0))
	}
	days := int(used()-before) / enough
	before = used()
	for i := enough; i < n; i++ {
		lines[i] = b.Open(Up, at(0))
	}
	hours := int(used()-before) / (n - enough)
	t.Logf("%d bytes a target with the day, %d with the hour alone; Sizeof %d", days, hours, unsafe.Sizeof(Line{}))
	if days > 700 || days > hourBytes+dayBytes+8 || hours > hourBytes+8 {
		t.Errorf("%d bytes a target with the day, and %d with the hour alone; want %d and %d at most", days, hours, hourBytes+dayBytes, hourBytes)
	}
	with := 0
	for _, l := range lines {
		if l.HasDay() {
			with++
		}
	}
	if with == 0 || with > enough || with*(hourBytes+dayBytes) > MaxBytes {
		t.Errorf("%d lines have the day", with)
	}
	for _, l := range lines[:10] {
		b.Close(l, at(0))
	}
	for _, l := range lines[10:] {
		b.Close(l, at(0))
	}
	if b.bytes != 0 || !b.Open(Up, at(0)).HasDay() {
		t.Errorf("%d bytes are counted for no line", b.bytes)
	}
	runtime.KeepAlive(lines)
}

// Lines that inherit keep their days when there is no room for more, and so do those that they have inherited from if they go first;
// what they take is counted (B117).
func TestInheritKeepsDays(t *testing.T) {
	const n = 40_000
	for _, fails := range []bool{true, false} {
		b, lines := NewBook(at(0)), make([]*Line, n)
		for i := range lines {
			lines[i] = b.Open(Up, at(0))
			b.Enter(lines[i], Down, at(time.Hour))
		}
		before := b.bytes
		heirs, heirsOfHeirs := make([]*Line, n), make([]*Line, n)
		for i, l := range lines {
			heirs[i] = b.Inherit(l)
			heirsOfHeirs[i] = b.Inherit(heirs[i])
		}
		if again := b.Inherit(lines[0]); again != nil {
			t.Error("a line has two heirs")
		}
		stay := lines
		if fails {
			closeAll(b, heirs, heirsOfHeirs)
		} else {
			stay = heirsOfHeirs
			closeAll(b, heirs, lines)
		}
		for i, l := range stay {
			if day := TrackOf(l.Copy(), Day, at(3*time.Hour)).Summary; !l.HasDay() || day.Longest != 7200 {
				t.Fatalf("line %d of %d: %+v", i, n, day)
			}
		}
		var r Reading
		b.Read(&r, at(3*time.Hour))
		if r.Whole.now != [3]uint32{Down: n} || b.bytes != before {
			t.Errorf("%v targets, and %d bytes are counted, want %d", r.Whole.now, b.bytes, before)
		}
		if closeAll(b, stay); b.bytes != 0 || b.whole.now != [3]uint32{} || len(b.heirs)+len(b.elders) != 0 {
			t.Errorf("%d bytes are counted for no line, and %v targets", b.bytes, b.whole.now)
		}
	}
}

// closeAll closes lines.
func closeAll(b *Book, all ...[]*Line) {
	for _, lines := range all {
		for _, l := range lines {
			b.Close(l, at(2*time.Hour))
		}
	}
}

// Nothing is kept without a book.
func TestNoBook(t *testing.T) {
	var b *Book
	l := b.Open(Up, at(0))
	b.Enter(l, Down, at(1))
	l.Took(time.Second, at(1))
	b.Close(l, at(2))
	b.NoteEvent(Reloaded, "", at(2))
	var r Reading
	b.Read(&r, at(3))
	if l != nil || r.Whole != nil || r.Events != nil || l.Copy() != nil {
		t.Error("something is kept")
	}
}

// BenchmarkTook measures what a successful probe costs.
func BenchmarkTook(b *testing.B) {
	book := NewBook(at(0))
	l := book.Open(Up, at(0))
	now := at(0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Second)
		l.Took(3*time.Millisecond, now)
	}
}

// BenchmarkSet measures a change of state after a quarter of an hour.
func BenchmarkSet(b *testing.B) {
	book := NewBook(at(0))
	l := book.Open(Up, at(0))
	now, state := at(0), Up
	b.ReportAllocs()
	for b.Loop() {
		now, state = now.Add(15*time.Minute), 3-state
		book.Enter(l, state, now)
	}
}
