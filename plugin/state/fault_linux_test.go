package state

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Variables of the environment of this program when it runs again for a test.
const (
	killed = "STATE_TEST_KILLED" // the path to save to until it is killed
	amid   = "STATE_TEST_AMID"   // it stops in the middle of the second save
)

// A full disk, one that fills up while the file is written, and a read-only file system: the last file stays, nothing is
// left beside it, and the next save succeeds once there is room.
func TestDisk(t *testing.T) {
	if !namespaces.Rerun(t, syscall.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"))
	large := random(rand.New(rand.NewPCG(9, 9)), 20000)
	refused := func(what string, records map[Key]Record, why string) {
		t.Helper()
		err := Save(t.Context(), path, maps.All(records))
		wantError(t, err, "state: "+path+": "+why+": not saved, so the file stays as it was")
		if t.Failed() {
			t.Fatal(what)
		}
	}

	refused("the first file does not fit", large, "no space left on device")
	wantNames(t, dir)
	save(t, path, some(1))
	refused("a later one does not fit", large, "no space left on device")
	wantFile(t, path, some(1))

	_ = os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<20), 0o600)
	refused("the disk is full before", some(2), "no space left on device")
	wantFile(t, path, some(1), "fill")
	must(os.Remove(filepath.Join(dir, "fill")))
	save(t, path, some(2))
	wantFile(t, path, some(2))

	must(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	refused("the file system is read-only", some(3), "read-only file system")
	wantFile(t, path, some(2))
	must(unix.Mount("", dir, "", unix.MS_REMOUNT, ""))
	save(t, path, some(3))
	wantFile(t, path, some(3))

	// A file that is mounted itself, as a container engine does with the path of a file, cannot be replaced.
	must(os.WriteFile(filepath.Join(dir, "mounted"), nil, 0o600))
	must(unix.Mount(path, filepath.Join(dir, "mounted"), "", unix.MS_BIND, ""))
	path = filepath.Join(dir, "mounted")
	refused("the file is a mount", some(4), "device or resource busy")
	wantFile(t, path, some(3), "state")
	must(unix.Unmount(path, 0))
	must(unix.Unmount(dir, 0))
}

// A file or directory that may not be read or written is an error. The system asks for the rights of the thread, so that
// this also tells for root.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	save(t, path, some(1))
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		os.Chmod(filepath.Dir(dir), 0o755)
		os.Chmod(dir, 0o555)
		os.Chmod(path, 0)
		_ = unix.Setfsuid(65534)
		_, err := Read(path, noon)
		wantError(t, err, "state: "+path+": permission denied: starting without it")
		for _, path := range []string{path, path + "2"} {
			err := Save(context.Background(), path, maps.All(some(2)))
			wantError(t, err, "state: "+path+": permission denied: not saved, so the file stays as it was")
		}
	}()
	<-done
	os.Chmod(dir, 0o700)
	os.Chmod(path, 0o600)
	wantFile(t, path, some(1))
}

// batch is what one save has in TestKilledWhileSaving. Every record says which save it is of.
func batch(save int) map[Key]Record {
	records := make(map[Key]Record)
	for i := range 20000 {
		k := Key{"tcp://:80", "", netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80)}
		records[k] = Record{State: verdict.Down, Since: timeOf(0), At: noon, Reason: fmt.Sprint("save ", save)}
	}
	return records
}

// saveUntilKilled saves one batch after the other, and says so after the first one. If it shall stop amid the second one,
// it says so then, and waits.
func saveUntilKilled(t *testing.T, path string) {
	for n := 1; ; n++ {
		records := batch(n)
		err := Save(t.Context(), path, func(yield func(Key, Record) bool) {
			i := 0
			for k, r := range records {
				if i++; n == 2 && i == len(records)*3/4 && os.Getenv(amid) != "" {
					fmt.Println("saving")
					select {}
				}
				if !yield(k, r) {
					return
				}
			}
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		if n == 1 && os.Getenv(amid) == "" {
			fmt.Println("saving")
		}
	}
}

// A process is killed while it saves, again and again, in the middle of a file or at any moment. The file is always that
// of one save as a whole, and there is at most one temporary file.
func TestKilledWhileSaving(t *testing.T) {
	if path := os.Getenv(killed); path != "" {
		saveUntilKilled(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "state")
	stale := 0
	for round := range 16 {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), killed+"="+path)
		inTheMiddle := round%4 == 0
		if inTheMiddle {
			child.Env = append(child.Env, amid+"=yes")
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if !inTheMiddle {
			time.Sleep(rand.N(30 * time.Millisecond)) // any moment will do
		}
		_ = child.Process.Kill()
		_ = child.Wait()
		if line != "saving\n" {
			t.Fatalf("%q, %v", line, err)
		}
		records, err := Read(path, noon)
		saves := make(map[string]int)
		for _, r := range records {
			saves[r.Reason]++
		}
		if err != nil || len(records) != 20000 || len(saves) != 1 {
			t.Fatalf("%d records, of saves %v, %v", len(records), saves, err)
		}
		var others []string
		if info, err := os.Stat(path + suffix); err == nil {
			stale++
			others = append(others, "state"+suffix)
			if inTheMiddle && info.Size() == 0 {
				t.Error("it was killed before it wrote anything")
			}
		} else if inTheMiddle {
			t.Error("it was not killed amid a save")
		}
		wantNames(t, filepath.Dir(path), append(others, "state")...)
	}
	t.Logf("%d of 16 kills left a temporary file", stale)
	save(t, path, some(1))
	wantFile(t, path, some(1))
}
