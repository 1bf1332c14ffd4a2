package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// newMySQL builds the check that logs in, or is turned away as somebody unknown (B50).
//
// To read the greeting and leave would be less, and is what must not be done: the server counts a handshake that was
// not ended against the host it came from, and blocks that host after max_connect_errors of them. A login that is
// denied does not count so, and neither does one that is let in.
func newMySQL(s *spec) (prober, error) {
	if err := s.refusePath(); err != nil {
		return nil, err
	}
	config, err := s.upgradeConfig()
	if err != nil {
		return nil, err
	}
	return s.overSession(nil, mysqlCheck{config}), nil
}

type mysqlCheck struct {
	tls *tls.Config // nil: in the clear
}

// Capabilities of the protocol, and what begins a packet.
const (
	mysqlLongPassword = 0x1
	mysqlProtocol41   = 0x200
	mysqlTLS          = 0x800
	mysqlSecure       = 0x8000
	mysqlPlugin       = 0x80000

	mysqlOK         = 0x00
	mysqlProtocol10 = 0x0a // version 10 of the handshake, the only one since 1998
	mysqlMoreData   = 0x01
	mysqlAuthSwitch = 0xfe
	mysqlError      = 0xff

	mysqlPacketLimit = 1 << 14 // nothing that comes before a login is longer
)

// mysqlQuit is the packet of COM_QUIT.
var mysqlQuit = []byte{1, 0, 0, 0, 1}

func (m mysqlCheck) ask(ctx context.Context, x *session) error {
	number, greeting, err := mysqlPacket(x)
	if err != nil {
		return err
	}
	if greeting[0] == mysqlError {
		return mysqlFailure(greeting)
	}
	offers, err := mysqlCapabilities(greeting)
	if err != nil {
		return err
	}
	if m.tls != nil {
		if number, err = m.requestTLS(ctx, x, number, offers); err != nil {
			return err
		}
	}
	if err := x.send(mysqlFrame(number+1, m.login())); err != nil {
		return err
	}
	return m.readLoginResult(x)
}

// enter reads what becomes of the login. A server that would rather have another proof of who we are gets an empty
// one, so that it has an end to log and not an error.
func (m mysqlCheck) readLoginResult(x *session) error {
	number, body, err := mysqlPacket(x)
	if err == nil && body[0] == mysqlAuthSwitch {
		if err := x.send(mysqlFrame(number+1, nil)); err != nil {
			return err
		}
		_, body, err = mysqlPacket(x)
	}
	if err != nil {
		return err
	}
	switch body[0] {
	case mysqlOK:
		_ = x.send(mysqlQuit) // let in: the server counts those that leave without a word
		return nil
	case mysqlMoreData:
		return nil // it wants to know more of us
	case mysqlError:
		return mysqlFailure(body)
	}
	return malformed(body)
}

// startTLS asks for TLS, by the beginning of a login.
func (m mysqlCheck) requestTLS(ctx context.Context, x *session, number byte, offers uint16) (byte, error) {
	if offers&mysqlTLS == 0 {
		return 0, errors.New("server does not offer tls")
	}
	if err := x.send(mysqlFrame(number+1, m.capabilities())); err != nil {
		return 0, err
	}
	return number + 1, x.startTLS(ctx, m.tls)
}

// capabilities are what a login begins with, and all of a request for TLS.
func (m mysqlCheck) capabilities() []byte {
	const maxPacket, utf8mb4, reserved = 1 << 24, 45, 23
	flags := uint32(mysqlLongPassword | mysqlProtocol41 | mysqlSecure | mysqlPlugin)
	if m.tls != nil {
		flags |= mysqlTLS
	}
	b := binary.LittleEndian.AppendUint32(nil, flags)
	b = binary.LittleEndian.AppendUint32(b, maxPacket)
	return append(append(b, utf8mb4), make([]byte, reserved)...)
}

// login is a user without a password.
func (m mysqlCheck) login() []byte {
	return append(m.capabilities(), databaseUser+"\x00"+"\x00"+"mysql_native_password\x00"...)
}

func mysqlFrame(number byte, body []byte) []byte {
	size := len(body)
	return append([]byte{byte(size), byte(size >> 8), byte(size >> 16), number}, body...)
}

// mysqlPacket reads one packet, which is never empty.
func mysqlPacket(x *session) (number byte, body []byte, err error) {
	var head [4]byte
	if err := x.fill(head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if size == 0 || size > mysqlPacketLimit {
		return 0, nil, malformed(append(head[:], x.buffered()...))
	}
	body = make([]byte, size)
	return head[3], body, x.fill(body)
}

// mysqlOffers are the capabilities in a greeting, of which only the lower half is looked at.
func mysqlCapabilities(greeting []byte) (uint16, error) {
	const thread, salt, filler = 4, 8, 1
	_, rest, ok := bytes.Cut(greeting[1:], []byte{0}) // behind the version
	if greeting[0] != mysqlProtocol10 || !ok || len(rest) < thread+salt+filler+2 {
		return 0, malformed(greeting)
	}
	return binary.LittleEndian.Uint16(rest[thread+salt+filler:]), nil
}

// mysqlPersonal are the errors of a server that serves, only not us: access denied (1044, 1045, 1698), no such
// database (1049), a host of ours that nobody is let in from (1130), an expired password (1820, 1862), TLS wanted
// (3159), an account that is locked (3118, in MariaDB 4151), a way to log in that it does not have (1251, 1524), and what
// an account may have of the server, which we have had (1203, 1226).
var mysqlOnlyUs = []uint16{1044, 1045, 1049, 1130, 1203, 1226, 1251, 1524, 1698, 1820, 1862, 3118, 3159, 4151}

// mysqlFailure reads an error packet. In one that comes before a greeting the SQLSTATE is missing.
func mysqlFailure(body []byte) error {
	if len(body) < 3 {
		return malformed(body)
	}
	code, text := binary.LittleEndian.Uint16(body[1:]), body[3:]
	if slices.Contains(mysqlOnlyUs, code) {
		return nil
	}
	const state = len("#HY000")
	if len(text) >= state && text[0] == '#' {
		text = text[state:]
	}
	return fmt.Errorf("mysql error %d: %s", code, quote(string(text)))
}
