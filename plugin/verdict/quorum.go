package verdict

import (
	"cmp"
	"slices"
)

// Quorum returns what several verdicts come to when need of them must be good, which is from 1 to their number: the state
// is the worst of the need best ones. Unknown stands between up and down: what may yet turn out good is served. It
// holds until so many others could have changed that the result does, and it began when the last of those did that it
// takes. No verdict may be drained. The order of all is lost.
func Quorum(all []Brief, need int) Brief {
	slices.SortFunc(all, func(a, b Brief) int { return cmp.Compare(severity[a.State()], severity[b.State()]) })
	state := all[need-1].State()
	first := slices.IndexFunc(all, func(b Brief) bool { return b.State() == state })
	same, rank := all[first:], need-1-first
	for i, b := range same {
		if b.State() != state {
			same = same[:i]
			break
		}
	}
	switch state {
	case Up:
		return pack(state, valueAtRank(same, Brief.sinceKey, rank), valueAtRank(same, Brief.holdsKey, len(same)-1-rank))
	case Down:
		return pack(state, valueAtRank(same, Brief.sinceKey, len(same)-1-rank), valueAtRank(same, Brief.holdsKey, rank))
	default:
		return same[0] // unchecked holds for ever, and unknown not at all
	}
}

// valueAtRank is the value that has so many smaller ones before it.
func valueAtRank(all []Brief, of func(Brief) uint64, rank int) uint64 {
	slices.SortFunc(all, func(a, b Brief) int { return cmp.Compare(of(a), of(b)) })
	return of(all[rank])
}

func (b Brief) sinceKey() uint64 { return b.Since() }
func (b Brief) holdsKey() uint64 { return uint64(b.Holds()) }

// pack packs a state, the milliseconds since 1970 when it began, and the seconds that it holds.
func pack(state State, since, holds uint64) Brief {
	return Brief(uint64(state)<<stateShift | holds<<sinceBits | since)
}
