package fleet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

var errDamaged = errors.New("damaged batch")

// Reader takes what is in a batch. What it has no function for is left out.
type Reader struct {
	Vote func(Vote)
	Want func(Want)
	Call func(Call)
}

// Decode reads a batch, and keeps no part of it. A batch that is damaged, or of another protocol, is refused as a whole. An entry
// that makes no sense, such as one with an address of 5 bytes, is left out, as one that is not known.
func Decode(data []byte, to Reader) error {
	switch {
	case len(data) == 0:
		return errDamaged
	case data[0] != Protocol:
		return fmt.Errorf("protocol %d: this program has %d", data[0], Protocol)
	}
	for rest := data[1:]; len(rest) > 0; { // nothing is taken of a batch that is cut off
		body, after, ok := taken(rest)
		if !ok || len(body) == 0 {
			return errDamaged
		}
		rest = after
	}
	var group Group
	named := false
	for rest := data[1:]; len(rest) > 0; {
		body, after, _ := taken(rest)
		rest = after
		if kind, body := body[0], body[1:]; kind != entryGroup {
			if f, ok := readFields(body); ok && named {
				to.deliver(kind, group, f)
			}
		} else if named = len(body) == len(group); named {
			group = Group(body)
		}
	}
	return nil
}

// deliver gives an entry to the function for its kind.
func (to Reader) deliver(kind byte, group Group, f fields) {
	t := Target{Group: group, Addr: netip.AddrPortFrom(f.addr, f.port), Owner: f.owner}
	switch {
	case kind == entryVote && to.Vote != nil && f.state <= verdict.Down:
		v := Vote{Target: t, State: f.state, Age: f.age, Holds: f.holds, Shed: f.shed, Drained: f.drained, Doubt: f.doubt}
		if f.state == verdict.Down {
			v.Reason = cut(f.reason)
		}
		to.Vote(v)
	case kind == entryWant && to.Want != nil:
		to.Want(Want{t, f.wanted})
	case kind == entryCall && to.Call != nil:
		to.Call(Call{t, f.answered})
	}
}

// fields are all that an entry may have.
type fields struct {
	addr              netip.Addr
	port              uint16
	owner, reason     string
	state             verdict.State
	age, holds        time.Duration
	wanted            time.Duration
	shed, doubt       uint8
	drained, answered bool
}

// readFields reads the fields of an entry. It reports whether they make sense.
func readFields(body []byte) (f fields, ok bool) {
	for len(body) > 0 {
		key, size := binary.Uvarint(body)
		if size <= 0 {
			return f, false
		}
		body = body[size:]
		fine := true
		if key%2 == 1 {
			var value []byte
			if value, body, fine = taken(body); fine {
				fine = f.setBytes(key/2, value)
			}
		} else {
			value, size := binary.Uvarint(body)
			if size <= 0 {
				return f, false
			}
			body = body[size:]
			f.setNumber(key/2, value)
		}
		if !fine {
			return f, false
		}
	}
	return f, f.addr.IsValid()
}

// setBytes sets a field that is an address or a text. It reports whether it makes sense.
func (f *fields) setBytes(field uint64, value []byte) bool {
	switch field {
	case fieldAddr:
		addr, ok := netip.AddrFromSlice(value)
		f.addr = addr.Unmap()
		return ok
	case fieldOwner:
		f.owner = string(value)
		return isOwner(f.owner)
	case fieldReason:
		f.reason = string(value[:min(len(value), 4*maxReason)])
	}
	return true
}

// isOwner reports whether a text can be the name of a target: it goes to logs, and a member that spells it in another way would take
// it for another target.
func isOwner(text string) bool {
	return len(text) <= maxOwner && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f || 'A' <= r && r <= 'Z' })
}

// setNumber sets a field that is a number. One that is too large is the largest.
func (f *fields) setNumber(field, value uint64) {
	switch field {
	case fieldPort:
		f.port = uint16(min(value, math.MaxUint16))
	case fieldState:
		f.state = verdict.State(min(value, math.MaxUint8))
	case fieldAge:
		f.age = atMost(value, time.Millisecond)
	case fieldHolds:
		f.holds = atMost(value, time.Second)
	case fieldFor:
		f.wanted = atMost(value, time.Second)
	case fieldShed:
		f.shed = uint8(min(value, 100))
	case fieldDoubt:
		f.doubt = uint8(min(value, math.MaxUint8))
	case fieldDrained:
		f.drained = value != 0
	case fieldAnswered:
		f.answered = value != 0
	}
}

// atMost is a number of units, and maxAge at most.
func atMost(value uint64, unit time.Duration) time.Duration {
	return time.Duration(min(value, uint64(maxAge/unit))) * unit
}

// taken cuts off a length and so many bytes.
func taken(data []byte) (value, rest []byte, ok bool) {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return nil, nil, false
	}
	return data[size:][:n], data[size:][n:], true
}
