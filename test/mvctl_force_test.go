package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mvctl drains an address over the socket, and the answers change; a release brings it back. Foreign lines and comments of the file stay
// as they are, and a read-only file is status 4 with the remedy (B118, B119).
func TestMvctlForces(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	const before = "# of another\ndown 192.0.2.99\n"
	s.file("forced", before)
	socket := "unix:" + filepath.Join(s.dir, "socket")
	v := s.serve(strings.NewReplacer("status 127.0.0.1:STATUS", "force DIR/forced\n status "+socket+" {\n admin DIR/forced\n }").Replace(showing))
	v.comesTo("www.example.org A", "11 12")
	out, code := mvctl(t, socket, "drain", "127.0.0.12", "--reason", "new kernel", "--until", "+2h")
	if code != 0 || !strings.Contains(out, "127.0.0.12") || !strings.Contains(out, "new kernel") {
		t.Fatalf("%d: %s", code, out)
	}
	v.comesTo("www.example.org A", "11")
	v.eventually(func() bool {
		out, _ = mvctl(t, socket, "targets")
		return strings.Contains(out, "· up ") && strings.Contains(out, " drain until ") && strings.Contains(out, "(new kernel)")
	}, func() string { return "targets does not show it: " + out })
	if text, err := os.ReadFile(filepath.Join(s.dir, "forced")); err != nil || !strings.HasPrefix(string(text), before) {
		t.Errorf("%v: %s", err, text)
	}
	if out, code := mvctl(t, socket, "release", "127.0.0.12"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	v.comesTo("www.example.org A", "11 12")
	if text, err := os.ReadFile(filepath.Join(s.dir, "forced")); err != nil || string(text) != before {
		t.Errorf("after the release: %v: %q, want %q", err, text, before)
	}
	if out, code := mvctl(t, socket, "drain", "127.0.0.12", "--until", "2000-01-01T00:00:00Z"); code != 2 {
		t.Errorf("an end in the past: %d: %s", code, out)
	}
}
