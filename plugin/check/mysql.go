package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// newMySQL builds the check that logs in, or is refused as an unknown user (B50).
//
// To read the greeting and leave would be simpler, and must not be done: the server counts each
// handshake that was not finished against our host, and blocks the host after max_connect_errors of
// them. A refused login is not counted, and neither is a successful one.
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

// A mysqlCheck speaks the client/server protocol of MySQL and MariaDB, as "Client/Server Protocol"
// in the MySQL source documentation describes it. No password is sent, so none can leak.
type mysqlCheck struct {
	tls *tlsClient // nil without starttls
}

// Capability flags, the first bytes of packets, and our limit. The names behind are those of the
// documentation.
const (
	mysqlLongPassword = 0x1     // CLIENT_LONG_PASSWORD
	mysqlProtocol41   = 0x200   // CLIENT_PROTOCOL_41
	mysqlTLS          = 0x800   // CLIENT_SSL
	mysqlSecure       = 0x8000  // CLIENT_SECURE_CONNECTION
	mysqlPlugin       = 0x80000 // CLIENT_PLUGIN_AUTH

	mysqlOK         = 0x00 // OK_Packet: logged in
	mysqlProtocol10 = 0x0a // Handshake V10, the only version since 1998
	mysqlMoreData   = 0x01 // AuthMoreData: the server asks for more proof
	mysqlAuthSwitch = 0xfe // AuthSwitchRequest: the server wants another kind of proof
	mysqlError      = 0xff // ERR_Packet

	mysqlPacketLimit = 1 << 14 // no packet before the end of a login is longer, in bytes
)

// mysqlQuit is the packet COM_QUIT.
var mysqlQuit = []byte{1, 0, 0, 0, 1}

// ask reads the greeting, starts TLS if wanted, and logs in.
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

// readLoginResult judges how the login ends. A server that wants another kind of proof gets an
// empty one, so that it logs a refused login and not an aborted connection.
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
		_ = x.send(mysqlQuit) // the server counts clients that leave without it
		return nil
	case mysqlMoreData:
		return nil // it serves, and asks for more than an empty proof
	case mysqlError:
		return mysqlFailure(body)
	}
	return malformed(body)
}

// requestTLS sends an SSLRequest, which is the start of a login, and starts TLS. It returns the
// number of the packet that it sent.
func (m mysqlCheck) requestTLS(ctx context.Context, x *session, number byte, offers uint16) (byte, error) {
	if offers&mysqlTLS == 0 {
		return 0, errors.New("server does not offer tls")
	}
	if err := x.send(mysqlFrame(number+1, m.capabilities())); err != nil {
		return 0, err
	}
	return number + 1, x.startTLS(ctx, m.tls)
}

// capabilities are the fixed fields that start a login, and the whole of an SSLRequest.
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

// login is a HandshakeResponse41 of an unknown user without a password.
func (m mysqlCheck) login() []byte {
	return append(m.capabilities(), databaseUser+"\x00"+"\x00"+"mysql_native_password\x00"...)
}

// mysqlFrame adds the header of a packet: the length in three bytes, little-endian, and the
// sequence number.
func mysqlFrame(number byte, body []byte) []byte {
	size := len(body)
	return append([]byte{byte(size), byte(size >> 8), byte(size >> 16), number}, body...)
}

// mysqlPacket reads one packet. The body is never empty, so callers may look at its first byte.
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

// mysqlCapabilities are the lower 16 capability flags in a greeting. The flag for TLS is among
// them.
func mysqlCapabilities(greeting []byte) (uint16, error) {
	const thread, salt, filler = 4, 8, 1
	_, rest, ok := bytes.Cut(greeting[1:], []byte{0}) // behind the version
	if greeting[0] != mysqlProtocol10 || !ok || len(rest) < thread+salt+filler+2 {
		return 0, malformed(greeting)
	}
	return binary.LittleEndian.Uint16(rest[thread+salt+filler:]), nil
}

// mysqlOnlyUs are errors of a server that serves others, only not us: access denied (1044, 1045,
// 1698), no such database (1049), our host is not allowed (1130), expired password (1820, 1862),
// TLS required (3159), locked account (3118; 4151 in MariaDB), account blocked after failed logins
// (3955; 4150 in MariaDB), unknown way to log in (1251, 1524), and limits of the account, which we
// have used up (1203, 1226). The numbers are those of the "MySQL Error Message Reference" and of
// MariaDB's list of error codes. Not among them are 1129, which every client on our host would meet,
// and 3032, which tells all users without privileges that the server is offline.
var mysqlOnlyUs = []uint16{1044, 1045, 1049, 1130, 1203, 1226, 1251, 1524, 1698, 1820, 1862, 3118, 3159, 3955, 4150, 4151}

// mysqlFailure judges an error packet. The SQLSTATE is missing in an error that comes before the
// greeting.
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
