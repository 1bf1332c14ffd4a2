package verdict

// Brief is the part of a verdict that a query needs, in one word: the state, since when, and how long it holds. A query
// reads it with one atomic load, and so one address costs it one cache line. The zero value is Unknown.
//
//	bits 63-62  state
//	bit  61     drained: set by a forced state, never by a probe
//	bits 60-42  how long the state holds, in seconds
//	bits 41-0   when the state was entered, in milliseconds since 1970; of an unchecked address, the Gap
type Brief uint64

const (
	sinceBits = 42 // enough until the year 2109
	holdsBits = 19 // six days; longer holds are cut to that

	drained    = Brief(1) << (sinceBits + holdsBits)
	stateShift = sinceBits + holdsBits + 1
)

// BriefDown is the Brief of an address that counts as down and was never up, such as one that is forced down.
const BriefDown = Brief(Down) << stateShift

// Brief packs the verdict. Holds is rounded down to whole seconds, so a TTL made from it is never too long.
func (v Verdict) Brief() Brief {
	if v.State == Unchecked { // there is nothing else to say of it
		return Outside.Brief()
	}
	since := uint64(0)
	if !v.Since.IsZero() {
		since = min(uint64(max(0, v.Since.UnixMilli())), 1<<sinceBits-1)
	}
	holds := min(uint64(max(0, v.Holds.Seconds())), 1<<holdsBits-1)
	return pack(v.State, since, holds)
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

// Drained reports whether the address is marked as drained. A drained address is never down.
func (b Brief) Drained() bool { return b&drained != 0 }

// Holds is how long the state is sure to hold after the last result, in seconds.
func (b Brief) Holds() uint32 { return uint32(b>>sinceBits) & (1<<holdsBits - 1) }

// Since is when the state was entered, in milliseconds since 1970; 0 for a target that was never decided. It means nothing
// for an unchecked one.
func (b Brief) Since() uint64 { return uint64(b) & (1<<sinceBits - 1) }

// Worse returns the verdict that decides when both checks of an address must pass. Down decides over unknown, unknown over
// up, and anything over unchecked. If both are in the same state, the one that holds for less decides; if both are down,
// the one that went down first, since the address has been unfit for as long. If either is drained, the result is.
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
	if a.Drained() || b.Drained() {
		return worse.Drain()
	}
	return worse
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
