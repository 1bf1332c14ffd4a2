// Package verdict decides whether a target is up or down. Its main type is the Machine, which the prober feeds with the
// results of probes; each step returns a Verdict: the state, since when, why, and for how long it is sure to hold.
//
// A Target is one check at one address, and a Pace is how often it is probed. Queries read verdicts as a Brief, which is
// one word. All of it is arithmetic on values: the package starts no goroutine and reads no clock, so the current time is
// always an argument.
package verdict

import (
	"net/netip"
	"time"
	"unique"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// State is the health of a target, as its probes have decided it.
type State uint8

const (
	// Unknown is the state of a target that no probe has decided yet. It is the zero value, and its address is served:
	// missing knowledge never removes an address from an answer.
	Unknown State = iota
	// Unchecked is the state of an address that no check covers. It is served, and does not limit the TTL.
	Unchecked
	// Up is the state of a target that answers its check.
	Up
	// Down is the state of a target that failed its check Fall times.
	Down
)

// String returns the state in lower case, as it appears in metrics, logs and JSON. These values are stable.
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

// Fit reports whether an address in this state may be served. Only Down is unfit.
func (s State) Fit() bool { return s != Down }

// Verdict is the state of a target with its history. The zero value is Unknown.
type Verdict struct {
	State  State
	Since  time.Time     // when the state was entered; zero for a target that was never decided
	Reason string        // why the last failure failed; empty if no recent failure counts against the target
	Holds  time.Duration // the state cannot change sooner than this after the last result
	Said   *report.Said  // what the backend has said of itself; nil for nothing
}

// Identity identifies a check together with its pace. The text is canonical, so every name, stanza, view and listener with
// the same text shares one target, and an unchanged line keeps its history over a reload.
//
// The text is interned by package unique: two identities compare as fast as two pointers, and texts that no Corefile uses
// any more are garbage collected.
type Identity struct {
	text   unique.Handle[string]
	secret uint64
}

// Identify returns the identity with this text. The secret is a hash of what the text must not show, such as the value of
// a header: two checks that differ only in that are different.
func Identify(text string, secret uint64) Identity {
	return Identity{text: unique.Make(text), secret: secret}
}

// Of returns the identity of the same check asked about one thing, such as one name, whose hash is share. Calling it again
// with the same hash undoes it.
func (id Identity) Of(share uint64) Identity {
	return Identity{text: id.text, secret: id.secret ^ share}
}

// String returns the text, and nothing for the zero Identity. It never shows the secret.
func (id Identity) String() string {
	if id == (Identity{}) {
		return ""
	}
	return id.text.Value()
}

// Target is one check at one address. It is the key of every table of targets, and what logs and the status page show.
type Target struct {
	Identity Identity
	Addr     netip.AddrPort
}

// String returns the address and the check, as logs show them.
func (t Target) String() string { return t.Place() + " " + t.Identity.String() }

// Place returns the address with its port, or without one for a check that uses no port, such as an ICMP echo.
func (t Target) Place() string {
	if t.Addr.Port() == 0 && t.Addr.IsValid() {
		return t.Addr.Addr().String()
	}
	return t.Addr.String()
}

// RecordSet is a record set (RFC 2181, section 5) as it is looked at: all records of one owner name and type that one stanza
// judges. Answers look targets up in sets, and the pool knows by them which targets have left the DNS.
type RecordSet struct {
	Owner string
	Key   uint64 // tells the sets of all stanzas apart; chosen by the pool
	Ahead bool   // it is looked at for the Corefile's sake (watch, preload), not for a query: what it teaches is not rationed
}
