package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

const (
	// minToken and maxTokenFile are the shortest token and the longest file with one, in bytes.
	minToken     = 16
	maxTokenFile = 4 << 10
	// maxFailures is how many wrong tokens are compared in a second; more are refused unseen, and so is the right one meanwhile. A
	// token cannot be guessed at that rate, and a client that tries costs nothing.
	maxFailures = 10
	// makeToken is the advice of all errors about tokens.
	makeToken = "make one with: openssl rand -hex 32"
)

// tokens compares tokens with that of a file, which is read each time, so that it can be rotated without a reload. Its zero value has
// not refused any.
type tokens struct {
	once    sync.Once
	reading chan struct{} // held while the file is read: one goroutine hangs if its file system does not answer

	mu       sync.Mutex
	second   time.Time // when failures began to count
	failures int
}

// verify says why a request does not have the token of a file. A request without any token does not count: that is how a client learns
// that it needs one.
func (t *tokens) verify(r *http.Request, path string) (code int, err error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return http.StatusUnauthorized, errors.New("a token is needed: send Authorization: Bearer TOKEN, with what is in the file that token in the Corefile names")
	}
	if !t.mayTry(time.Now()) {
		return http.StatusTooManyRequests, errors.New("too many wrong tokens: wait a second")
	}
	want, err := t.read(r.Context(), path)
	if err != nil {
		return http.StatusInternalServerError, fmt.Errorf("the token cannot be compared: %w", err)
	}
	scheme, got, _ := strings.Cut(values[0], " ")
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(strings.TrimSpace(got))) // of one length, whatever is sent
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer") && len(values) == 1 {
		return 0, nil
	}
	t.fail()
	return http.StatusUnauthorized, errors.New("wrong token: send Authorization: Bearer TOKEN, with what is in the file that token in the Corefile names")
}

// mayTry reports whether a token may be compared now.
func (t *tokens) mayTry(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.second) >= time.Second {
		t.second, t.failures = now, 0
	}
	return t.failures < maxFailures
}

// fail counts a wrong token.
func (t *tokens) fail() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
}

// read reads the token of a file, and gives up when the context ends.
func (t *tokens) read(ctx context.Context, path string) (string, error) {
	t.once.Do(func() { t.reading = make(chan struct{}, 1) })
	ctx, cancel := context.WithTimeout(ctx, forceTimeout)
	defer cancel()
	slow := fmt.Errorf("%s cannot be read, because its file system does not answer", path)
	select {
	case t.reading <- struct{}{}:
	case <-ctx.Done():
		return "", slow
	}
	type result struct {
		token string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-t.reading }()
		token, _, err := readToken(path)
		done <- result{token, err}
	}()
	select {
	case x := <-done:
		return x.token, x.err
	case <-ctx.Done():
		return "", slow
	}
}

// readToken reads the token of a file. Its errors never quote the content.
func readToken(path string) (token string, info fs.FileInfo, err error) {
	text, info, err := watchfile.Read(path, maxTokenFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("the token file %s does not exist: %s", path, makeToken)
	case errors.Is(err, fs.ErrPermission):
		return "", nil, fmt.Errorf("the token file %s cannot be read: let the user of this process read it", path)
	case err != nil:
		return "", nil, fmt.Errorf("the token file %s cannot be read: %w: use a regular file of at most %d bytes", path, errors.Unwrap(err), maxTokenFile)
	}
	token = strings.TrimRight(string(text), "\r\n")
	switch {
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "", nil, fmt.Errorf("the token in %s is not one line of ASCII without spaces: %s", path, makeToken)
	case len(token) < minToken:
		return "", nil, fmt.Errorf("the token in %s has %d bytes, and at least %d are needed: %s", path, len(token), minToken, makeToken)
	}
	return token, info, nil
}

// judgeToken finds what is wrong with a file with a token before it is needed. It warns if all users of the machine can read it, and
// does not refuse it, because Kubernetes mounts Secrets with such a mode by default.
func judgeToken(path string) error {
	_, info, err := readToken(path)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		said.Warningf("status: every user of this machine can read %s, and a holder of the token can change forced states: use chmod o-r", path)
	}
	return err
}
