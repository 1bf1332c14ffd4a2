package verdict

// Brief is what a query needs to know of a verdict: its state, since when, and how long it holds, in one word. So one
// atomic load reads all of it, and an address costs a query one line of the processor's cache. Its zero value is
// Unknown.
//
// The state has the highest 2 bits, whether the address is drained the next one, the seconds that the state holds the
// next 19, and the milliseconds since 1970 the rest. A verdict has no such mark: whoever looks the address up adds it.
type Brief uint64

const (
	sinceBits = 42 // until the year 2109
	holdsBits = 19 // six days; what holds longer is cut to that

	drained    = Brief(1) << (sinceBits + holdsBits)
	stateShift = sinceBits + holdsBits + 1
)

// BriefUnchecked is the Brief of an address that no check covers.
const BriefUnchecked = Brief(Unchecked) << stateShift

// BriefDown is the Brief of an address that counts as down and was never up.
const BriefDown = Brief(Down) << stateShift

// Brief packs the verdict. What it holds is cut to whole seconds.
func (v Verdict) Brief() Brief {
	since := uint64(0)
	if !v.Since.IsZero() {
		since = min(uint64(max(0, v.Since.UnixMilli())), 1<<sinceBits-1)
	}
	holds := min(uint64(max(0, v.Holds.Seconds())), 1<<holdsBits-1)
	return pack(v.State, since, holds)
}

// State is the state.
func (b Brief) State() State { return State(b >> stateShift) }

// Drain marks the address as drained: it goes out only where no other that is fit can. One that is down is just down.
func (b Brief) Drain() Brief {
	if b.State() == Down {
		return b
	}
	return b | drained
}

// Drained reports whether the address is fit, and drained.
func (b Brief) Drained() bool { return b&drained != 0 }

// Holds is how long the state is sure to hold from the last result on, in seconds.
func (b Brief) Holds() uint32 { return uint32(b>>sinceBits) & (1<<holdsBits - 1) }

// Since is when the state was entered, in milliseconds since 1970; 0 for a target never decided.
func (b Brief) Since() uint64 { return uint64(b) & (1<<sinceBits - 1) }

// Worse returns the one of two that decides when both checks must pass: down before unknown before up, and an unchecked
// side counts for nothing. Of two alike it is the one that holds for less; of two down, the one that has been down for
// longer, since that is how long the address has been unfit. What either side drains is drained.
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

// Better returns the one of two that decides when either will do: a fit one before one that is drained, and that before
// one that is down; of two fit the one that holds for longer, of two down the one that was up more recently.
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
		return b // what no check covers holds for ever
	}
	return a
}

var severity = [...]uint8{Unchecked: 0, Up: 1, Unknown: 2, Down: 3}
