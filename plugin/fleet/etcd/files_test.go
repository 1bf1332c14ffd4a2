//go:build unix

package etcd

import (
	"os"
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

// A store whose files a reload could not read is taken once they are there, with its endpoints, and the former one counts until then or
// until a reload goes back to it (B110).
func TestFilesComeLater(t *testing.T) {
	store := membership.Store{Endpoints: []string{"127.0.0.1:1"}, Credentials: tempFile(t, "a:hush")}
	m := open(t, membership.Config{Name: "test", Store: store})
	defer m.Leave()
	next := membership.Config{Name: "test", Store: membership.Store{Endpoints: []string{"127.0.0.1:2"}, Credentials: t.TempDir() + "/later"}}
	for _, back := range []bool{true, false} {
		if err := m.Update(next); err == nil || !strings.Contains(err.Error(), "later does not exist") {
			t.Fatal(err)
		}
		m.link.lookAgain()
		if m.link.secrets.user != "a" || m.link.store.Endpoints[0] != "127.0.0.1:1" {
			t.Fatalf("%+v", m.link.store)
		}
		if back {
			if err := m.Update(m.config); err != nil {
				t.Fatal(err)
			}
		}
		write(t, next.Store.Credentials, "b:hush")
		m.link.lookAgain()
		if got := m.link.secrets.user == "b" && m.link.store.Endpoints[0] == "127.0.0.1:2"; got == back {
			t.Errorf("a reload went back: %v, the new store is used: %v", back, got)
		}
		if err := os.Remove(next.Store.Credentials); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.lines) != 1 {
		t.Errorf("%q", m.lines)
	}
}
