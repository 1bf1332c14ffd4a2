package gossip

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	"github.com/hashicorp/memberlist"
)

// The types of memberlist's messages that members send. Compressed messages are not among them, because ours are not compressed.
const (
	typePing     = 0
	typeIndirect = 1
	typeAck      = 2
	typeSuspect  = 3
	typeAlive    = 4
	typeDead     = 5
	typePushPull = 6
	typeCompound = 7
	typeUser     = 8 // ours
	typeNack     = 11
	typeChecked  = 12 // with a checksum
	typeError    = 13
)

const (
	maxNodeName = 80        // the longest address with port, and an epoch, is shorter
	maxNodes    = 8192      // in one exchange of states: the living and those that died lately
	maxError    = 512       // of the text of an error
	maxMessage  = 2048      // of a packet
	maxFrame    = 2 << 20   // of a stream
	noLimit     = 1<<32 - 1 // of a number with 32 bits
)

// way is where what arrived goes to.
type way uint8

const (
	refused way = iota
	forMemberlist
	forUs
)

// lookAtPacket judges what was in a packet, and returns our message if it is one. What memberlist could crash on or grow by, and what
// members do not send, is refused: memberlist has goroutines of its own, whose panics end the process.
func lookAtPacket(plain []byte) (way, []byte) {
	// Memberlist adds a checksum if the other side understands it, though the seal has one.
	if len(plain) >= 5 && plain[0] == typeChecked {
		if crc32.ChecksumIEEE(plain[5:]) != binary.BigEndian.Uint32(plain[1:]) {
			return refused, nil
		}
		plain = plain[5:]
	}
	switch {
	case len(plain) == 0 || len(plain) > maxMessage:
		return refused, nil
	case plain[0] == typeUser:
		return forUs, plain[1:]
	case plain[0] == typeCompound:
		return judged(compoundOK(plain[1:])), nil
	}
	return judged(singleOK(plain)), nil
}

// judged is the way of a message for memberlist that is as it should be or not.
func judged(ok bool) way {
	if ok {
		return forMemberlist
	}
	return refused
}

// compoundOK looks at several messages in one. They are not nested, and fill it.
func compoundOK(data []byte) bool {
	if len(data) == 0 || data[0] == 0 {
		return false
	}
	n := int(data[0])
	data = data[1:]
	if len(data) < 2*n {
		return false
	}
	sizes, data := data[:2*n], data[2*n:]
	for ; len(sizes) > 0; sizes = sizes[2:] {
		size := int(binary.BigEndian.Uint16(sizes))
		if size > len(data) || !singleOK(data[:size]) {
			return false
		}
		data = data[size:]
	}
	return len(data) == 0
}

// fieldsOf are the fields of memberlist's messages, with what members send in them. Memberlist may leave out some, which are zero then;
// it is the checks of whole messages that see whether one is missing that must be there. A field that a later version adds is refused:
// look at these lists when memberlist is updated (TestWhatIsLeft fails then).
func fieldsOf(message byte) []field {
	address := field{"SourceAddr", kindBytes, 16}
	switch message {
	case typePing:
		return []field{{"SeqNo", kindNumber, noLimit}, {"Node", kindText, maxNodeName}, address,
			{"SourcePort", kindNumber, 65535}, {"SourceNode", kindText, maxNodeName}}
	case typeIndirect:
		return []field{{"SeqNo", kindNumber, noLimit}, {"Target", kindBytes, 16}, {"Port", kindNumber, 65535}, {"Node", kindText, maxNodeName},
			{"Nack", kindFlag, 1}, address, {"SourcePort", kindNumber, 65535}, {"SourceNode", kindText, maxNodeName}}
	case typeAck:
		return []field{{"SeqNo", kindNumber, noLimit}, {"Payload", kindBytes, 0}}
	case typeNack:
		return []field{{"SeqNo", kindNumber, noLimit}}
	case typeSuspect, typeDead:
		return []field{{"Incarnation", kindNumber, noLimit}, {"Node", kindText, maxNodeName}, {"From", kindText, maxNodeName}}
	case typeAlive:
		return []field{{"Incarnation", kindNumber, noLimit}, {"Node", kindText, maxNodeName}, {"Addr", kindBytes, 16},
			{"Port", kindNumber, 65535}, {"Meta", kindBytes, memberlist.MetaMaxSize}, {"Vsn", kindBytes, 6}}
	case typeError:
		return []field{{"Error", kindText, maxError}}
	}
	return nil
}

// stateFields are those of a member in an exchange of states.
func stateFields() []field {
	return []field{{"Name", kindText, maxNodeName}, {"Addr", kindBytes, 16}, {"Port", kindNumber, 65535}, {"Meta", kindBytes, memberlist.MetaMaxSize},
		{"Incarnation", kindNumber, noLimit}, {"State", kindNumber, uint64(memberlist.StateLeft)}, {"Vsn", kindBytes, 6}}
}

// exchangeFields are those in front: how many members follow, and how many bytes of others' own, which are none here.
func exchangeFields() []field {
	return []field{{"Nodes", kindNumber, maxNodes}, {"UserStateLen", kindNumber, 0}, {"Join", kindFlag, 1}}
}

// singleOK looks at one message of a packet.
func singleOK(data []byte) bool {
	if len(data) == 0 || data[0] == typeError {
		return false
	}
	message := data[0]
	known := fieldsOf(message)
	if known == nil {
		return false
	}
	v, rest, ok := readMap(data[1:], known)
	if !ok || len(rest) > 0 {
		return false
	}
	switch message {
	case typePing:
		return v.addressOK("SourceAddr")
	case typeIndirect:
		return v.addressOK("SourceAddr") && len(v.bytes["Target"]) > 0 && v.addressOK("Target") && v.numbers["Port"] > 0
	case typeSuspect, typeDead:
		return nameOK(v.bytes["Node"]) && nameOK(v.bytes["From"])
	case typeAlive:
		return v.nodeOK("Node")
	}
	return true
}

// addressOK reports whether a field has an address of 4 or 16 bytes, or none.
func (v *values) addressOK(name string) bool {
	n := len(v.bytes[name])
	return n == 0 || n == 4 || n == 16
}

// nodeOK reports whether a member is described as members describe themselves: by its address in its name, and with the versions of
// memberlist's protocol. One living member with versions that exclude ours would end all exchanges of states: none could join.
func (v *values) nodeOK(name string) bool {
	addr, _, ok := splitNodeName(string(v.bytes[name]))
	at, okAddr := netip.AddrFromSlice(v.bytes["Addr"])
	if !ok || !okAddr || netip.AddrPortFrom(at.Unmap(), uint16(v.numbers["Port"])) != addr {
		return false
	}
	versions := v.bytes["Vsn"]
	return len(versions) == 6 && versions[0] >= 1 && versions[0] <= protocolVersion && versions[1] >= protocolVersion &&
		versions[2] == protocolVersion && slices.Equal(versions[3:], []byte{0, 0, 0})
}

// nameOK reports whether a member is named as members name themselves.
func nameOK(name []byte) bool {
	_, _, ok := splitNodeName(string(name))
	return ok
}

// lookAtFrame judges what a stream brings, and returns our message if it is one. An answer is one on a stream that this process
// opened.
func lookAtFrame(plain []byte, isAnswer bool) (way, []byte) {
	if len(plain) == 0 {
		return refused, nil
	}
	switch plain[0] {
	case typePushPull:
		return judged(exchangeOK(plain[1:])), nil
	case typePing:
		return judged(!isAnswer && singleOK(plain)), nil
	case typeAck:
		return judged(isAnswer && singleOK(plain)), nil
	case typeError:
		_, rest, ok := readMap(plain[1:], fieldsOf(typeError))
		return judged(isAnswer && ok && len(rest) == 0), nil
	case typeUser:
		if !isAnswer {
			return forUs, plain[1:]
		}
	}
	return refused, nil
}

// exchangeOK looks at an exchange of states: as many members as it says, and nothing else.
func exchangeOK(data []byte) bool {
	head, data, ok := readMap(data, exchangeFields())
	if !ok {
		return false
	}
	known := stateFields()
	for range head.numbers["Nodes"] {
		var v values
		if v, data, ok = readMap(data, known); !ok || !v.nodeOK("Name") {
			return false
		}
	}
	return len(data) == 0
}

// maxNames is how many members the loop knows, those included that have gone: twice as many as a fleet may have.
const maxNames = 2 * fleet.MaxMembers
