package gossip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var testSender = sender{netip.MustParseAddrPort("127.0.0.1:9254"), 0x1234}

// aliveWith is a message about a living member, with other values than usual.
func aliveWith(change func(fields map[string]any)) []byte {
	return messageWith(typeAlive, []string{"Incarnation", "Node", "Addr", "Port", "Meta", "Vsn"}, map[string]any{"Incarnation": 1, "Node": testSender.nodeName(),
		"Addr": []byte{127, 0, 0, 1}, "Port": 9254, "Meta": []byte("meta"), "Vsn": []byte{1, 5, 2, 0, 0, 0}}, change)
}

func messageWith(kind byte, order []string, fields map[string]any, change func(fields map[string]any)) []byte {
	if change != nil {
		change(fields)
	}
	var pairs []any
	for _, name := range order {
		if v, ok := fields[name]; ok {
			pairs = append(pairs, name, v)
		}
	}
	return append([]byte{kind}, packMap(pairs...)...)
}

func checked(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typeChecked}, crc32.ChecksumIEEE(data)), data...)
}

func compound(parts ...[]byte) []byte {
	out := []byte{typeCompound, byte(len(parts))}
	for _, p := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	}
	return append(out, bytes.Join(parts, nil)...)
}

// Only what members send passes.
func TestLook(t *testing.T) {
	alive := aliveWith(nil)
	other := func(name string, value any) []byte {
		return aliveWith(func(f map[string]any) { f[name] = value })
	}
	ping := append([]byte{typePing}, packMap("SeqNo", 1, "Node", "x")...)
	for i, c := range []struct {
		data []byte
		want way
	}{
		{alive, forMemberlist}, {checked(alive), forMemberlist}, {compound(alive, ping), forMemberlist}, {checked(compound(alive)), forMemberlist},
		{append([]byte{typeUser}, "text"...), forUs}, {checked([]byte{typeUser}), forUs},
		{ping, forMemberlist},
		{append([]byte{typeNack}, packMap("SeqNo", 1)...), forMemberlist},
		{append([]byte{typeAck}, packMap("SeqNo", 1, "Payload", []byte{})...), forMemberlist},

		{nil, refused}, {[]byte{typeChecked, 0, 0, 0, 0}, refused}, {checked(nil), refused}, {checked(checked(alive)), refused},
		{compound(), refused}, {compound(compound(alive)), refused}, {compound([]byte{typeUser, 1}), refused}, {compound(nil), refused},
		{append(compound(alive), 0), refused}, {compound(alive)[:20], refused},
		{append([]byte{9}, alive...), refused}, {[]byte{10}, refused}, {[]byte{255}, refused}, {append(alive, 0), refused}, {alive[:len(alive)-1], refused},
		{append([]byte{typeError}, packMap("Error", "x")...), refused},
		{append([]byte{typePushPull}, packMap("Nodes", 0)...), refused},
		{append([]byte{typeAck}, packMap("SeqNo", 1, "Payload", []byte{1})...), refused},
		{append([]byte{typePing}, packMap("SeqNo", 1, "SeqNo", 1)...), refused},
		{append([]byte{typePing}, packMap("SeqNo", "1")...), refused},
		{append([]byte{typePing}, packMap("SeqNo", 1, "SourceAddr", []byte{1, 2, 3})...), refused},
		{append([]byte{typeIndirect}, packMap("SeqNo", 1, "Target", []byte{}, "Port", 1)...), refused},
		{append([]byte{typeSuspect}, packMap("Incarnation", 1, "Node", "x", "From", testSender.nodeName())...), refused},
		{other("Node", "127.0.0.1:9254/1234"), refused}, {other("Node", strings.Repeat("x", 81)), refused}, {other("Addr", []byte{127, 0, 0, 2}), refused},
		{other("Addr", []byte{}), refused}, {other("Port", 9255), refused}, {other("Port", 1<<17), refused}, {other("Meta", "text"), forMemberlist}, {other("Meta", 1), refused},
		{other("Vsn", []byte{1, 5, 2}), refused}, {other("Vsn", []byte{255, 255, 255, 0, 0, 0}), refused}, {other("Vsn", []byte{3, 5, 2, 0, 0, 0}), refused},
		{other("Vsn", []byte{1, 5, 2, 1, 1, 1}), refused},
		{aliveWith(func(f map[string]any) { delete(f, "Vsn") }), refused}, {aliveWith(func(f map[string]any) { delete(f, "Node") }), refused},
		{append([]byte{typePing, 0x81, 0xa5}, "SeqNo\xd3\xff\xff\xff\xff\xff\xff\xff\xff"...), refused}, // a negative number
		{append([]byte{typePing, 0x81, 0xa4}, "Node\xdb\xff\xff\xff\xff"...), refused},                  // a text of 4 GiB
		{append([]byte{typePing, 0x81}, 0xdb, 0xff, 0xff, 0xff, 0xff), refused},                         // the same, of a name
		{[]byte{typePing, 0xdf, 0xff, 0xff, 0xff, 0xff}, refused},                                       // a map as long
		{append([]byte{typePing, 0x81, 0xa5}, "SeqNo\x91\x91\x91\x91"...), refused},                     // nesting
		{append([]byte{typeUser}, make([]byte, maxMessage)...), refused},
	} {
		if got, _ := lookAtPacket(c.data); got != c.want {
			t.Errorf("%d: %d, want %d: %.80q", i, got, c.want, c.data)
		}
	}
}

// Of streams, too.
func TestLookAtFrame(t *testing.T) {
	state := packMap("Name", testSender.nodeName(), "Addr", []byte{127, 0, 0, 1}, "Port", 9254, "Meta", []byte{}, "Incarnation", 1, "State", 0, "Vsn", []byte{1, 5, 2, 0, 0, 0})
	exchange := func(nodes, user int, states ...[]byte) []byte {
		return append(append([]byte{typePushPull}, packMap("Nodes", nodes, "UserStateLen", user, "Join", true)...), bytes.Join(states, nil)...)
	}
	ping, ack := append([]byte{typePing}, packMap("SeqNo", 1)...), append([]byte{typeAck}, packMap("SeqNo", 1)...)
	fault := append([]byte{typeError}, packMap("Error", "x")...)
	for i, c := range []struct {
		data            []byte
		asked, isAnswer way
	}{
		{exchange(1, 0, state), forMemberlist, forMemberlist}, {exchange(2, 0, state, state), forMemberlist, forMemberlist}, {exchange(0, 0), forMemberlist, forMemberlist},
		{exchange(2, 0, state), refused, refused}, {exchange(1, 0, state, state), refused, refused}, {exchange(1<<20, 0, state), refused, refused},
		{exchange(1, 1, state, []byte{1}), refused, refused}, {exchange(0, 1<<30), refused, refused}, {exchange(1, 0, state[:20]), refused, refused},
		{ping, forMemberlist, refused}, {ack, refused, forMemberlist}, {fault, refused, forMemberlist},
		{[]byte{typeUser, 1}, forUs, refused}, {nil, refused, refused}, {[]byte{9}, refused, refused}, {aliveWith(nil), refused, refused},
	} {
		asked, _ := lookAtFrame(c.data, false)
		answer, _ := lookAtFrame(c.data, true)
		if asked != c.asked || answer != c.isAnswer {
			t.Errorf("%d: %d and %d, want %d and %d: %.80q", i, asked, answer, c.asked, c.isAnswer, c.data)
		}
	}
}

// What is written is read, and what is cut off is refused.
func TestMessages(t *testing.T) {
	b := beat{last: 1 << 40, first: 7, uptime: 90 * time.Minute, isolated: true, stopping: true, groups: hash{1, 2}}
	data := b.appendTo(testSender.header(nil, kindBeat))
	m, err := readMessage(data[1:])
	if err != nil || m.kind != kindBeat || m.from != testSender {
		t.Fatalf("%+v, %v", m, err)
	}
	if got, err := readBeat(m.body); err != nil || got != b {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := readBeat(append(m.body, 1, 2, 3)); err != nil || got != b {
		t.Errorf("of a later version: %+v, %v", got, err)
	}
	for n := range len(m.body) {
		if _, err := readBeat(m.body[:n]); err == nil {
			t.Errorf("%d bytes are a beat", n)
		}
	}
	for n := range len(data) - len(m.body) - 1 {
		if _, err := readMessage(data[1:][:n]); err == nil {
			t.Errorf("%d bytes are a message", n)
		}
	}
	if _, err := readBeat(beat{last: 1, first: 3}.appendTo(nil)); err == nil {
		t.Error("a beat with a gap at its end")
	}
	words := appendWord(appendWord(nil, 1, []byte("one")), 2, []byte("two"))
	var got []string
	if err := readWords(words, func(n uint64, b []byte) { got = append(got, fmt.Sprint(n, string(b))) }); err != nil || fmt.Sprint(got) != "[1one 2two]" {
		t.Errorf("%v, %v", got, err)
	}
	if err := readWords(words[:len(words)-1], func(uint64, []byte) {}); err == nil {
		t.Error("a word that is cut off")
	}
	if spans, err := readSpans(appendSpans(nil, []span{{1, 2}, {5, 5}})); err != nil || fmt.Sprint(spans) != "[{1 2} {5 5}]" {
		t.Errorf("%v, %v", spans, err)
	}
	for _, bad := range [][]span{{{0, 1}}, {{2, 1}}, {{1, maxNumber + 1}}, make([]span, maxRanges+1)} {
		if _, err := readSpans(appendSpans(nil, bad)); err == nil {
			t.Errorf("%v", bad)
		}
	}
}

// A member is named in one way, and says of itself what can be printed.
func TestNames(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:1", "[2001:db8::1]:65535"} {
		s := sender{netip.MustParseAddrPort(addr), 1}
		if at, epoch, ok := splitNodeName(s.nodeName()); !ok || at != s.addr || epoch != 1 {
			t.Errorf("%s: %v %v %v", s.nodeName(), at, epoch, ok)
		}
	}
	for _, name := range []string{"", "x", "192.0.2.1:1", "192.0.2.1:1/1", "192.0.2.1:0/0000000000000001", "[::ffff:192.0.2.1]:1/0000000000000001",
		"[fe80::1%eth0]:1/0000000000000001", "0.0.0.0:1/0000000000000001", "224.0.0.1:1/0000000000000001", "255.255.255.255:1/0000000000000001",
		"192.0.2.1:01/0000000000000001", "192.0.2.1:1/000000000000000G", "192.0.2.1:1/000000000000000a/"} {
		if _, _, ok := splitNodeName(name); ok {
			t.Errorf("%q is a name", name)
		}
	}
	long := fact{strings.Repeat("é", 50), "1.0\n\xff"}
	got, ok := readFact(long.encode())
	if !ok || got.site != strings.Repeat("é", 31) || got.version != "1.0??" {
		t.Errorf("%+v, %t", got, ok)
	}
	for n := range len(long.encode()) {
		if _, ok := readFact(long.encode()[:n]); ok {
			t.Errorf("%d bytes are enough", n)
		}
	}
}
