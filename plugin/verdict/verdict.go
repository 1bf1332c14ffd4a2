// Package verdict holds what the pool believes: of a target, since when, why, and how long that is sure to hold.
//
// It is arithmetic on values. It starts no goroutine and reads no clock: the instant is always an argument.
package verdict

import (
	"net/netip"
	"time"
	"unique"
)

// State is what is believed of a target.
type State uint8

const (
	// Unknown is the state of a target that no probe has decided yet. It is served: silence never removes an address.
	Unknown State = iota
	// Unchecked is the state of an address that no check covers. It is served, and bounds no TTL.
	Unchecked
	// Up is the state of a target that answers its check.
	Up
	// Down is the state of a target that failed its check as often as its pace asks for.
	Down
)

// String is the state in lower case, as metrics and logs name it.
func (s State) String() string {
	switch s {
	case Unchecked:
		return "unchecked"
	case Up:
		return "up"
	case Down:
		return "down"
	default:
		return "unknown"
	}
}

// Fit reports whether an address in this state is served while others can be.
func (s State) Fit() bool { return s != Down }

// Verdict is what is believed of a target. Its zero value is Unknown.
type Verdict struct {
	State  State
	Since  time.Time     // when the state was entered; zero for a target never decided
	Reason string        // why the last failure failed; empty while nothing speaks against the target
	Holds  time.Duration // from the last result on, the state cannot change for as long as this
}

// Identity names a check together with its pace. Its text is the canonical one, so that every name, stanza, view and
// listener with the same text shares one target, and an unchanged line keeps its history over a reload. It compares by
// pointer, and an edit of the Corefile leaks nothing.
type Identity struct {
	text   unique.Handle[string]
	secret uint64
}

// Identify interns text. The secret stands for what the text must not show, such as the value of a header: two checks
// that differ only there are two.
func Identify(text string, secret uint64) Identity {
	return Identity{text: unique.Make(text), secret: secret}
}

// Of is the identity of the same check as it is asked about something that hashes to share, such as a name.
func (id Identity) Of(share uint64) Identity {
	return Identity{text: id.text, secret: id.secret ^ share}
}

// String is the text. The zero Identity has none.
func (id Identity) String() string {
	if id == (Identity{}) {
		return ""
	}
	return id.text.Value()
}

// Target is one check at one address: map key, log field and status row at once.
type Target struct {
	Identity Identity
	Addr     netip.AddrPort
}

// String is the address and the check.
func (t Target) String() string { return t.Place() + " " + t.Identity.String() }

// Place is the address with its port, or alone for a check that asks no port.
func (t Target) Place() string {
	if t.Addr.Port() == 0 && t.Addr.IsValid() {
		return t.Addr.Addr().String()
	}
	return t.Addr.String()
}
