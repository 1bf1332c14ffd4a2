package gossip

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// An error names the file, the line and what to do, and never what is in the line.
func TestKeyErrors(t *testing.T) {
	dir := t.TempDir()
	good, secret := newKey(), "c2VjcmV0"
	for _, c := range []struct{ text, want string }{
		{"", "keys has no key: make one"},
		{"# nothing\n\n", "keys has no key: make one"},
		{good + "\n" + secret + "\n", "keys:2: the key has 6 bytes, not 32: make one"},
		{"# one\n" + secret + "!\n", "keys:2: the key is not base64: make one"},
		{good[:len(good)-2] + "\n", "keys:1: the key is not base64: make one"},
		{strings.Repeat("#", keyFileLimit+1), "is larger than 65536 bytes: use"},
	} {
		path := filepath.Join(dir, "keys")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := new(recorder)
		_, err := Open(membership.Config{Name: "test", Listen: anyPort(t, "127.0.0.1"), Key: path}, r.fleetHost())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.40q: %v", c.text, err)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "none does not exist: make one",
		dir:                        "is not a regular file: name the file itself",
		strings.Repeat("k", 4096):  "; name another file with the keys",
	} {
		if _, err := Open(membership.Config{Name: "test", Listen: anyPort(t, "127.0.0.1"), Key: path}, new(recorder).fleetHost()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A file that all can read is worth one warning, also after it changed.
func TestKeyMode(t *testing.T) {
	path := writeKeys(t, newKey())
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	r := new(recorder)
	m, err := Open(membership.Config{Name: "test", Listen: anyPort(t, "127.0.0.1"), Key: path}, r.fleetHost())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Leave()
	if err := m.Update(membership.Config{Key: path}); err != nil || r.logged("every user of this machine can read") != 1 {
		t.Errorf("%v, %q", err, r.lines)
	}
}

// Keys are exchanged while the fleet runs: no member is silent, and no vote is missed. The order is old, old and new, new and old, new.
func TestKeyRotation(t *testing.T) {
	ports.Need(t, "127.0.0.2")
	old, next := newKey(), newKey()
	port := ports.Free(t)
	var all []*testMember
	var files []string
	for i := range 3 {
		path := writeKeys(t, old)
		files = append(files, path)
		all = append(all, open(t, membership.Config{Listen: fmt.Sprintf("127.0.0.%d:%d", i+1, port), Peers: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Key: path}).start(t))
	}
	complete(t, all...)
	said := 0
	before := testutil.ToFloat64(all[0].t.unsealed)
	for _, step := range [][]string{{old, next}, {next, old}, {next}} {
		for i, m := range all {
			replaceKeys(t, files[i], step...)
			eventually(t, "the keys are in force", func() bool {
				all[0].Say(votesUpTo(said+1, said+1))
				said++
				return len(*m.keys.current.Load()) == len(step) && m.sealsWith(step[0])
			})
		}
	}
	sameStream(t, all[0], all, said)
	if n := testutil.ToFloat64(all[0].t.unsealed) - before; n > 0 {
		t.Errorf("%v packets did not open", n)
	}
	for _, m := range all {
		if m.logged("keys: 2, of which the first seals") != 2 || m.logged("keys: 1, of which the first seals") != 1 {
			t.Errorf("%q", m.lines)
		}
		for _, line := range m.lines {
			if strings.Contains(line, old) || strings.Contains(line, next) {
				t.Errorf("a key is in the log: %s", line)
			}
		}
	}
}

// sealsWith reports whether a key is the first one.
func (m *testMember) sealsWith(key string) bool {
	r, err := parseKeys("", []byte(key))
	if err != nil {
		return false
	}
	_, err = r.open((*m.keys.current.Load())[:1].seal(nil, []byte("text"), nil), nil)
	return err == nil
}

// A file that breaks changes nothing, and is warned of once.
func TestBrokenKeys(t *testing.T) {
	key := newKey()
	path := writeKeys(t, key)
	k := &keys{}
	r := new(recorder)
	k.warnf, k.infof = r.logf, r.logf
	if err := k.load(path); err != nil {
		t.Fatal(err)
	}
	before := k.current.Load()
	replaceKeys(t, path, "nonsense!")
	for range 3 {
		k.refresh()
	}
	os.Remove(path)
	for range 3 {
		k.refresh()
	}
	if k.current.Load() != before || r.logged("stay in force") != 2 || r.logged("does not exist") != 1 || len(r.lines) != 2 {
		t.Errorf("%q", r.lines)
	}
	replaceKeys(t, path, key)
	k.refresh()
	replaceKeys(t, path, "nonsense!")
	k.refresh()
	if r.logged("not base64") != 2 {
		t.Errorf("the second fault is not told: %q", r.lines)
	}
	replaceKeys(t, path, newKey(), key)
	k.refresh()
	if len(*k.current.Load()) != 2 || r.logged("keys: 2") != 1 {
		t.Errorf("%q", r.lines)
	}
}

// A file that a reload could not read is taken once it is there (B110).
func TestKeysComeLater(t *testing.T) {
	k, r := &keys{}, new(recorder)
	k.warnf, k.infof = r.logf, r.logf
	if err := k.load(writeKeys(t, newKey())); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "later")
	if err := k.switchTo(path); err == nil || !strings.Contains(err.Error(), "later does not exist") || !strings.Contains(err.Error(), "stay in force until it can be used") {
		t.Fatal(err)
	}
	k.refresh() // it was told
	replaceKeys(t, path, newKey(), newKey())
	k.refresh()
	if len(*k.current.Load()) != 2 || len(r.lines) != 1 {
		t.Errorf("%d keys, %q", len(*k.current.Load()), r.lines)
	}
}

// Members with another key, or with another name of the fleet, do not meet, and each says so once.
func TestStrangersApart(t *testing.T) {
	t.Parallel()
	ports.Need(t, "127.0.0.2")
	key := newKey()
	port := ports.Free(t)
	first := fmt.Sprintf("127.0.0.1:%d", port)
	config := func(n int, name, key string) membership.Config {
		return membership.Config{Listen: fmt.Sprintf("127.0.0.%d:%d", n, port), Peers: []string{first}, Name: name, Key: writeKeys(t, key)}
	}
	a, b := open(t, config(1, "one", key)).start(t), open(t, config(2, "one", key)).start(t)
	complete(t, a, b)
	other, wrong := open(t, config(3, "two", key)).start(t), open(t, config(4, "one", newKey())).start(t)
	eventually(t, "the other fleet is told of", func() bool {
		return a.logged("another fleet with the same key talks to this server, from 127.0.0.3") == 1
	})
	eventually(t, "the wrong key is told of", func() bool { return a.logged("is sealed with no key of this server") == 1 })
	for _, m := range []*testMember{other, wrong} {
		eventually(t, "it is told that it is alone", func() bool { return m.logged("none of the peers answers") == 1 })
		if len(m.events("met", "")) > 0 || len(a.events("met", m.name())) > 0 {
			t.Error("they have met")
		}
	}
	// With the right key, it comes in, and says so.
	replaceKeys(t, wrong.config.Key, key)
	complete(t, a, b, wrong)
	eventually(t, "it is told that others are there", func() bool { return wrong.logged("other members are there") == 1 })
}

// A port that is in use is an error in plain words.
func TestPortInUse(t *testing.T) {
	c := membership.Config{Name: "test", Listen: fmt.Sprintf("127.0.0.1:%d", ports.Free(t)), Key: writeKeys(t, newKey())}
	m := open(t, c)
	if _, err := Open(c, new(recorder).fleetHost()); err == nil || !strings.Contains(err.Error(), "another program listens on "+c.Listen) {
		t.Error(err)
	}
	m.Leave() // of one that has not started
	m.Leave()
	again := open(t, c)
	again.Leave()
	for _, bad := range []membership.Config{{Listen: "nonsense"}, {Listen: anyPort(t, "127.0.0.1"), Advertise: "nonsense"}, {Listen: anyPort(t, "127.0.0.1"), Advertise: "0.0.0.0:1"}} {
		bad.Name, bad.Key = "test", c.Key
		if _, err := Open(bad, new(recorder).fleetHost()); err == nil || !strings.Contains(err.Error(), "invalid") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Each error of a socket says what to do (B78).
func TestListenErrors(t *testing.T) {
	_, err := Open(membership.Config{Name: "test", Listen: "192.0.2.99:9254", Key: writeKeys(t, newKey())}, new(recorder).fleetHost())
	if err == nil || runtime.GOOS != "windows" && err.Error() != "listen 192.0.2.99:9254: this machine has no such address: use one of its own, or a port alone for all of them" {
		t.Error(err)
	}
	for cause, want := range map[error]string{
		syscall.EACCES: "listen :99: this process may not use that port: use one from 1024 on",
		syscall.ENFILE: "the fleet cannot listen on :99 over UDP: listen: bind: " + syscall.ENFILE.Error() + "; use another",
	} {
		if err := listenError(":99", "UDP", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", cause)}); !strings.HasPrefix(err.Error(), want) {
			t.Error(err)
		}
	}
}
