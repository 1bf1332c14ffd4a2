package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

const (
	// A key is one of AES-256. More keys than two are needed only while they are exchanged, and each costs a try for each packet that does
	// not open.
	keyBytes     = 32
	maxKeys      = 16
	keyFileLimit = 64 << 10
	// lookEvery is how often the file with the keys is read. A program that writes it in place may have written half of it, so new
	// content is read once more after settleTime before it counts.
	lookEvery  = time.Second
	settleTime = 100 * time.Millisecond
	// makeKey is the advice of all errors about keys.
	makeKey = "make one with: openssl rand -base64 32"
)

// ring is the keys in force. It does not change.
type ring []cipher.AEAD

// keys follows the file with the keys. Its errors and lines in the log name lines of the file, and never what is in them.
type keys struct {
	warnf, infof func(format string, args ...any)
	current      atomic.Pointer[ring]
	removed      chan struct{} // signalled when a key opens nothing any longer; nil if that is of no interest

	mu      sync.Mutex
	path    string
	content [sha256.Size]byte // that is in force
	refused string            // why the latest content is not in force; empty if it is
	warned  bool              // of the mode of the file
}

// load reads the keys of a file, and puts them into force.
func (k *keys) load(path string) error {
	text, info, err := watchfile.Read(path, keyFileLimit)
	if err != nil {
		return keyFileError(path, err)
	}
	next, err := parseKeys(path, text)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// Another file may have another mode.
	if path != k.path {
		k.warned = false
	}
	// The content is kept as a hash, which is enough to see that it is another one.
	k.path, k.refused, k.content = path, "", sha256.Sum256(text)
	k.enforce(next)
	k.judgeMode(info)
	return nil
}

// enforce puts keys into force. The caller holds the lock.
func (k *keys) enforce(next ring) {
	before := k.current.Swap(&next)
	if before != nil && before.hasMoreThan(next) {
		select {
		case k.removed <- struct{}{}:
		default: // it has been signalled
		}
	}
}

// hasMoreThan reports whether some key is in one ring and not in another. What each makes of nothing tells them apart, and goes nowhere.
func (r ring) hasMoreThan(other ring) bool {
	mark := func(box cipher.AEAD) [tagSize]byte {
		return [tagSize]byte(box.Seal(nil, make([]byte, nonceSize), nil, nil))
	}
	stay := make(map[[tagSize]byte]bool)
	for _, box := range other {
		stay[mark(box)] = true
	}
	return slices.ContainsFunc(r, func(box cipher.AEAD) bool { return !stay[mark(box)] })
}

// switchTo loads another file. If it cannot be used now, it is taken as soon as it can be.
func (k *keys) switchTo(path string) error {
	err := k.load(path)
	if err == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if path != k.path {
		k.path, k.warned = path, false
	}
	k.refused = err.Error()
	return fmt.Errorf("%w; the keys from before stay in force until it can be used", err)
}

// judgeMode warns once if all users of the machine can read the file. It does not refuse it, because Kubernetes mounts Secrets with such
// a mode by default.
func (k *keys) judgeMode(info fs.FileInfo) {
	if k.warned || runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0 {
		return
	}
	k.warned = true
	k.warnf("fleet: every user of this machine can read %s, and a holder of a key is believed: use chmod o-r", k.path)
}

// keyFileError is why a file with keys cannot be read.
func keyFileError(path string, err error) error {
	switch {
	case errors.Is(err, watchfile.ErrTooLarge):
		return fmt.Errorf("%s is larger than %d bytes: use one key a line, up to %d keys", path, keyFileLimit, maxKeys)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the key file %s does not exist: %s", path, makeKey)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the key file %s cannot be read: let the user of this process read it", path)
	case errors.Is(err, watchfile.ErrIrregular):
		return fmt.Errorf("the key file %s is not a regular file: name the file itself, not the directory that it is in", path)
	}
	return fmt.Errorf("the key file %s cannot be read: %w; name another file with the keys, or mend this one", path, err)
}

// parseKeys reads the keys of a file: one a line, in base64. The first one seals.
func parseKeys(path string, text []byte) (ring, error) {
	var all ring
	seen := make(map[[keyBytes]byte]bool)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: the key is not base64: %s", path, number, makeKey)
		case len(raw) != keyBytes:
			return nil, fmt.Errorf("%s:%d: the key has %d bytes, not %d: %s", path, number, len(raw), keyBytes, makeKey)
		case seen[[keyBytes]byte(raw)]:
			continue
		case len(all) == maxKeys:
			return nil, fmt.Errorf("%s:%d: more than %d keys: remove those that no member seals with", path, number, maxKeys)
		}
		seen[[keyBytes]byte(raw)] = true
		box, err := newBox(raw)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		all = append(all, box)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no key: %s", path, makeKey)
	}
	return all, nil
}

// newBox is what seals and opens with a key.
func newBox(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// keepUp puts what the file says into force, until done is closed. Only the goroutine that it is called in hangs if the file system
// does.
func (k *keys) keepUp(done <-chan struct{}) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			k.refresh()
		}
	}
}

// refresh reads the file, and puts it into force if it is another one.
func (k *keys) refresh() {
	defer rescue.Log("reading the keys of the fleet")
	// The lock is not held while the file is read: a file system may hang.
	k.mu.Lock()
	path := k.path
	k.mu.Unlock()
	text, info, err := watchfile.Read(path, keyFileLimit)
	if err == nil && k.has(text) {
		return
	}
	// Half of a file may be a good file with fewer keys, so only what is read twice counts.
	if err == nil {
		time.Sleep(settleTime)
		again, _, errAgain := watchfile.Read(path, keyFileLimit)
		if errAgain != nil || !bytes.Equal(again, text) {
			return // the next look takes it
		}
	}
	var next ring
	if err != nil {
		err = keyFileError(path, err)
	} else {
		next, err = parseKeys(path, text)
	}
	k.accept(path, text, info, next, err)
}

// has reports whether a text is in force, and notes that nothing is wrong with the file then.
func (k *keys) has(text []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if sha256.Sum256(text) != k.content {
		return false
	}
	k.refused = ""
	return true
}

// accept puts keys into force, or says once why the latest content of the file is not.
func (k *keys) accept(path string, text []byte, info fs.FileInfo, next ring, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case path != k.path: // another file has been loaded since
	case err == nil:
		k.enforce(next)
		k.content, k.refused = sha256.Sum256(text), ""
		k.infof("fleet: %s has another content: keys: %d, of which the first seals", path, len(next))
		k.judgeMode(info)
	case err.Error() != k.refused:
		k.refused = err.Error()
		k.warnf("fleet: %v; the keys from before stay in force", err)
	}
}
