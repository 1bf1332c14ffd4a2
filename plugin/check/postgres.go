package check

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// databaseUser is who the checks of databases claim to be. No such user need exist.
const databaseUser = "multivalue"

// newPostgres builds the check that begins a session and leaves when the server asks who it is (B50).
func newPostgres(s *spec) (prober, error) {
	if err := s.refusePath(); err != nil {
		return nil, err
	}
	config, err := s.upgradeConfig()
	if err != nil {
		return nil, err
	}
	return s.overSession(nil, postgresCheck{config}), nil
}

type postgresCheck struct {
	tls *tls.Config // nil: in the clear
}

var (
	// postgresTLS is the SSLRequest of the protocol's manual, "Message Formats".
	postgresSSLRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

	// postgresBye is a Terminate.
	postgresTerminate = []byte{'X', 0, 0, 0, 4}

	// postgresHello is a StartupMessage of protocol 3.0. The database is one that every cluster begins with.
	postgresStartup = startupMessage("user", databaseUser, "database", "postgres", "application_name", userAgent)
)

func startupMessage(parameters ...string) []byte {
	m := []byte{0, 0, 0, 0, 0, 3, 0, 0}
	for _, p := range parameters {
		m = append(append(m, p...), 0)
	}
	m = append(m, 0)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	return m
}

func (p postgresCheck) ask(ctx context.Context, x *session) error {
	if p.tls != nil {
		if err := p.requestTLS(ctx, x); err != nil {
			return err
		}
	}
	if err := x.send(postgresStartup); err != nil {
		return err
	}
	for {
		kind, body, err := postgresMessage(x)
		if err != nil {
			return err
		}
		if over, err := p.judgeMessage(kind, body); over {
			if kind == 'Z' {
				_ = x.send(postgresTerminate) // a session is open: the log would tell of one that broke off
			}
			return err
		}
	}
}

// startTLS asks for TLS, which the server answers with one byte.
func (p postgresCheck) requestTLS(ctx context.Context, x *session) error {
	if err := x.send(postgresSSLRequest); err != nil {
		return err
	}
	var answer [1]byte
	if err := x.fill(answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case 'S':
		return x.startTLS(ctx, p.tls)
	case 'N':
		return errors.New("server does not offer tls")
	}
	return malformed(append(answer[:], x.buffered()...))
}

// ahead is what has come already behind what was read, to show it.
func (x *session) buffered() []byte {
	more, _ := x.in.Peek(min(x.in.Buffered(), quoteLimit))
	return more
}

// postgresMessage reads one message.
func postgresMessage(x *session) (kind byte, body []byte, err error) {
	var head [5]byte
	if err := x.fill(head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > responseLimit || !strings.ContainsRune("REZSKNv", rune(head[0])) {
		return 0, nil, malformed(append(head[:], x.buffered()...))
	}
	body = make([]byte, size-4)
	return head[0], body, x.fill(body)
}

// judge takes one message of the server's. To be asked who we are is what was hoped for. A server that lets everybody
// in goes on, and may yet have no room for us, so its last word is waited for.
func (p postgresCheck) judgeMessage(kind byte, body []byte) (over bool, result error) {
	switch {
	case kind == 'E':
		return true, postgresFailure(body)
	case kind == 'Z':
		return true, nil
	case kind != 'R':
		return false, nil // a notice, or a setting
	case len(body) < 4:
		return true, malformed(append([]byte{kind}, body...))
	}
	const welcome = 0
	return binary.BigEndian.Uint32(body) != welcome, nil
}

// postgresFailure reads an ErrorResponse, by the codes of the manual's appendix A. A refusal of us, in person, says
// that the server takes sessions.
func postgresFailure(body []byte) error {
	var code, text string
	for field := range strings.SplitSeq(string(body), "\x00") {
		switch {
		case strings.HasPrefix(field, "C"):
			code = field[1:]
		case strings.HasPrefix(field, "M"):
			text = field[1:]
		}
	}
	const noDatabase, noPrivilege, notAuthorized = "3D000", "42501", "28"
	if code == noDatabase || code == noPrivilege || strings.HasPrefix(code, notAuthorized) {
		return nil
	}
	return fmt.Errorf("postgres error %s: %s", quote(code), quote(text))
}
