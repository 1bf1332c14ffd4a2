package fleet

import (
	"encoding/binary"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The format. A batch is the number of the protocol, one byte, and entries:
//
//	length kind body     length is that of kind and body
//
// A 'g' has a group, 16 bytes, which the entries after it belong to. A 'v' is a vote, 'w' a want, 'c' a last call. Their bodies are
// fields:
//
//	number×2 value             a number
//	number×2+1 length bytes    a text, or an address in 4 or 16 bytes
//
// All numbers are varints of package encoding/binary. A field that is zero is left out; of one that comes twice the last counts. Entries
// and fields that are not known are skipped. Times are in milliseconds, except how long something holds or is wanted, which is in
// seconds, rounded down.
const (
	entryGroup = 'g'
	entryVote  = 'v'
	entryWant  = 'w'
	entryCall  = 'c'

	fieldAddr     = 1
	fieldPort     = 2
	fieldOwner    = 3
	fieldState    = 4
	fieldAge      = 5
	fieldHolds    = 6
	fieldShed     = 7
	fieldDrained  = 8
	fieldDoubt    = 9
	fieldReason   = 10
	fieldFor      = 11
	fieldAnswered = 12
)

const (
	// maxReason is the longest reason that is said, in bytes.
	maxReason = 60
	// maxEntry is more than an entry with its group can take, in bytes.
	maxEntry = 512
)

// Batch collects what is to be said, up to a number of bytes. The zero value with a Max of at least 600 is ready to use.
type Batch struct {
	Max   int
	buf   []byte
	group Group
	named bool // the group has been written
	entry []byte
}

// Bytes is the batch so far, which is valid until the next call; nil if nothing is in it.
func (b *Batch) Bytes() []byte { return b.buf }

// Reset empties the batch, and keeps its memory.
func (b *Batch) Reset() { b.buf, b.named = b.buf[:0], false }

// Vote adds a vote. It reports false if the batch is full: then send it, reset it and try again. What no other member could
// understand, such as an address with a zone, is left out.
func (b *Batch) Vote(v Vote) bool {
	e := b.newEntry(entryVote, v.Target)
	e = number(e, fieldState, uint64(v.State))
	e = number(e, fieldAge, uint64(max(0, v.Age.Milliseconds())))
	e = number(e, fieldHolds, uint64(max(0, v.Holds/time.Second)))
	e = number(e, fieldShed, uint64(v.Shed))
	e = flag(e, fieldDrained, v.Drained)
	e = number(e, fieldDoubt, uint64(v.Doubt))
	if v.State == verdict.Down {
		e = text(e, fieldReason, cut(v.Reason))
	}
	return b.appendEntry(e, v.Target)
}

// Want adds a want, as Vote does.
func (b *Batch) Want(w Want) bool {
	e := number(b.newEntry(entryWant, w.Target), fieldFor, uint64(max(0, w.For/time.Second)))
	return b.appendEntry(e, w.Target)
}

// Call adds a last call, as Vote does.
func (b *Batch) Call(c Call) bool {
	return b.appendEntry(flag(b.newEntry(entryCall, c.Target), fieldAnswered, c.Answered), c.Target)
}

// newEntry begins an entry about a target.
func (b *Batch) newEntry(kind byte, t Target) []byte {
	e := append(b.entry[:0], kind)
	if addr := t.Addr.Addr().Unmap(); addr.IsValid() {
		raw := addr.As16()
		from := 0
		if addr.Is4() {
			from = 12
		}
		e = binary.AppendUvarint(e, fieldAddr*2+1)
		e = binary.AppendUvarint(e, uint64(len(raw)-from))
		e = append(e, raw[from:]...)
	}
	e = number(e, fieldPort, uint64(t.Addr.Port()))
	return text(e, fieldOwner, t.Owner)
}

// appendEntry adds the entry to the batch, with its group before it if that is another than before.
func (b *Batch) appendEntry(e []byte, t Target) bool {
	b.entry = e
	if !t.sayable() {
		return true
	}
	newGroup := !b.named || b.group != t.Group
	size := 2 + len(e)
	if newGroup {
		size += 2 + len(t.Group)
	}
	if len(b.buf) > 0 && len(b.buf)+size > b.Max {
		return false
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, Protocol)
	}
	if newGroup {
		b.buf = append(binary.AppendUvarint(b.buf, uint64(1+len(t.Group))), entryGroup)
		b.buf = append(b.buf, t.Group[:]...)
		b.group, b.named = t.Group, true
	}
	b.buf = append(binary.AppendUvarint(b.buf, uint64(len(e))), e...)
	return true
}

// number appends a field that is a number, unless it is zero.
func number(e []byte, field, value uint64) []byte {
	if value == 0 {
		return e
	}
	return binary.AppendUvarint(binary.AppendUvarint(e, field*2), value)
}

// flag appends a field that is yes, or nothing.
func flag(e []byte, field uint64, yes bool) []byte {
	if yes {
		return number(e, field, 1)
	}
	return e
}

// text appends a field that is a text, unless it is empty.
func text(e []byte, field uint64, value string) []byte {
	if value == "" {
		return e
	}
	e = binary.AppendUvarint(e, field*2+1)
	e = binary.AppendUvarint(e, uint64(len(value)))
	return append(e, value...)
}

// cut shortens a reason to maxReason bytes, without cutting a character in two, and replaces what cannot be printed: it goes to logs,
// and comes from others.
func cut(reason string) string {
	plain := true
	for _, r := range reason {
		plain = plain && r != utf8.RuneError && unicode.IsPrint(r)
	}
	if plain && len(reason) <= maxReason {
		return reason
	}
	var out []byte
	for _, r := range reason {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = '?'
		}
		if len(out)+utf8.RuneLen(r) > maxReason {
			break
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
