package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// save saves records, and fails the test on an error.
func save(t testing.TB, path string, records map[Key]Record) {
	t.Helper()
	if err := Save(context.Background(), path, maps.All(records)); err != nil {
		t.Fatal(err)
	}
}

// wantFile checks that a file has these records, and that there is nothing else in its directory but the names given.
func wantFile(t testing.TB, path string, want map[Key]Record, others ...string) {
	t.Helper()
	got, err := Read(path, noon)
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%d records, want %d, or they differ: %v", len(got), len(want), err)
	}
	wantNames(t, filepath.Dir(path), append(others, filepath.Base(path))...)
}

// wantNames checks which names a directory has.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

// wantError checks the whole text of an error.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// some returns records of some targets, others for each seed.
func some(seed uint64) map[Key]Record { return random(rand.New(rand.NewPCG(seed, 5)), 100) }

// What is saved is read, with mode 0600, also in place of an earlier file.
func TestSaveAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if got, err := Read(path, noon); len(got) != 0 || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	for seed := range uint64(3) {
		save(t, path, some(seed))
		wantFile(t, path, some(seed))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		os.Chmod(path, 0o644) // the next one has its own mode again
	}
}

// A file that cannot be used is refused with what is wrong. Whether a save replaces it depends on whether it may be
// another program's.
func TestUnusableFile(t *testing.T) {
	data := encoded(t, maps.All(some(1)))
	newer := slices.Concat([]byte(magic+"3\n"), data[len(magic)+2:])
	for _, tc := range []struct {
		what     string
		data     []byte
		size     int64 // of the file, if it is more than the data
		wrong    string
		replaced bool
	}{
		{"empty", nil, 0, "damaged or incomplete", true},
		{"cut in its first word", data[:4], 0, "damaged or incomplete", true},
		{"cut in its middle", data[:len(data)/2], 0, "damaged or incomplete", true},
		{"with zeros for an end", data[:len(data)/2], int64(len(data)), "damaged or incomplete", true},
		{"newer", newer, 0, "version 3 is newer than this program knows (2)", true},
		{"without a version", []byte(magic + "\n"), 0, "damaged or incomplete", true},
		{"of version 0", []byte(magic + "0\n"), 0, "damaged or incomplete", true},
		{"of version -1", []byte(magic + "-1\n"), 0, "damaged or incomplete", true},
		{"with an endless line", data[:len(magic)+1], 100, "damaged or incomplete", true},
		{"too large", data, maxSize + 1, "201326593 bytes are too large, the limit is 201326592", true},
		{"of zeros", nil, 1000, "not a state file", false},
		{"of another program", []byte("example.org {\n\tmultivalue\n}\n"), 0, "not a state file", false},
		{"of another program, and large", []byte("x"), maxSize, "not a state file", false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.size > 0 {
				if err := os.Truncate(path, tc.size); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Read(path, noon)
			wantError(t, err, "state: "+path+": "+tc.wrong+": starting without it")
			if got != nil {
				t.Errorf("%d records", len(got))
			}
			if tc.replaced {
				save(t, path, some(2))
				wantFile(t, path, some(2))
				return
			}
			err = Save(t.Context(), path, maps.All(some(2)))
			wantError(t, err, "state: "+path+": not a state file: remove it, or use another path: not saved, so the file stays as it was")
			wantNames(t, filepath.Dir(path), "state")
		})
	}
}

// What is not a regular file is neither read nor replaced.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path, noon)
	wantError(t, err, "state: "+path+": not a regular file: starting without it")
	err = Save(t.Context(), path, maps.All(some(1)))
	wantError(t, err, "state: "+path+": not a regular file: not saved, so the file stays as it was")
	wantNames(t, dir, "state")

	inside := filepath.Join(dir, "missing", "state")
	if got, err := Read(inside, noon); got != nil || err != nil {
		t.Errorf("in a directory that is missing: %v, %v", got, err)
	}
	if err := Save(t.Context(), inside, maps.All(some(1))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is missing: %v", err)
	}
	wantNames(t, dir, "state")
}

// A symbolic link stays one, and what it leads to is read and replaced.
func TestLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	path, real := filepath.Join(dir, "state"), filepath.Join(elsewhere, "real")
	if err := os.Symlink(real, path); err != nil {
		if runtime.GOOS != "windows" { // which may forbid it
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if got, err := Read(path, noon); got != nil || err != nil {
		t.Errorf("it leads nowhere: %v, %v", got, err)
	}
	err := Save(t.Context(), path, maps.All(some(1)))
	wantError(t, err, "state: "+path+": a symbolic link that leads nowhere: not saved, so the file stays as it was")
	save(t, real, some(1))
	wantFile(t, path, some(1))
	save(t, path, some(2))
	wantFile(t, path, some(2))
	wantFile(t, real, some(2))
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
}

// A temporary file that a killed process left is replaced, and anything else in its place stops the save.
func TestStaleTemporaryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, half := range []string{"", magic[:5], magic + "t"} {
		if err := os.WriteFile(path+suffix, []byte(half), 0o400); err != nil {
			t.Fatal(err)
		}
		save(t, path, some(1))
		wantFile(t, path, some(1))
	}
	for what, put := range map[string]func() error{
		"a directory":               func() error { return os.Mkdir(path+suffix, 0o700) },
		"a file of another program": func() error { return os.WriteFile(path+suffix, []byte("example.org. 60 IN SOA"), 0o600) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		t.Log(what)
		err := Save(t.Context(), path, maps.All(some(2)))
		wantError(t, err, "state: "+path+": "+path+suffix+" is in the way: remove it: not saved, so the file stays as it was")
		wantFile(t, path, some(1), "state"+suffix)
		if err := os.Remove(path + suffix); err != nil {
			t.Error(err)
		}
	}
}

// endless are records without an end. Before each, f is called with its number.
func endless(f func(int)) iter.Seq2[Key, Record] {
	return func(yield func(Key, Record) bool) {
		for i := 0; ; i++ {
			f(i)
			k := someKey
			k.Owner = fmt.Sprint(i)
			if !yield(k, isUp) {
				return
			}
		}
	}
}

// A save gives up soon after its context has ended, and leaves nothing.
func TestSaveGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, some(1))
	ctx, cancel := context.WithCancelCause(context.Background())
	last := 0
	err := Save(ctx, path, endless(func(i int) {
		if last = i; i == 10000 {
			cancel(errors.New("the server stops"))
		}
	}))
	wantError(t, err, "state: "+path+": the server stops: not saved, so the file stays as it was")
	if last > 10000+slice {
		t.Errorf("%d records were taken after the end", last-10000)
	}
	wantFile(t, path, some(1))

	// Records that end early because the context has ended are not all records.
	err = Save(ctx, path, maps.All(some(2)))
	if err == nil {
		t.Error("a save whose context had ended before it")
	}
	wantFile(t, path, some(1))
}

// A panic while records are taken leaves nothing.
func TestSavePanics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, some(1))
	func() {
		defer func() { _ = recover() }()
		_ = Save(t.Context(), path, endless(func(i int) {
			if i == 10000 {
				panic("a fault")
			}
		}))
		t.Error("it returned")
	}()
	wantFile(t, path, some(1))
}

// A save that was abandoned, because it hung, changes nothing when it goes on after the next one.
func TestSaveIsAbandoned(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open cannot be removed, so it is the next save that fails")
	}
	path := filepath.Join(t.TempDir(), "state")
	for _, canceled := range []bool{false, true} {
		ctx, cancel := context.WithCancel(context.Background())
		hangs, goesOn, ended := make(chan bool), make(chan bool), make(chan error)
		go func() {
			ended <- Save(ctx, path, func(yield func(Key, Record) bool) {
				close(hangs)
				<-goesOn
				yield(someKey, isUp)
			})
		}()
		<-hangs
		save(t, path, some(2))
		if canceled {
			cancel()
		}
		close(goesOn)
		err := <-ended
		cancel()
		if canceled && !errors.Is(err, context.Canceled) || !canceled && !strings.Contains(fmt.Sprint(err), "another process writes it at the same time") {
			t.Errorf("canceled %v: %v", canceled, err)
		}
		wantFile(t, path, some(2))
	}
}

// Saves of one path that overlap again and again leave a whole file, of one of them.
func TestSavesOverlap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	save(t, path, some(0))
	done := make(chan bool)
	for seed := range uint64(4) {
		go func() {
			for began := time.Now(); time.Since(began) < 300*time.Millisecond; {
				_ = Save(context.Background(), path, maps.All(some(seed)))
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	got, err := Read(path, noon)
	if err != nil || !slices.ContainsFunc([]uint64{0, 1, 2, 3}, func(seed uint64) bool { return maps.Equal(got, some(seed)) }) {
		t.Errorf("%d records, %v", len(got), err)
	}
}
