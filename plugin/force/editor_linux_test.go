package force

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/plugin/acting"
)

// A read-only file system, and a file that is mounted by itself, are refused with the remedy (B118).
func TestEditorOfMounts(t *testing.T) {
	if !namespaces.Rerun(t, syscall.CLONE_NEWNS) {
		return
	}
	mount := func(from, to string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(to, syscall.MNT_DETACH) })
		if flags != 0 {
			if err := syscall.Mount("", to, "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ what, words string }{
		{"read-only", "read-only file system: if it is mounted from a ConfigMap, edit the ConfigMap"},
		{"by itself", "mounted as a single file, which cannot be replaced"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "forced")
		if err := os.WriteFile(path, []byte("up 192.0.2.9\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if tc.what == "read-only" {
			mount(dir, dir, syscall.MS_RDONLY)
		} else {
			mount(path, path, 0)
		}
		e := new(Watcher).Editor(path)
		if text, _, err := e.change(t, "drain 192.0.2.1"); !refused(err, acting.Unchangeable, tc.words) || text != "up 192.0.2.9\n" {
			t.Errorf("%s: %q, %v", tc.what, text, err)
		}
		if shown, err := e.Show(t.Context()); err != nil || shown.Writable != (tc.what != "read-only") {
			t.Errorf("%s: %+v, %v", tc.what, shown, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: left behind %v, %v", tc.what, entries, err)
		}
	}
}
