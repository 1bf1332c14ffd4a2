package gossip

import (
	"encoding/binary"
	"math"
)

// Memberlist encodes its messages with MessagePack: a map with the names of fields. Its decoder takes far more than that: any type in
// the place of another, lengths of gigabytes, nesting without end. What is read here is only what memberlist itself writes.

// kind is what a field may hold.
type kind uint8

const (
	kindNumber kind = iota // from 0 to the limit
	kindText               // up to so many bytes
	kindBytes              // the same, or nil
	kindFlag               // yes or no
)

// field is a field of a message: what it may hold.
type field struct {
	name  string
	kind  kind
	limit uint64
}

// values are the fields of a message that has been read.
type values struct {
	numbers map[string]uint64 // and flags, as 0 and 1
	bytes   map[string][]byte // and texts
}

// readMap reads a map that has no fields but these, each once at most. It reports whether the map is as it should be.
func readMap(data []byte, known []field) (v values, rest []byte, ok bool) {
	n, data, ok := mapLength(data)
	if !ok || n > len(known) {
		return v, nil, false
	}
	v = values{make(map[string]uint64, n), make(map[string][]byte, n)}
	var seen uint64
	for range n {
		var name []byte
		if name, data, ok = readBytes(data, 32); !ok {
			return v, nil, false
		}
		at := fieldAt(known, name)
		if at < 0 || seen&(1<<at) != 0 {
			return v, nil, false
		}
		// A field that comes twice would have two values, and the look could be at the other one.
		seen |= 1 << at
		if data, ok = v.read(known[at], data); !ok {
			return v, nil, false
		}
	}
	return v, data, true
}

// fieldAt is where a field is among those that are known, or -1.
func fieldAt(known []field, name []byte) int {
	for i := range known {
		if known[i].name == string(name) {
			return i
		}
	}
	return -1
}

// read reads the value of a field.
func (v *values) read(f field, data []byte) (rest []byte, ok bool) {
	if len(data) == 0 {
		return nil, false
	}
	switch f.kind {
	case kindNumber:
		n, rest, ok := readNumber(data)
		v.numbers[f.name] = n
		return rest, ok && n <= f.limit
	case kindFlag:
		if data[0] != 0xc2 && data[0] != 0xc3 {
			return nil, false
		}
		v.numbers[f.name] = uint64(data[0] - 0xc2)
		return data[1:], true
	case kindBytes:
		if data[0] == 0xc0 {
			return data[1:], true
		}
	}
	b, rest, ok := readBytes(data, f.limit)
	v.bytes[f.name] = b
	return rest, ok
}

// mapLength reads the head of a map. Those of memberlist have up to 15 fields.
func mapLength(data []byte) (n int, rest []byte, ok bool) {
	if len(data) == 0 || data[0]&0xf0 != 0x80 {
		return 0, nil, false
	}
	return int(data[0] & 0x0f), data[1:], true
}

// readNumber reads a number that is not negative.
func readNumber(data []byte) (n uint64, rest []byte, ok bool) {
	if len(data) == 0 {
		return 0, nil, false
	}
	head, data := data[0], data[1:]
	if head <= 0x7f {
		return uint64(head), data, true
	}
	if head < 0xcc || head > 0xd3 { // unsigned of 1, 2, 4 and 8 bytes, then signed ones
		return 0, nil, false
	}
	size := 1 << ((head - 0xcc) % 4) // bytes that follow
	if len(data) < size {
		return 0, nil, false
	}
	for _, b := range data[:size] {
		n = n<<8 | uint64(b)
	}
	// A signed number that is not negative is as good: memberlist writes those of a Go int like that.
	negative := head >= 0xd0 && n>>(8*size-1) != 0
	return n, data[size:], !negative
}

// readBytes reads a text or bytes of up to so many bytes.
func readBytes(data []byte, limit uint64) (b, rest []byte, ok bool) {
	if len(data) == 0 {
		return nil, nil, false
	}
	// Lengths are within the first byte, or in 1, 2 or 4 bytes that follow. Texts and bytes are not told apart, as in memberlist.
	head, data := data[0], data[1:]
	var n uint64
	size := 0
	switch {
	case head&0xe0 == 0xa0:
		n = uint64(head & 0x1f)
	case head == 0xc4 || head == 0xd9:
		size = 1
	case head == 0xc5 || head == 0xda:
		size = 2
	case head == 0xc6 || head == 0xdb:
		size = 4
	default:
		return nil, nil, false
	}
	if len(data) < size {
		return nil, nil, false
	}
	if size > 0 {
		var wide [8]byte
		copy(wide[8-size:], data[:size])
		n, data = binary.BigEndian.Uint64(wide[:]), data[size:]
	}
	if n > limit || n > uint64(len(data)) || n > math.MaxInt32 {
		return nil, nil, false
	}
	return data[:n], data[n:], true
}
