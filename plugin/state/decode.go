package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

var (
	errForeign = errors.New("not a state file")
	errDamaged = errors.New("damaged or incomplete")
)

// maxHeader is the largest size of the first line in bytes: its number has up to nine digits.
const maxHeader = len(magic) + 10

// checkHeader checks the first line of a file, and returns what follows it.
func checkHeader(data []byte) ([]byte, error) {
	if !begun(data) {
		return nil, errForeign
	}
	line, _, ok := bytes.Cut(data[:min(len(data), maxHeader)], []byte("\n"))
	n, err := strconv.ParseUint(strings.TrimPrefix(string(line), magic), 10, 32)
	switch {
	case !ok || err != nil || n == 0:
		return nil, errDamaged
	case n > version:
		return nil, fmt.Errorf("version %d is newer than this program knows (%d)", n, version)
	}
	return data[len(line)+1:], nil
}

// begun reports whether a file begins as Save writes it, as far as it goes: an empty one does.
func begun(data []byte) bool {
	n := min(len(data), len(magic))
	return string(data[:n]) == magic[:n]
}

// parse reads the content of a file. It keeps no part of it. The result has the records that are fresh; of a target that
// is in the file as up and as down, it is not known which is right, so it has none.
func parse(data []byte, now time.Time) (map[Key]Record, error) {
	rest, err := checkHeader(data)
	if err != nil {
		return nil, err
	}
	if len(rest) < sumSize {
		return nil, errDamaged
	}
	body, sum := data[:len(data)-sumSize], data[len(data)-sumSize:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return nil, errDamaged
	}
	d := &decoder{rest: rest[:len(rest)-sumSize], records: make(map[Key]Record), now: now}
	for !d.ended && !d.failed {
		d.entry()
	}
	if d.failed || len(d.rest) > 0 {
		return nil, errDamaged
	}
	maps.DeleteFunc(d.records, func(_ Key, r Record) bool { return r.State == verdict.Unknown })
	return d.records, nil
}

// decoder reads the entries of a file. After the first mistake, all that it reads is zero.
type decoder struct {
	rest    []byte // not read yet
	failed  bool
	ended   bool // by the entry for the end
	now     time.Time
	texts   []string
	at      int64 // of the last record
	count   uint64
	pending report.Said    // of the next target
	records map[Key]Record // state unknown: the file contradicts itself
}

// entry reads one entry.
func (d *decoder) entry() {
	switch kind := d.take(1); string(kind) {
	case string(kindText):
		d.text()
	case string(kindSaid):
		d.said()
	case string(kindUp):
		d.target(verdict.Up)
	case string(kindDown):
		d.target(verdict.Down)
	case string(kindEnd):
		d.ended = true
		d.failed = d.number() != d.count || d.failed || d.pending != (report.Said{})
	default:
		d.failed = true
	}
}

// text reads a text. Each record may be the first to use four, and the few words of backends come again and again, so a file
// may have five: otherwise one full of short texts would take up many times its size.
func (d *decoder) text() {
	text := d.take(d.number())
	if len(text) == 0 || len(text) > maxCheck || len(d.texts) == 5*maxRecords {
		d.failed = true
		return
	}
	d.texts = append(d.texts, string(text))
}

// said reads what the backend of the next target has said of itself.
func (d *decoder) said() {
	shed := d.number()
	s := report.Said{Health: d.textOf(d.number()), Admin: d.textOf(d.number()), Reason: d.textOf(d.number())}
	if shed > 100 || d.pending != (report.Said{}) {
		d.failed = true
		return
	}
	s.Shed = uint8(shed)
	d.pending = s
}

// target reads the rest of the entry of a target in this state.
func (d *decoder) target(state verdict.State) {
	k := Key{Check: d.textOf(d.number()), Owner: d.textOf(d.number())}
	if err := k.Addr.UnmarshalBinary(d.take(d.number())); err != nil || d.count == maxRecords {
		d.failed = true
	}
	d.at += d.signed()
	r := Record{State: state, At: timeOf(d.at), Since: timeOf(d.at - d.signed()), Said: d.pending}
	d.pending = report.Said{}
	if state == verdict.Down {
		r.Reason = d.textOf(d.number())
	}
	d.count++
	if d.failed || !fits(k, r) || !r.Fresh(d.now) {
		return
	}
	if other, ok := d.records[k]; ok {
		if other.State != r.State {
			d.records[k] = Record{}
		}
		return
	}
	d.records[k] = r
}

// textOf returns the text with a number; none has number 0.
func (d *decoder) textOf(number uint64) string {
	switch {
	case number == 0:
		return ""
	case number > uint64(len(d.texts)):
		d.failed = true
		return ""
	}
	return d.texts[number-1]
}

// take reads some bytes.
func (d *decoder) take(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	d.take(uint64(max(size, 0)))
	d.failed = d.failed || size <= 0
	return n
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.rest)
	d.take(uint64(max(size, 0)))
	d.failed = d.failed || size <= 0
	return n
}
