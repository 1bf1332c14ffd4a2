package gossip

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// The seal is that of memberlist, byte for byte, so its own sealing could take the place of ours:
//
//	packet: 244 length label  sealed                     sealed with the label as additional data
//	stream: 244 length label  10 length(4 bytes) sealed  sealed with 10, length and label as additional data
//	sealed: 1 nonce(12 bytes) AES-256-GCM
//
// The answer on a stream has no label in front. Memberlist knows a version 0, too, with padding. No release since 2014 seals with it, and
// a holder of a key can end the process with it, so nothing but version 1 is opened here.
//
// Sealing is done here and not by memberlist for three reasons: what a packet says has to be looked at before memberlist sees it, so
// it would be opened twice; a message for all is sealed once and not for each member; and its Keyring changes a slice in place that
// other goroutines read.
const (
	labelType   = 244
	sealedType  = 10
	sealVersion = 1
	nonceSize   = 12
	tagSize     = 16
	sealedExtra = 1 + nonceSize + tagSize // bytes that the seal adds
	frameHeader = 5
)

var (
	errSeal  = errors.New("no key opens it")
	errLabel = errors.New("it is of another fleet")
	errForm  = errors.New("it makes no sense")
)

// seal appends the sealed text.
func (r ring) seal(dst, plain, extra []byte) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // which never fails
	dst = append(append(dst, sealVersion), nonce[:]...)
	return r[0].Seal(dst, nonce[:], plain, extra)
}

// open returns what is sealed, in new memory.
func (r ring) open(sealed, extra []byte) ([]byte, error) {
	if len(sealed) < sealedExtra || sealed[0] != sealVersion {
		return nil, errSeal
	}
	nonce, text := sealed[1:1+nonceSize], sealed[1+nonceSize:]
	// A key that does not fit costs the time of a checksum, and leaves dst as it was.
	dst := make([]byte, 0, len(text)-tagSize)
	for _, box := range r {
		if plain, err := box.Open(dst, nonce, text, extra); err == nil {
			return plain, nil
		}
	}
	return nil, errSeal
}

// envelope seals and opens what goes over the network.
type envelope struct {
	label string // the name of the fleet
	keys  *keys
}

// labelled appends the label.
func (e *envelope) labelled(dst []byte) []byte {
	return append(append(dst, labelType, byte(len(e.label))), e.label...)
}

// packet seals a packet.
func (e *envelope) packet(plain []byte) []byte {
	dst := e.labelled(make([]byte, 0, 2+len(e.label)+sealedExtra+len(plain)))
	return e.keys.current.Load().seal(dst, plain, []byte(e.label))
}

// openPacket returns what is in a packet. With errLabel, it is one of another fleet with the same key.
func (e *envelope) openPacket(data []byte) ([]byte, error) {
	label, sealed, ok := cutLabel(data)
	if !ok {
		return nil, errSeal
	}
	plain, err := e.keys.current.Load().open(sealed, label)
	if err == nil && string(label) != e.label {
		return nil, errLabel
	}
	return plain, err
}

// cutLabel takes the label off a packet.
func cutLabel(data []byte) (label, rest []byte, ok bool) {
	if len(data) < 2 || data[0] != labelType || data[1] == 0 {
		return nil, nil, false
	}
	end := 2 + int(data[1]) // beyond what a byte has
	if len(data) < end {
		return nil, nil, false
	}
	return data[2:end], data[end:], true
}

// frame seals what goes over a stream at once. It appends that.
func (e *envelope) frame(dst, plain []byte) []byte {
	at := len(dst)
	dst = append(dst, sealedType)
	dst = binary.BigEndian.AppendUint32(dst, uint32(sealedExtra+len(plain)))
	return e.keys.current.Load().seal(dst, plain, frameExtra(dst[at:], e.label))
}

// openFrame returns what is in a frame, without its header.
func (e *envelope) openFrame(header, sealed []byte, label string) ([]byte, error) {
	plain, err := e.keys.current.Load().open(sealed, frameExtra(header, label))
	if err == nil && label != e.label {
		return nil, errLabel
	}
	return plain, err
}

// frameExtra is what a frame is sealed with beside its text.
func frameExtra(header []byte, label string) []byte {
	return append(append(make([]byte, 0, frameHeader+len(label)), header[:frameHeader]...), label...)
}
