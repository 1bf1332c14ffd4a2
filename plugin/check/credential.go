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
	restless = 2 * time.Second
)

// A credential is the value of the header Authorization, made of a file. It is read again when the file has changed, so
// that it can be exchanged without a reload. It is part of no text, and not of the check's identity: a password that
// is changed leaves the verdicts as they are.
type credential struct {
	path string
	form func(text string) (string, error)
	last atomic.Pointer[reading]
}

// A reading is a file as it was read.
type reading struct {
	file  fs.FileInfo
	value string
	young bool // when it was read
}

func setBasicAuth(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, basic)
}

func setBearer(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.authorize(v, bearer)
}

func (h *httpSettings) authorize(v []string, form func(string) (string, error)) (shown []string, hidden []byte, err error) {
	if h.auth != nil {
		return nil, nil, errors.New("goes without basic_auth and bearer of another file: keep one")
	}
	h.auth = &credential{path: v[0], form: form}
	_, err = h.auth.read()
	return v, nil, err
}

// basic is the form of RFC 7617, 2.
func basic(text string) (string, error) {
	if user, _, ok := strings.Cut(text, ":"); !ok || user == "" {
		return "", errors.New("want user:password on one line")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), nil
}

// bearer is the form of RFC 6750, 2.1.
func bearer(text string) (string, error) {
	if text == "" || strings.Contains(text, " ") {
		return "", errors.New("want one token")
	}
	return "Bearer " + text, nil
}

// read is the value. It costs a look at the file's status where that has not changed.
func (c *credential) read() (string, error) {
	file, err := os.Stat(c.path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), errors.Unwrap(err))
	}
	if last := c.last.Load(); last != nil && !last.young && last.same(file) {
		return last.value, nil
	}
	young := time.Since(file.ModTime()) < restless || time.Since(changed(file)) < restless
	value, err := c.load(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote(c.path), err)
	}
	c.last.Store(&reading{file, value, young})
	return value, nil
}

// load reads the file. What is wrong with it is said without what it holds.
func (c *credential) load(file fs.FileInfo) (string, error) {
	if !file.Mode().IsRegular() || file.Size() > credentialLimit {
		return "", fmt.Errorf("want a regular file of at most %d bytes", credentialLimit)
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	line := strings.TrimRight(string(text), "\r\n")
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("want one line without control characters")
	}
	return c.form(line)
}

// same reports whether that is the file that was read.
func (r *reading) same(file fs.FileInfo) bool {
	return os.SameFile(r.file, file) && r.file.Size() == file.Size() && r.file.ModTime().Equal(file.ModTime()) &&
		changed(r.file).Equal(changed(file))
}
