package state

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The format. A file is a line of text, entries, and a checksum:
//
//	multivalue state 2\n
//	't' length text                                   a text; the first one has number 1, the next one 2
//	's' shed health admin reason                      what the backend of the next target has said of itself, if anything
//	'u' check owner length address at since           a target that is up
//	'd' check owner length address at since reason    a target that is down
//	'e' count                                         the end: how many targets there are
//	checksum                                          CRC-32C of all before, four bytes, little-endian
//
// All numbers are varints of package encoding/binary. A check, an owner, a reason, a health and an admin state (report.Said) are
// the number of a text that came before, or 0 for none. An address is what netip.AddrPort.MarshalBinary writes. The times at and since are signed, in
// milliseconds: at is how much later than at of the target before (the first one's is since 1970), since is how long
// before at. Version 1 was the same without 's', and is still read.
//
// JSON was rejected: it takes ten times the bytes and the time to write (BenchmarkEncode), and it would invite edits, for
// which there are forced states. Gob takes seven times as much.
const (
	magic   = "multivalue state "
	version = 2

	kindText = 't'
	kindSaid = 's'
	kindUp   = 'u'
	kindDown = 'd'
	kindEnd  = 'e'

	sumSize = crc32.Size
)

// castagnoli is the polynomial of the checksum, for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	// flushSize is how many bytes the encoder collects before it writes them.
	flushSize = 64 << 10
	// maxNumbers is how many owners and reasons the encoder remembers. Reasons may quote peers that say something else each
	// time, so beyond that it begins again, and a text that is needed once more has a second number. Checks are remembered
	// all: they are few, and may be long.
	maxNumbers = 1 << 16
	// maxEntry is the largest size of a record in bytes, with its texts, the end and the checksum.
	maxEntry = 1280 + maxCheck
)

// encoder writes a file, record by record.
type encoder struct {
	to      io.Writer
	buf     []byte            // not written yet
	written int               // bytes, without buf
	sum     uint32            // of what was written
	checks  map[string]uint64 // their numbers
	others  map[string]uint64 // numbers of owners and reasons
	texts   uint64            // how many there are in the file
	addr    []byte            // scratch memory
	at      int64             // of the last record
	count   uint64            // of records
}

func newEncoder(to io.Writer) *encoder {
	return &encoder{to: to, buf: []byte(magic + strconv.Itoa(version) + "\n"),
		checks: make(map[string]uint64), others: make(map[string]uint64)}
}

// put writes a record, unless it does not fit into the file.
func (e *encoder) put(k Key, r Record) error {
	if r.State == verdict.Up {
		r.Reason = ""
	}
	r.Reason, r.Said.Reason = cut(r.Reason), cut(r.Said.Reason)
	if !fits(k, r) || e.count == maxRecords || e.written+len(e.buf)+maxEntry > maxSize {
		return nil
	}
	if len(e.others) >= maxNumbers {
		clear(e.others)
	}
	e.putSaid(r.Said)
	check, owner, reason := e.numberOf(k.Check, e.checks), e.numberOf(k.Owner, e.others), e.numberOf(r.Reason, e.others)
	kind := byte(kindUp)
	if r.State == verdict.Down {
		kind = kindDown
	}
	addr, err := k.Addr.AppendBinary(e.addr[:0])
	if err != nil {
		return err
	}
	e.addr = addr
	at := r.At.UnixMilli()
	e.buf = append(e.buf, kind)
	e.buf = binary.AppendUvarint(e.buf, check)
	e.buf = binary.AppendUvarint(e.buf, owner)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(addr)))
	e.buf = append(e.buf, addr...)
	e.buf = binary.AppendVarint(e.buf, at-e.at)
	e.buf = binary.AppendVarint(e.buf, at-r.Since.UnixMilli())
	if kind == kindDown {
		e.buf = binary.AppendUvarint(e.buf, reason)
	}
	e.at = at
	e.count++
	if len(e.buf) < flushSize {
		return nil
	}
	return e.writeOut()
}

// putSaid writes what the backend of the next target has said of itself. The texts of that target may still come between.
func (e *encoder) putSaid(s report.Said) {
	if s == (report.Said{}) {
		return
	}
	health, admin, reason := e.numberOf(s.Health, e.others), e.numberOf(s.Admin, e.others), e.numberOf(s.Reason, e.others)
	e.buf = append(e.buf, kindSaid)
	for _, n := range []uint64{uint64(s.Shed), health, admin, reason} {
		e.buf = binary.AppendUvarint(e.buf, n)
	}
}

// numberOf returns the number of a text. It writes the text if it has none yet.
func (e *encoder) numberOf(text string, numbers map[string]uint64) uint64 {
	if text == "" {
		return 0
	}
	if n, ok := numbers[text]; ok {
		return n
	}
	e.texts++
	numbers[text] = e.texts
	e.buf = append(e.buf, kindText)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(text)))
	e.buf = append(e.buf, text...)
	return e.texts
}

// end writes the end.
func (e *encoder) end() error {
	e.buf = append(e.buf, kindEnd)
	e.buf = binary.AppendUvarint(e.buf, e.count)
	if err := e.writeOut(); err != nil {
		return err
	}
	_, err := e.to.Write(binary.LittleEndian.AppendUint32(nil, e.sum))
	return err
}

// writeOut writes what has been collected.
func (e *encoder) writeOut() error {
	e.sum = crc32.Update(e.sum, castagnoli, e.buf)
	n, err := e.to.Write(e.buf)
	e.written += n
	e.buf = e.buf[:0]
	return err
}
