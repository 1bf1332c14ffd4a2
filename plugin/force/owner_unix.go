//go:build unix

package force

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// renamesOpen is whether a file can be renamed while it is open.
const renamesOpen = true

// keepOwner gives a new file the user and the group of another one, where they differ.
func keepOwner(file *os.File, own, other fs.FileInfo) error {
	a, ok := own.Sys().(*syscall.Stat_t)
	b, also := other.Sys().(*syscall.Stat_t)
	if !ok || !also || a.Uid == b.Uid && a.Gid == b.Gid {
		return nil
	}
	// Only the superuser may give a file away. A group may be one that this user is in.
	return file.Chown(int(b.Uid), int(b.Gid))
}

// mayKeepOwner reports whether a new file could have the user of this one.
func mayKeepOwner(other fs.FileInfo) bool {
	stat, ok := other.Sys().(*syscall.Stat_t)
	return !ok || os.Geteuid() == 0 || os.Geteuid() == int(stat.Uid)
}

// mayWrite says why this process cannot make files in a directory.
func mayWrite(dir string) error {
	// A read-only file system is told by this, too, before anything is written.
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}
