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
	// credentialLimit is how long, in bytes, a file with credentials may be.
	credentialLimit = 16 << 10
	// restless is how young a file is of which another version may have the same time.
	settleTime = 2 * time.Second
)

// A credential is the value of the header Authorization, made of a file. It is read again when the file has changed, so
// that it can be exchanged without a reload. It is part of no text, and not of the check's identity: a password that
// is changed leaves the verdicts as they are.
type credential struct {
	path   string
	format func(text string) (string, error)
	cached atomic.Pointer[cachedValue]
}

// A reading is a file as it was read.
type cachedValue struct {
	file      fs.FileInfo
	value     string
	unsettled bool // when it was read
}

func setBasicAuth(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, basicAuthorization)
}

func setBearer(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, bearerAuthorization)
}

func (h *httpSettings) authorize(v []string, form func(string) (string, error)) (shown []string, hidden []byte, err error) {
	if h.auth != nil {
		return nil, nil, errors.New("only one of basic_auth and bearer is allowed: keep one")
	}
	h.auth = &credential{path: v[0], format: form}
	_, err = h.auth.value()
	return v, nil, err
}

// basic is the form of RFC 7617, 2.
func basicAuthorization(text string) (string, error) {
	if user, _, ok := strings.Cut(text, ":"); !ok || user == "" {
		return "", errors.New("invalid credentials: write user:password on one line")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), nil
}

// bearer is the form of RFC 6750, 2.1.
func bearerAuthorization(text string) (string, error) {
	if text == "" || strings.Contains(text, " ") {
		return "", errors.New("invalid token: write one token without spaces")
	}
	return "Bearer " + text, nil
}

// read is the value. It costs a look at the file's status where that has not changed.
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

// load reads the file. What is wrong with it is said without what it holds.
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

// same reports whether that is the file that was read.
func (r *cachedValue) sameFile(file fs.FileInfo) bool {
	return os.SameFile(r.file, file) && r.file.Size() == file.Size() && r.file.ModTime().Equal(file.ModTime()) &&
		changeTime(r.file).Equal(changeTime(file))
}
