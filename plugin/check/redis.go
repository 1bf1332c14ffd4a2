package check

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// redisOptions are the options of redis and rediss alone.
var redisOptions = []string{"role"}

// setRole parses the option role.
func setRole(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] != "master" && v[0] != "replica" {
		return nil, nil, fmt.Errorf("invalid role %s: use master or replica", quote(v[0]))
	}
	s.role = v[0]
	return v, nil, nil
}

// newRedis builds the check that asks a Redis, or a server that speaks its protocol, whether it
// serves (B50). PING is the question that Redis itself offers for this: it fails while data is
// being loaded.
func newRedis(s *spec) (prober, error) {
	if err := errors.Join(s.refuseHost(), s.refusePath()); err != nil {
		return nil, err
	}
	return s.overSession(nil, redisCheck{s.role}), nil
}

// newRediss is newRedis over TLS.
func newRediss(s *spec) (prober, error) {
	if err := s.refusePath(); err != nil {
		return nil, err
	}
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	return s.overSession(config, redisCheck{s.role}), nil
}

// A redisCheck speaks RESP, as "Redis serialization protocol specification" describes it. Both
// commands are allowed for everyone on a server without a password.
type redisCheck struct {
	role string // the wanted role; "" for any
}

// Commands, each an array of bulk strings.
const (
	redisPing = "*1\r\n$4\r\nPING\r\n"
	redisRole = "*1\r\n$4\r\nROLE\r\n"
)

// ask sends both commands at once, and the server answers them in order. That saves a round trip.
func (r redisCheck) ask(_ context.Context, x *session) error {
	request := redisPing
	if r.role != "" {
		request += redisRole
	}
	if err := x.send([]byte(request)); err != nil {
		return err
	}
	// The first line answers PING. A server that wants a login says so instead, and serves those
	// who have one.
	line, err := x.line()
	switch {
	case err != nil:
		return err
	case line != "+PONG" && !wantsLogin(line):
		return redisFailure(line)
	case r.role == "":
		return nil
	}
	return r.judgeRole(x)
}

// wantsLogin reports whether the server serves, but requires a login from us.
func wantsLogin(line string) bool {
	return strings.HasPrefix(line, "-NOAUTH ") || strings.HasPrefix(line, "-NOPERM ")
}

// redisFailure is the reason for an unexpected line. A line that starts with "-" is an error of the
// server, such as LOADING while it reads its data from disk, or MASTERDOWN.
func redisFailure(line string) error {
	if text, ok := strings.CutPrefix(line, "-"); ok {
		return errors.New("redis error " + quote(text))
	}
	return malformed([]byte(line))
}

// judgeRole reads the answer to ROLE, an array whose first element is the role. The rest is not
// waited for. Redis calls a replica "slave" there.
func (r redisCheck) judgeRole(x *session) error {
	// The line with the number of elements, then the line with the length of the first.
	elements := 0
	for _, kind := range []string{"*", "$"} {
		line, err := x.line()
		switch {
		case err != nil:
			return err
		case wantsLogin(line):
			return errors.New("role unknown, because the server requires a login: " + quote(line[1:]))
		case !strings.HasPrefix(line, kind):
			return redisFailure(line)
		case kind == "*":
			elements, _ = strconv.Atoi(line[1:])
		}
	}
	role, err := x.line()
	if err != nil {
		return err
	}
	// The option uses the word of today's documentation.
	if role == "slave" {
		role = "replica"
	}
	if role != r.role {
		return fmt.Errorf("role is %s, not %s", quote(role), r.role)
	}
	if !x.skipReceived(elements - 1) {
		x.finish = func() error { return x.skipRESP(elements - 1) }
	}
	return nil
}

// skipReceived is skipRESP for values that have come already. Otherwise it skips nothing.
func (x *session) skipReceived(values int) bool {
	received, _ := x.in.Peek(x.in.Buffered())
	left := bytes.NewReader(received)
	copied := &session{src: &limitedReader{r: left, left: len(received)}, in: readers.Get().(*bufio.Reader)}
	defer readers.Put(copied.in)
	copied.in.Reset(copied.src)
	if copied.skipRESP(values) != nil {
		return false
	}
	_, err := x.in.Discard(len(received) - left.Len() - copied.in.Buffered())
	return err == nil
}

// skipRESP reads values of RESP, of the kinds that version 2 has.
func (x *session) skipRESP(values int) error {
	for ; values > 0; values-- {
		line, err := x.line()
		if err != nil || line == "" {
			return errors.Join(err, errNotAtRest)
		}
		size, _ := strconv.Atoi(line[1:])
		switch line[0] {
		case '*':
			values += max(0, size)
		case '$':
			if size < 0 { // null
				continue
			}
			if _, err := x.in.Discard(size + len("\r\n")); err != nil {
				return err
			}
		}
	}
	return nil
}
