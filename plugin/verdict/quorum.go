package verdict

import (
	"cmp"
	"slices"
)

// Quorum combines the verdicts of several checks of one address, need of which must pass: the state is the worst one of
// the best need verdicts. need is from 1 to len(all). Quorum reorders all.
//
// The states are ordered unchecked, up, unknown, down: while a check is undecided its address may still prove good, so it
// counts as better than down.
//
// The result has held since the latest change that it depends on, and it holds until enough other verdicts could change to
// change it.
//
// The address is drained if any check that is not down says so, and the least weight that any of those reports counts, also if
// that check is not among the best: what a backend wants is no matter of counting. What it said before a check of it went
// down counts no longer.
func Quorum(all []Brief, need int) Brief {
	marks := Brief(0)
	for _, b := range all {
		marks |= b
	}
	result := quorum(all, need)
	if marks&wishes == 0 {
		return result // as for nearly all addresses
	}
	for _, b := range all {
		result = result.withWishes(b)
	}
	return result
}

// quorum is Quorum without regard to what backends want.
func quorum(all []Brief, need int) Brief {
	slices.SortFunc(all, func(a, b Brief) int { return cmp.Compare(severity[a.State()], severity[b.State()]) })
	state := all[need-1].State()
	first := slices.IndexFunc(all, func(b Brief) bool { return b.State() == state })
	same, rank := all[first:], need-1-first // rank: how many of the same state the quorum could lose
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
		return same[0] &^ wishes // an unchecked state holds forever and an unknown one not at all, so all of them are equal
	}
}

// valueAtRank returns the value of the given rank: 0 for the smallest. It sorts all.
func valueAtRank(all []Brief, of func(Brief) uint64, rank int) uint64 {
	slices.SortFunc(all, func(a, b Brief) int { return cmp.Compare(of(a), of(b)) })
	return of(all[rank])
}

// sinceKey and holdsKey are the keys that Quorum ranks verdicts by.
func (b Brief) sinceKey() uint64 { return b.Since() }
func (b Brief) holdsKey() uint64 { return uint64(b.Holds()) }

// pack packs a state, the milliseconds since 1970 when it began, and the seconds that it holds.
func pack(state State, since, holds uint64) Brief {
	return Brief(uint64(state)<<stateShift | packHolds(holds)<<sinceBits | since)
}
