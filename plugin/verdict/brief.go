package verdict

import "math/bits"

// Brief is the part of a verdict that a query needs, in one word: the state, since when, how long it holds, and how much of its
// weight the address wants. A query reads it with one atomic load, and so one address costs it one cache line. The zero value
// is Unknown, and wants all of its weight.
//
//	bits 63-62  state
//	bit  61     drained: by a forced state, or because the backend says so
//	bits 60-54  how many per cent of its weight the backend does not want
//	bits 53-42  how long the state holds, in seconds, as packHolds writes it
//	bits 41-0   when the state was entered, in milliseconds since 1970; of an unchecked address, the Gap
//
// An address that is down has neither the mark nor a weight.
type Brief uint64

const (
	sinceBits = 42 // enough until the year 2109
	holdsBits = 12
	shedBits  = 7

	shedShift  = sinceBits + holdsBits
	drained    = Brief(1) << (shedShift + shedBits)
	wishes     = drained | (1<<shedBits-1)<<shedShift
	stateShift = shedShift + shedBits + 1
)

// BriefDown is the Brief of an address that counts as down and was never up, such as one that is forced down.
const BriefDown = Brief(Down) << stateShift

// Brief packs the verdict. Holds is rounded down, so a TTL made from it is never too long.
func (v Verdict) Brief() Brief {
	if v.State == Unchecked { // there is nothing else to say of it
		return Outside.Brief()
	}
	since := uint64(0)
	if !v.Since.IsZero() {
		since = min(uint64(max(0, v.Since.UnixMilli())), 1<<sinceBits-1)
	}
	b := pack(v.State, since, uint64(max(0, v.Holds.Seconds())))
	if v.Said != nil {
		b = b.Shedding(100 - v.Said.Weight())
		if v.Said.Drains() {
			b = b.Drain()
		}
	}
	return b
}

// Weight is how much of its weight the address wants, in per cent, as its backend says. It is 100 for one that is down.
func (b Brief) Weight() uint8 { return 100 - b.shed() }

// shed is how many per cent of its weight the backend does not want.
func (b Brief) shed() uint8 { return uint8(b>>shedShift) & (1<<shedBits - 1) }

// Plain is the verdict without what the backend wants.
func (b Brief) Plain() Brief { return b &^ wishes }

// Shedding is the brief of an address that does not want at least so many per cent of its weight, 100 at most.
func (b Brief) Shedding(shed uint8) Brief {
	if b.State() == Down || shed <= b.shed() {
		return b
	}
	return b&^((1<<shedBits-1)<<shedShift) | Brief(shed)<<shedShift
}

// State unpacks the state.
func (b Brief) State() State { return State(b >> stateShift) }

// Drain marks the address as drained: it is served only if no other healthy address can be. An address that is down stays
// just down.
func (b Brief) Drain() Brief {
	if b.State() == Down {
		return b
	}
	return b | drained
}

// forcedUp is the Brief of an address that is up by hand alone. Since then it is up since always, so that it has its full share of
// samples. No measured address has come up a millisecond after 1970, so it is told from those.
const forcedUp = Brief(Up)<<stateShift | 1

// ForceUp makes an address count as up, whatever is measured and whatever its backend wants. One that is measured up keeps how long that
// holds. One that no check covers stays unchecked: it is served either way, and there is no verdict to bound its TTL.
func (b Brief) ForceUp() Brief {
	switch b.State() {
	case Up:
		return pack(Up, 0, uint64(b.Holds()))
	case Unchecked:
		return b
	}
	return forcedUp
}

// ForcedUp reports whether the address counts as up by hand alone: it is not measured up.
func (b Brief) ForcedUp() bool { return b == forcedUp }

// Drained reports whether the address is marked as drained. A drained address is never down.
func (b Brief) Drained() bool { return b&drained != 0 }

// Holds is how long the state is sure to hold after the last result, in seconds.
func (b Brief) Holds() uint32 { return uint32(unpackHolds(uint64(b>>sinceBits) & (1<<holdsBits - 1))) }

// Holds is kept as a small floating-point number: eight bits, below which come as many zeros as four bits say. It is exact
// up to 512 seconds, then at most 1/256 too short, and reaches 97 days.
const (
	mantissaBits = 8
	longestHold  = (2<<mantissaBits - 1) << (1<<(holdsBits-mantissaBits) - 2)
)

// packHolds packs a number of seconds. It rounds down.
func packHolds(seconds uint64) uint64 {
	seconds = min(seconds, longestHold)
	if seconds < 1<<mantissaBits {
		return seconds
	}
	zeros := bits.Len64(seconds) - mantissaBits - 1
	return uint64(zeros+1)<<mantissaBits | seconds>>zeros&(1<<mantissaBits-1)
}

// unpackHolds returns the seconds that packHolds has packed.
func unpackHolds(packed uint64) uint64 {
	exponent, mantissa := packed>>mantissaBits, packed&(1<<mantissaBits-1)
	if exponent == 0 {
		return mantissa
	}
	return (1<<mantissaBits | mantissa) << (exponent - 1)
}

// Since is when the state was entered, in milliseconds since 1970; 0 for a target that was never decided. It means nothing
// for an unchecked one.
func (b Brief) Since() uint64 { return uint64(b) & (1<<sinceBits - 1) }

// Worse returns the verdict that decides when both checks of an address must pass. Down decides over unknown, unknown over
// up, and anything over unchecked. If both are in the same state, the one that holds for less decides; if both are down,
// the one that went down first, since the address has been unfit for as long. If either is drained, the result is, and the
// least weight counts.
func Worse(a, b Brief) Brief {
	x, y := severity[a.State()], severity[b.State()]
	worse := a
	switch {
	case x != y:
		if y > x {
			worse = b
		}
	case a.State() == Down && a.Since() != b.Since():
		if b.Since() < a.Since() {
			worse = b
		}
	case b.Holds() < a.Holds():
		worse = b
	}
	if (a|b)&wishes == 0 {
		return worse
	}
	return worse.withWishes(a).withWishes(b)
}

// withWishes adds to a verdict what the backend wants according to another check of it: the mark, and a lower weight.
func (b Brief) withWishes(other Brief) Brief {
	if other.Drained() {
		b = b.Drain()
	}
	return b.Shedding(other.shed())
}

// Better returns the verdict that decides when one healthy address is enough, as for the addresses of one host. A fit one
// is better than a drained one, and a drained one than one that is down. If both are fit, the one that holds for longer is
// better; if both are down, the one that was up more recently.
func Better(a, b Brief) Brief {
	switch x, y := a.State().Fit(), b.State().Fit(); {
	case x != y:
		if y {
			return b
		}
	case a.Drained() != b.Drained():
		if a.Drained() {
			return b
		}
	case !x:
		if b.Since() > a.Since() {
			return b
		}
	case b.State() == Unchecked || (a.State() != Unchecked && b.Holds() > a.Holds()):
		return b // an unchecked address holds forever
	}
	return a
}

// severity orders the states for Worse and Quorum, the best one first.
var severity = [...]uint8{Unchecked: 0, Up: 1, Unknown: 2, Down: 3}
