package check

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

// credentialLimit is the longest file with credentials, in bytes.
const credentialLimit = 16 << 10

// A credential is the value of the Authorization header, read from a file, which is followed, so a
// password or token can be rotated without a reload. It is not part of the text and the identity of
// the check: a rotated password must not reset the state of every target.
type credential struct {
	followed[string]
	path   string
	format func(text string) (string, error)                         // turns the line of the file into the value
	read   func(path string, limit int) ([]byte, fs.FileInfo, error) // watchfile.Read, except in tests
}

// newCredential makes the credential of a file, which is not read before it is needed.
func newCredential(path string, format func(string) (string, error)) *credential {
	c := &credential{path: path, format: format, read: watchfile.Read}
	c.paths, c.load = []string{path}, func() (string, error) {
		value, err := c.line()
		if err != nil {
			return "", fmt.Errorf("%s: %w", quote(path), err)
		}
		return value, nil
	}
	return c
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
	h.auth = newCredential(v[0], form)
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

// line reads and formats the file. Its errors never quote the content.
func (c *credential) line() (string, error) {
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
