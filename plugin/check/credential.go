package check

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

const (
	// credentialLimit is the longest file with credentials, in bytes.
	credentialLimit = 16 << 10
	// settleTime is how long a file must be unchanged before its cached content is trusted.
	// Timestamps of some file systems have a resolution of up to two seconds, so two versions may
	// have the same one.
	settleTime = 2 * time.Second
)

// A credential is the value of the Authorization header, read from a file. It is read again when
// the file has changed, so a password or token can be rotated without a reload. It is not part of
// the text and the identity of the check: a rotated password must not reset the state of every
// target.
type credential struct {
	path   string
	format func(text string) (string, error)                         // turns the line of the file into the value
	read   func(path string, limit int) ([]byte, fs.FileInfo, error) // watchfile.Read, except in tests
	cached atomic.Pointer[cachedValue]                               // nil before the first read

	mu      sync.Mutex
	looking *look // the look at the file that is under way; nil if none is
}

// A look is one look at the file. All probes that come while it is under way wait for it, so that
// no more than one goroutine hangs if the file system does not answer.
type look struct {
	done  chan struct{} // closed when the rest is known
	value string
	err   error
}

// A cachedValue is the value from one version of the file.
type cachedValue struct {
	file      fs.FileInfo // tells the version
	value     string
	unsettled bool // the file was younger than settleTime when it was read
}

// setBasicAuth parses the option basic_auth.
func setBasicAuth(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, basicAuthorization)
}

// setBearer parses the option bearer.
func setBearer(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, bearerAuthorization)
}

// authorize sets the file of the Authorization header, and reads it once so that a missing or
// malformed file is found when the configuration is loaded. Nothing of it is hidden text: see
// credential.
func (h *httpSettings) authorize(v []string, form func(string) (string, error)) (shown []string, hidden []byte, err error) {
	if h.auth != nil {
		return nil, nil, errors.New("only one of basic_auth and bearer is allowed: keep one")
	}
	h.auth = &credential{path: v[0], format: form, read: watchfile.Read}
	_, err = h.auth.current()
	return v, nil, err
}

// basicAuthorization formats a user name and a password (RFC 7617, 2). The password may contain
// colons, the user name may not.
func basicAuthorization(text string) (string, error) {
	if user, _, ok := strings.Cut(text, ":"); !ok || user == "" {
		return "", errors.New("invalid credentials: write user:password on one line")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), nil
}

// bearerAuthorization formats a token (RFC 6750, 2.1).
func bearerAuthorization(text string) (string, error) {
	if text == "" || strings.Contains(text, " ") {
		return "", errors.New("invalid token: write one token without spaces")
	}
	return "Bearer " + text, nil
}

// value returns the current value, or an error if ctx ends before it is known: a file may be on a
// server that does not answer.
func (c *credential) value(ctx context.Context) (string, error) {
	l := c.join()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		return "", fmt.Errorf("%s: its file system does not answer", quote(c.path))
	}
}

// join returns the look that is under way, and begins one if none is.
func (c *credential) join() *look {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looking == nil {
		c.looking = &look{done: make(chan struct{})}
		go c.complete(c.looking)
	}
	return c.looking
}

// complete looks at the file, in a goroutine of its own.
func (c *credential) complete(l *look) {
	defer func() {
		if r := recover(); r != nil { // probes wait, and the server must not end
			l.err = fmt.Errorf("reading it panicked: %v", r)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.looking = nil
		close(l.done)
	}()
	l.value, l.err = c.current()
}

// current returns the current value. If the file has not changed, that costs one stat call.
func (c *credential) current() (string, error) {
	file, err := os.Stat(c.path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), errors.Unwrap(err))
	}
	if last := c.cached.Load(); last != nil && !last.unsettled && last.sameFile(file) {
		return last.value, nil
	}
	young := time.Since(file.ModTime()) < settleTime || time.Since(changeTime(file)) < settleTime
	value, err := c.load()
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), err)
	}
	c.cached.Store(&cachedValue{file, value, young})
	return value, nil
}

// load reads and formats the file. Its errors never quote the content.
func (c *credential) load() (string, error) {
	text, _, err := c.read(c.path, credentialLimit)
	if errors.Is(err, watchfile.ErrIrregular) || errors.Is(err, watchfile.ErrTooLarge) {
		return "", fmt.Errorf("not a regular file of at most %d bytes", credentialLimit)
	}
	if err != nil {
		return "", errors.Unwrap(err)
	}
	line := strings.TrimRight(string(text), "\r\n")
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("invalid content: write one line without control characters")
	}
	return c.format(line)
}

// sameFile reports whether file is the version that was read. Size and modification time alone
// would miss a rewrite with the same length and a restored time, so the change time is compared,
// too.
func (r *cachedValue) sameFile(file fs.FileInfo) bool {
	return os.SameFile(r.file, file) && r.file.Size() == file.Size() && r.file.ModTime().Equal(file.ModTime()) &&
		changeTime(r.file).Equal(changeTime(file))
}
