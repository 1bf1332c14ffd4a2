// Package state keeps verdicts over a restart of the process, in a file.
//
// Save writes records of all targets, a minute apart and when the process stops; Read returns them when it starts. A Key
// says which target a Record is about. Save replaces the file as a whole or leaves it as it is, so a process that is
// killed or a disk that is full loses no more than what changed since the last save. A file that is damaged in any way is
// refused as a whole.
//
// The package knows nothing of the pool. It starts no goroutine and reads no clock. Its functions may hang as long as the
// file system does, so call them where nothing else waits, and do not wait for them without a bound.
package state

import (
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// MaxAge is how long a record is good for, from the last result on. Later the target may have changed too often for its
// old state to be better than none.
const MaxAge = 10 * time.Minute

const (
	// maxRecords is the largest number of records in a file: as many as a process has targets.
	maxRecords = 1 << 18
	// maxCheck, maxOwner and maxReason bound texts, in bytes. No host name that a check can ask for is longer than
	// maxOwner, and reasons quote at most 64 bytes of a peer.
	maxCheck  = 4096
	maxOwner  = 255
	maxReason = 255
	// maxZone bounds the zone of an IPv6 address. Addresses from the DNS have none.
	maxZone = 64
	// maxSize bounds the file, in bytes. A record with the longest texts has less than 640, so that maxRecords of them have
	// 160 MiB, which leaves 32 MiB for the texts of 8,000 checks. What backends say of themselves can add another 270 to each;
	// what does not fit is left out. A hundred thousand usual records have 2 MB.
	maxSize = 192 << 20
)

// Key identifies a target in the file: by texts, because the secrets and hash keys of a process end with it. Two targets
// whose checks differ in a secret only have the same Key.
type Key struct {
	Check string // the text of the check with its pace
	Owner string // the name that the check asks for; empty for a check that does not depend on it
	Addr  netip.AddrPort
}

// Record is the verdict on a target. Its times are by the wall clock: a caller that has measured ages by another clock
// subtracts them from the time now. The file keeps milliseconds.
type Record struct {
	State  verdict.State // Up or Down
	Since  time.Time     // when the state was entered; not after At
	At     time.Time     // when the last result came
	Reason string        // why it is down; empty if it is up
	Said   report.Said   // what the backend has said of itself; the zero value for nothing
}

// Fresh reports whether a record is younger than MaxAge. One from the future is not: the clock was wrong then, or is now.
func (r Record) Fresh(now time.Time) bool {
	age := now.Sub(r.At)
	return age >= 0 && age < MaxAge
}

// fits reports whether a record may be in a file. Others are left out by both sides: their targets begin as unknown.
func fits(k Key, r Record) bool {
	return k.Check != "" && len(k.Check) <= maxCheck && len(k.Owner) <= maxOwner && len(r.Reason) <= maxReason &&
		k.Addr.IsValid() && len(k.Addr.Addr().Zone()) <= maxZone &&
		(r.State == verdict.Up || r.State == verdict.Down) && r.Said.Valid() && len(r.Said.Reason) <= maxReason &&
		!r.Since.Before(timeOf(0)) && !r.Since.After(r.At)
}

// cut shortens a reason to maxReason bytes, without cutting a character in two.
func cut(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	const more = "…"
	end := maxReason - len(more)
	for end > 0 && !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end] + more
}

// timeOf is the time of a number of milliseconds since 1970.
func timeOf(milliseconds int64) time.Time { return time.UnixMilli(milliseconds).UTC() }
