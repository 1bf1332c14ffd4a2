package etcd

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// format is the first byte of each value. A member with another one is there for its own kind only.
	format = 1
	// maxText bounds the texts that a member says of itself, maxGroups its groups, and maxFact all of it in bytes: etcd takes values of
	// 1.5 megabytes.
	maxText   = 255
	maxGroups = 4096
	maxFact   = maxGroups*len(fleet.Group{}) + 4<<10
	maxUptime = 100 * 365 * 24 * time.Hour

	flagIsolated = 1
	flagBehind   = 2
)

// fact is what a member says of itself, in the value of its key:
//
//	format protocol epoch(8) flags uptime length site length version length groups(16 each) term
//
// Uptime is in milliseconds, and as old as the key: a member writes it again when it has settled, so that those who come later know
// that. What may follow is skipped.
type fact struct {
	epoch         uint64
	isolated      bool // it doubts its own probes
	behind        bool // its loop hangs, or it has said what is not written yet
	uptime        time.Duration
	site, version string
	groups        string // one after the other, in order, each once
	term          uint64 // of etcd, when it was written: etcd gives all leases their whole time again with each new one
}

// encode writes the fact.
func (f fact) encode() []byte {
	out := binary.BigEndian.AppendUint64([]byte{format, fleet.Protocol}, f.epoch)
	flags := byte(0)
	if f.isolated {
		flags |= flagIsolated
	}
	if f.behind {
		flags |= flagBehind
	}
	out = binary.AppendUvarint(append(out, flags), uint64(f.uptime.Milliseconds()))
	for _, text := range []string{f.site, f.version, f.groups} {
		out = append(binary.AppendUvarint(out, uint64(len(text))), text...)
	}
	return binary.AppendUvarint(out, f.term)
}

// readFact reads it. What makes no sense, or is of another protocol, is not for us.
func readFact(data []byte) (f fact, ok bool) {
	// A member of another protocol shares nothing with this one, and probes for itself.
	const head = 2 + 8 + 1
	if len(data) < head || len(data) > maxFact || data[0] != format || data[1] != fleet.Protocol {
		return f, false
	}
	f.epoch = binary.BigEndian.Uint64(data[2:])
	f.isolated, f.behind = data[10]&flagIsolated != 0, data[10]&flagBehind != 0
	up, size := binary.Uvarint(data[head:])
	if size <= 0 {
		return f, false
	}
	f.uptime = time.Duration(min(up, uint64(maxUptime.Milliseconds()))) * time.Millisecond
	data = data[head+size:]
	texts := [3]string{}
	for i := range texts {
		var text []byte
		if text, data, ok = cutBytes(data); !ok {
			return f, false
		}
		texts[i] = string(text)
	}
	if f.term, size = binary.Uvarint(data); size <= 0 {
		return f, false
	}
	f.site, f.version, f.groups = printable(texts[0]), printable(texts[1]), texts[2]
	return f, len(f.groups)%len(fleet.Group{}) == 0 && len(f.groups)/len(fleet.Group{}) <= maxGroups
}

// cutBytes cuts off a length and so many bytes.
func cutBytes(data []byte) (value, rest []byte, ok bool) {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return nil, nil, false
	}
	return data[size:][:n], data[size:][n:], true
}

// listOf is a set of groups as it is written.
func listOf(groups fleet.Groups) string {
	sorted := make([]fleet.Group, 0, len(groups))
	for g := range groups {
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, fleet.Group.Compare)
	var out strings.Builder
	for _, g := range sorted[:min(len(sorted), maxGroups)] {
		out.Write(g[:])
	}
	return out.String()
}

// groupsOf is the set that a list is of.
func groupsOf(list string) fleet.Groups {
	out := make(fleet.Groups, len(list)/len(fleet.Group{}))
	for ; len(list) >= len(fleet.Group{}); list = list[len(fleet.Group{}):] {
		out[fleet.Group([]byte(list[:len(fleet.Group{})]))] = struct{}{}
	}
	return out
}

// printable cuts a text down to what may go to a page or a log. It is a copy, since a part would keep the whole.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	for len(text) > maxText {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return strings.Clone(text)
}
