package gossip

import (
	"time"
)

const (
	// earlyWords is how far ahead a word may be to be kept until those before it arrive, earlyBytes what that costs for all members.
	earlyWords = 4096
	earlyBytes = 16 << 20
	// keepCost is what a batch that is kept costs beside its bytes: its place in a map, and what the allocator rounds up.
	keepCost = 128
	// heldAnswers is how many answers of a member wait for words, heldFor how long each does.
	heldAnswers = 64
	heldFor     = 5 * time.Second
	// A gap is asked for after askAfter, since what is missing may be on its way and is said again after sayAgain; then each
	// askEvery. The member counts as silent from gapTime on.
	askAfter = 300 * time.Millisecond
	askEvery = 500 * time.Millisecond
	gapTime  = time.Second
)

// inflow puts what one author says in order. It knows neither the network nor the listener: words go in, in any order and any number of
// times, and tell is called in the order of their numbers, once for each. due says what to ask for.
type inflow struct {
	delivered uint64            // the number of the last word that was told
	known     uint64            // the highest number that is known to have been said
	early     map[uint64][]byte // words that came before others
	total     *int              // bytes that what is kept costs, of all members
	since     time.Time         // when the gap began; the zero time if there is none
	askAt     time.Time         // when to ask for what is missing
	asked     bool              // it was asked for
	held      []heldAnswer
}

// heldAnswer is an answer that waits until the stream has come to its position.
type heldAnswer struct {
	position uint64
	batch    []byte
	until    time.Time
}

// startAfter starts the stream after a word.
func (f *inflow) startAfter(last uint64) {
	f.drop()
	f.delivered, f.known, f.since, f.asked = last, last, time.Time{}, false
}

// drop forgets what is kept.
func (f *inflow) drop() {
	for _, batch := range f.early {
		f.release(batch)
	}
	for _, a := range f.held {
		f.release(a.batch)
	}
	f.early, f.held = nil, nil
}

// startAgain goes on where an author says that it is. What it has not said is forgotten, and so is what waits for it.
func (f *inflow) startAgain(last uint64) { f.startAfter(min(f.delivered, last)) }

// keepCopy returns a copy of a batch, and counts it. What has come is a part of a message of up to two megabytes, all of which would be kept.
func (f *inflow) keepCopy(batch []byte) []byte {
	*f.total += len(batch) + keepCost
	return append(make([]byte, 0, len(batch)), batch...)
}

// release notes that a batch is not kept any longer.
func (f *inflow) release(batch []byte) { *f.total -= len(batch) + keepCost }

// hasRoom reports whether one more batch may be kept.
func (f *inflow) hasRoom(batch []byte) bool { return *f.total+len(batch)+keepCost <= earlyBytes }

// whole reports whether nothing is missing.
func (f *inflow) whole() bool { return f.delivered >= f.known }

// reach takes note of what the author has said so far. If what is missing cannot be had any longer, it calls restart, and the stream
// goes on after that.
func (f *inflow) reach(last, first uint64, now time.Time, restart func(), tell func(batch []byte)) {
	f.known = max(f.known, last)
	// Early words in front of the last one count for nothing: all that the author has is asked for anyway.
	if f.delivered+1 < first {
		f.delivered = max(f.delivered, last)
		for number, batch := range f.early {
			if number <= f.delivered {
				f.dropWord(number, batch)
			}
		}
		restart()
		f.tellAnswers(tell)
		f.advance(tell)
	}
	f.mind(now)
}

// hearWord takes a word. It keeps no part of it unless it is early.
func (f *inflow) hearWord(number uint64, batch []byte, now time.Time, tell func(batch []byte)) {
	switch {
	case number <= f.delivered: // a repetition
		return
	case number == f.delivered+1:
		f.delivered = number
		f.known = max(f.known, number)
		tell(batch)
		f.tellAnswers(tell)
		f.advance(tell)
	case f.early[number] == nil && number-f.delivered <= earlyWords && f.hasRoom(batch):
		if f.early == nil {
			f.early = make(map[uint64][]byte)
		}
		f.early[number] = f.keepCopy(batch)
		f.known = max(f.known, number)
	}
	f.mind(now)
}

// advance tells of early words whose turn it is.
func (f *inflow) advance(tell func(batch []byte)) {
	for {
		batch, ok := f.early[f.delivered+1]
		if !ok {
			return
		}
		f.delivered++
		f.dropWord(f.delivered, batch)
		tell(batch)
		f.tellAnswers(tell)
	}
}

// dropWord forgets an early word.
func (f *inflow) dropWord(number uint64, batch []byte) {
	delete(f.early, number)
	f.release(batch)
}

// mind notes whether there is a gap.
func (f *inflow) mind(now time.Time) {
	switch {
	case f.whole():
		f.since, f.asked = time.Time{}, false
	case f.since.IsZero():
		f.since, f.askAt = now, now.Add(askAfter)
	}
}

// answer takes votes that are true as of a position. Those of an earlier one are dropped: what was said since may be newer.
func (f *inflow) answer(position uint64, batch []byte, now time.Time, tell func(batch []byte)) {
	switch {
	case position == f.delivered:
		tell(batch)
	case position > f.delivered && position-f.delivered <= earlyWords && len(f.held) < heldAnswers && f.hasRoom(batch):
		f.held = append(f.held, heldAnswer{position, f.keepCopy(batch), now.Add(heldFor)})
	}
}

// tellAnswers tells of the answers whose turn it is, and drops those whose turn has passed.
func (f *inflow) tellAnswers(tell func(batch []byte)) {
	kept := f.held[:0]
	for _, a := range f.held {
		if a.position > f.delivered {
			kept = append(kept, a)
			continue
		}
		f.release(a.batch)
		if a.position == f.delivered {
			tell(a.batch)
		}
	}
	clear(f.held[len(kept):])
	f.held = kept
}

// expire drops answers that have waited for too long.
func (f *inflow) expire(now time.Time) {
	kept := f.held[:0]
	for _, a := range f.held {
		if now.Before(a.until) {
			kept = append(kept, a)
		} else {
			f.release(a.batch)
		}
	}
	clear(f.held[len(kept):])
	f.held = kept
}

// due is what to ask for now: up to maxRanges spans. isNew is whether the gap is asked for for the first time.
func (f *inflow) due(now time.Time) (missing []span, isNew bool) {
	if f.since.IsZero() || now.Before(f.askAt) {
		return nil, false
	}
	// What lies between the early words is missing, and what follows them up to the last one that is known.
	isNew = !f.asked
	f.asked, f.askAt = true, now.Add(askEvery)
	from := f.delivered + 1
	for n := from; n <= f.known && len(missing) < maxRanges; n++ {
		if f.early[n] == nil && n-f.delivered <= earlyWords {
			continue
		}
		if n > from {
			missing = append(missing, span{from, n - 1})
		}
		if from = n + 1; n-f.delivered > earlyWords {
			return missing, isNew // what is further ahead would not be kept
		}
	}
	if from <= f.known && len(missing) < maxRanges {
		missing = append(missing, span{from, min(f.known, f.delivered+earlyWords)})
	}
	return missing, isNew
}
