package check

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"
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
	format func(text string) (string, error) // turns the line of the file into the value
	cached atomic.Pointer[cachedValue]       // nil before the first read
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
	h.auth = &credential{path: v[0], format: form}
	_, err = h.auth.value()
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

// value returns the current value. If the file has not changed, that costs one stat call. Several
// probes may call it at once; then the last one to read wins, and all of them have read the same
// file.
func (c *credential) value() (string, error) {
	file, err := os.Stat(c.path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), errors.Unwrap(err))
	}
	if last := c.cached.Load(); last != nil && !last.unsettled && last.sameFile(file) {
		return last.value, nil
	}
	young := time.Since(file.ModTime()) < settleTime || time.Since(changeTime(file)) < settleTime
	value, err := c.load(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), err)
	}
	c.cached.Store(&cachedValue{file, value, young})
	return value, nil
}

// load reads and formats the file. Its errors never quote the content.
func (c *credential) load(file fs.FileInfo) (string, error) {
	if !file.Mode().IsRegular() || file.Size() > credentialLimit {
		return "", fmt.Errorf("not a regular file of at most %d bytes", credentialLimit)
	}
	text, err := os.ReadFile(c.path)
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
