//go:build unix

package etcd

import (
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// A password that goes over a network without TLS is worth one warning, whatever else changes (B112).
func TestPasswordInClear(t *testing.T) {
	user := tempFile(t, "coredns:hush")
	for _, c := range []struct {
		store membership.Store
		want  int
	}{
		{membership.Store{Endpoints: []string{"127.0.0.1:2379", "etcd1.example.org:2379"}, Credentials: user}, 1},
		{membership.Store{Endpoints: []string{"127.0.0.1:2379", "[::1]:2379", "localhost.:2379"}, Credentials: user}, 0},
		{membership.Store{Endpoints: []string{"etcd1.example.org:2379"}, Credentials: user, TLS: true}, 0},
		{membership.Store{Endpoints: []string{"etcd1.example.org:2379"}}, 0},
	} {
		m := open(t, membership.Config{Name: "test", Store: c.store})
		if err := m.Update(m.config); err != nil {
			t.Fatal(err)
		}
		if m.logged("goes to etcd at etcd1.example.org:2379 in clear") != c.want || m.logged("hush") > 0 || len(m.lines) != c.want {
			t.Errorf("%+v: %q", c.store, m.lines)
		}
		m.Leave()
	}
}

// Each error of a file names it, and what to do (B78).
func TestFileErrors(t *testing.T) {
	for path, want := range map[string]string{
		t.TempDir():               " is not a regular file: name the file itself, not the directory that it is in",
		t.TempDir() + "/none":     " does not exist: name one that does",
		strings.Repeat("k", 4096): "; name another file, or mend this one",
	} {
		_, err := readSecrets(membership.Store{Endpoints: []string{"a:1"}, Credentials: path})
		if err == nil || !strings.HasPrefix(err.Error(), "the file with the credentials "+path) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}
