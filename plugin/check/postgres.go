package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// databaseUser is the user name that the checks of databases log in with. No such user need exist.
const databaseUser = "multivalue"

// newPostgres builds the check that starts a session, and leaves when the server asks for a proof
// (B50).
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

// A postgresCheck speaks version 3.0 of the frontend/backend protocol, as the PostgreSQL manual
// describes it ("Message Formats"). No password is sent, so none can leak.
type postgresCheck struct {
	tls *tlsClient // nil without starttls
}

var (
	// postgresSSLRequest is an SSLRequest.
	postgresSSLRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

	// postgresTerminate is a Terminate.
	postgresTerminate = []byte{'X', 0, 0, 0, 4}

	// postgresStartup is a StartupMessage. The database exists in every cluster from the start. The
	// application name shows up in pg_stat_activity and, if log_line_prefix asks for it, in the
	// log.
	postgresStartup = startupMessage("user", databaseUser, "database", "postgres", "application_name", userAgent)
)

// startupMessage encodes pairs of names and values, each ended by a zero byte. The length in front
// counts itself.
func startupMessage(parameters ...string) []byte {
	m := []byte{0, 0, 0, 0, 0, 3, 0, 0}
	for _, p := range parameters {
		m = append(append(m, p...), 0)
	}
	m = append(m, 0)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	return m
}

// ask starts TLS if wanted, starts a session, and reads messages until one decides.
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
				_ = x.send(postgresTerminate) // the session is open; the server would log a client that just leaves
			}
			return err
		}
	}
}

// requestTLS asks for TLS. The server answers with a single byte.
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

// buffered is what was received beyond what was read, to show it in a reason.
func (x *session) buffered() []byte {
	more, _ := x.in.Peek(min(x.in.Buffered(), quoteLimit))
	return more
}

// postgresMessage reads one message: its type, its length, which counts itself, and its body. Types
// that no server sends before a query are malformed.
func postgresMessage(x *session) (kind byte, body []byte, err error) {
	var head [5]byte
	if err := x.fill(head[:]); err != nil {
		return 0, nil, err
	}
	// R, E, Z, S, K, N and v are: authentication, error, ready for query, parameter, key for
	// cancelling, notice, and negotiation of the protocol version.
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > responseLimit || !strings.ContainsRune("REZSKNv", rune(head[0])) {
		return 0, nil, malformed(append(head[:], x.buffered()...))
	}
	body = make([]byte, size-4)
	return head[0], body, x.fill(body)
}

// judgeMessage judges one message, and reports whether it decides. A request for a proof is what a
// healthy server sends. A server that lets everybody in continues, and may still have no free
// connection for us, so its last message is waited for.
func (p postgresCheck) judgeMessage(kind byte, body []byte) (over bool, result error) {
	switch {
	case kind == 'E':
		return true, postgresFailure(body)
	case kind == 'Z':
		return true, nil
	case kind != 'R':
		return false, nil // a notice, or a parameter
	case len(body) < 4:
		return true, malformed(append([]byte{kind}, body...))
	}
	// AuthenticationOk is the only answer without a demand.
	const welcome = 0
	return binary.BigEndian.Uint32(body) != welcome, nil
}

// postgresFailure judges an ErrorResponse by its SQLSTATE (PostgreSQL manual, appendix A). An error
// that only concerns us, such as an unknown user, shows that the server accepts sessions. PgBouncer
// says that in words only.
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
	// 3D000 is invalid_catalog_name, 42501 insufficient_privilege, and class 28 an invalid
	// authorization.
	const noDatabase, noPrivilege, notAuthorized = "3D000", "42501", "28"
	if code == noDatabase || code == noPrivilege || strings.HasPrefix(code, notAuthorized) || onlyUsToPgBouncer(code, text) {
		return nil
	}
	return fmt.Errorf("postgres error %s: %s", quote(code), quote(text))
}
