package check

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A version that overwrites another one with the same length and time is noticed: while the file is
// young, and when it has settled. That takes time by the clock of the file system, which nothing
// announces.
func TestCredentialRotatedInPlace(t *testing.T) {
	path, old := filepath.Join(t.TempDir(), "token"), time.Now().Add(-time.Hour)
	c := newCredential(path, bearerAuthorization)
	for i, token := range []string{"first", "other", "third"} {
		if err := errors.Join(os.WriteFile(path, []byte(token), 0o600), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
		settled := func() bool {
			if got, err := c.value(t.Context()); err != nil || got != "Bearer "+token {
				t.Fatalf("%q, %v; want the token %s", got, err, token)
			}
			return !c.cached.Load().unsettled
		}
		if settled(); i == 0 {
			continue // the second version comes while the file is young
		}
		for deadline := time.Now().Add(time.Minute); !settled(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a file that does not change is still unsettled after a minute")
			}
		}
	}
}
