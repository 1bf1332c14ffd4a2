package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

// The format of our messages, all of which are in packets or frames of type typeUser:
//
//	format kind epoch(8 bytes) length address port(2 bytes) body
//
// The address and the port are those where the sender is reached, so they are its name. Bodies:
//
//	'b' beat     last first uptime flags groups(8 bytes)    numbers of words, milliseconds
//	'w' words    { number length batch }
//	'g' gap      { from to }                                numbers of words that are asked for
//	'a' answer   position batch                             votes, as of this number
//	'q' ask      batch                                      wants and last calls
//	'r' request  groups(8 bytes)                            asks for the list with this hash
//	'l' list     { group(16 bytes) }
//
// Numbers are varints of package encoding/binary. A message with another format or kind is dropped.
const (
	format = 1

	kindBeat    = 'b'
	kindWords   = 'w'
	kindGap     = 'g'
	kindAnswer  = 'a'
	kindAsk     = 'q'
	kindRequest = 'r'
	kindList    = 'l'
)

const (
	// maxPacket is the largest message that goes into a packet, maxBatch the largest batch in one.
	maxPacket = 1100
	maxBatch  = 1040
	// maxRanges is how many gaps are asked for at once.
	maxRanges = 32
	// maxWords is how many words a message may have. An author repeats up to repairBytes in one, which is fewer: each vote has a group.
	maxWords  = 4096
	maxGroups = 4096

	flagIsolated = 1
	flagStopping = 2
)

var errMessage = errors.New("damaged message")

// sender is who says something.
type sender struct {
	addr  netip.AddrPort
	epoch uint64
}

// nodeName is the name of a member for memberlist: another one after each start, so that nothing that was said of the process before
// holds for this one.
func (s sender) nodeName() string { return fmt.Sprintf("%s/%016x", s.addr, s.epoch) }

// splitNodeName reads the name of a member for memberlist. There is one way to write it.
func splitNodeName(name string) (addr netip.AddrPort, epoch uint64, ok bool) {
	at, hex, _ := strings.Cut(name, "/")
	addr, err := netip.ParseAddrPort(at)
	epoch, errEpoch := strconv.ParseUint(hex, 16, 64)
	s := sender{addr, epoch}
	return addr, epoch, err == nil && errEpoch == nil && reachable(addr) && s.nodeName() == name
}

// reachable reports whether an address can be that of a member.
func reachable(addr netip.AddrPort) bool {
	a := addr.Addr()
	return addr.Port() != 0 && a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast
}

// broadcast addresses all hosts of a network, so it cannot be the address of a member.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// header begins a message.
func (s sender) header(dst []byte, kind byte) []byte {
	dst = append(dst, typeUser, format, kind)
	dst = binary.BigEndian.AppendUint64(dst, s.epoch)
	raw := s.addr.Addr().AsSlice()
	dst = append(append(dst, byte(len(raw))), raw...)
	return binary.BigEndian.AppendUint16(dst, s.addr.Port())
}

// message is a message that has been read up to its body.
type message struct {
	kind byte
	from sender
	body []byte
	size int // of the memory that it keeps, in bytes
}

// readMessage reads the header, without the type.
func readMessage(data []byte) (m message, err error) {
	if len(data) < 11 || data[0] != format {
		return m, errMessage
	}
	m.kind, m.from.epoch = data[1], binary.BigEndian.Uint64(data[2:])
	size := int(data[10])
	data = data[11:]
	if len(data) < size+2 {
		return m, errMessage
	}
	addr, ok := netip.AddrFromSlice(data[:size])
	m.from.addr = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(data[size:]))
	m.body = data[size+2:]
	// The sender is answered at this address, which a holder of a key may have made up.
	if !ok || !reachable(m.from.addr) {
		return m, errMessage
	}
	return m, nil
}

// beat shows that a member is well, and how long its stream is.
type beat struct {
	last, first uint64 // numbers of words: the last one, and the first that can still be had
	uptime      time.Duration
	isolated    bool
	stopping    bool
	groups      hash // of the list of groups
}

// hash names a list of groups.
type hash [8]byte

// appendTo appends the body.
func (b beat) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, b.last), b.first)
	dst = binary.AppendUvarint(dst, uint64(b.uptime.Milliseconds()))
	var flags byte
	if b.isolated {
		flags |= flagIsolated
	}
	if b.stopping {
		flags |= flagStopping
	}
	return append(append(dst, flags), b.groups[:]...)
}

// maxUptime is a bound that keeps times from overflowing.
const maxUptime = 100 * 365 * 24 * time.Hour

// readBeat reads the body of a beat. What may follow in another version is left out.
func readBeat(body []byte) (b beat, err error) {
	var uptime uint64
	for _, to := range []*uint64{&b.last, &b.first, &uptime} {
		n, size := binary.Uvarint(body)
		if size <= 0 {
			return b, errMessage
		}
		*to, body = n, body[size:]
	}
	// Numbers that make no sense would be believed for as long as the epoch lasts.
	if len(body) < 1+len(b.groups) || b.first > b.last+1 || b.last > maxNumber || uptime > uint64(maxUptime.Milliseconds()) {
		return b, errMessage
	}
	b.uptime = time.Duration(uptime) * time.Millisecond
	b.isolated, b.stopping = body[0]&flagIsolated != 0, body[0]&flagStopping != 0
	copy(b.groups[:], body[1:])
	return b, nil
}

// maxNumber is more than anyone says, and leaves room to add.
const maxNumber = 1 << 56

// appendWord appends a word to the body.
func appendWord(dst []byte, number uint64, batch []byte) []byte {
	dst = binary.AppendUvarint(dst, number)
	dst = binary.AppendUvarint(dst, uint64(len(batch)))
	return append(dst, batch...)
}

// readWords reads words one by one. None is empty, and there are not too many: each is an event for the listener, however short.
func readWords(body []byte, each func(number uint64, batch []byte)) error {
	for count := 0; len(body) > 0; count++ {
		number, size := binary.Uvarint(body)
		if size <= 0 || number == 0 || number > maxNumber {
			return errMessage
		}
		body = body[size:]
		length, size := binary.Uvarint(body)
		if size <= 0 || length > uint64(len(body)-size) || length > 2*maxBatch || length == 0 || count == maxWords {
			return errMessage
		}
		each(number, body[size:][:length])
		body = body[size:][length:]
	}
	return nil
}

// span is a range of words, both ends included.
type span struct{ from, to uint64 }

// appendSpans appends the body of a gap.
func appendSpans(dst []byte, spans []span) []byte {
	for _, s := range spans {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, s.from), s.to)
	}
	return dst
}

// readSpans reads the body of a gap.
func readSpans(body []byte) (spans []span, err error) {
	for len(body) > 0 {
		from, size := binary.Uvarint(body)
		if size <= 0 {
			return nil, errMessage
		}
		body = body[size:]
		to, size := binary.Uvarint(body)
		if size <= 0 || from == 0 || to < from || to > maxNumber || len(spans) == maxRanges {
			return nil, errMessage
		}
		body = body[size:]
		spans = append(spans, span{from, to})
	}
	return spans, nil
}

// hashOf names a list of groups, whatever their order.
func hashOf(groups fleet.Groups) (h hash, list []byte) {
	sorted := make([]fleet.Group, 0, len(groups))
	for g := range groups {
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, fleet.Group.Compare)
	// Those beyond are not shared. A Corefile has one for each check, in a stanza.
	sorted = sorted[:min(len(sorted), maxGroups)]
	for _, g := range sorted {
		list = append(list, g[:]...)
	}
	sum := sha256.Sum256(list)
	copy(h[:], sum[:])
	return h, list
}

// readList reads a list of groups.
func readList(body []byte) (fleet.Groups, error) {
	const size = len(fleet.Group{})
	if len(body)%size != 0 || len(body)/size > maxGroups {
		return nil, errMessage
	}
	groups := make(fleet.Groups, len(body)/size)
	for ; len(body) > 0; body = body[size:] {
		groups[fleet.Group(body)] = struct{}{}
	}
	return groups, nil
}

// fact is what memberlist spreads of a member.
type fact struct {
	site, version string
}

const maxFact = 63

// encode writes what memberlist spreads: format, protocol of batches, site and version.
func (f fact) encode() []byte {
	dst := []byte{format, fleet.Protocol}
	for _, text := range []string{f.site, f.version} {
		text = printable(text)
		dst = append(append(dst, byte(len(text))), text...)
	}
	return dst
}

// readFact reads it. A member with another format or protocol is not for us.
func readFact(data []byte) (f fact, ok bool) {
	if len(data) < 2 || data[0] != format || data[1] != fleet.Protocol {
		return f, false
	}
	data = data[2:]
	for _, to := range []*string{&f.site, &f.version} {
		if len(data) == 0 {
			return f, false
		}
		end := 1 + int(data[0]) // beyond what a byte has
		if len(data) < end {
			return f, false
		}
		*to, data = printable(string(data[1:end])), data[end:]
	}
	return f, true
}

// printable cuts a text down to what may go to a page or a log.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	for len(text) > maxFact {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
