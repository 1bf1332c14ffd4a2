package force

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/acting"
)

// Here is how a file gets new content: all of it or nothing, whenever the process or the machine ends.

const (
	// newMode is the mode of a file that a change makes.
	newMode = 0o644
	// prefix and suffix are around the name of a file in that of its temporary one. It is always the same, so a process that is
	// killed leaves one, which the next change removes.
	prefix, suffix = ".", ".multivalue-tmp"
)

// configMap is the remedy for a file that something else writes.
const configMap = "edit the ConfigMap, for instance with kubectl edit configmap"

// temporary is the path of the temporary file.
func (f *original) temporary() string {
	return filepath.Join(filepath.Dir(f.real), prefix+filepath.Base(f.real)+suffix)
}

// writable says why the file cannot be replaced, as far as that can be told without doing so.
func (f *original) writable() error {
	if f.fromConfigMap() {
		return refuseFile("%s is part of a mounted ConfigMap, which would overwrite a change: %s", f.path, configMap)
	}
	if f.info == nil {
		if info, err := os.Lstat(f.path); err == nil && info.Mode().Type() == fs.ModeSymlink {
			return refuseFile("%s is a symbolic link that leads nowhere: make the file, or remove the link", f.path)
		}
	}
	if f.info != nil && !mayKeepOwner(f.info) {
		return refuseFile("%s belongs to another user, and this process could not keep that: change its owner to the user of this process", f.path)
	}
	if err := mayWrite(filepath.Dir(f.real)); err != nil {
		return f.refusal(err)
	}
	return nil
}

// fromConfigMap reports whether Kubernetes writes the file: its volumes have a link ..data to a directory, and links into that. Such
// a volume may be writable, and then a change would be gone with the next edit of the ConfigMap, and not be in other Pods.
func (f *original) fromConfigMap() bool {
	to, _ := os.Readlink(f.path)
	for part := range strings.SplitSeq(filepath.ToSlash(f.real), "/") {
		if len(part) > 2 && strings.HasPrefix(part, "..") {
			return true
		}
	}
	return strings.HasPrefix(filepath.ToSlash(to), "..data/")
}

// replace writes the new content beside the file, and renames it. Mode and owner stay. What others have written meanwhile is noticed
// up to the rename. Other servers take the same lock; of editors, which do not, the last microseconds before the rename cannot be
// noticed. Right before it, begin is asked: from then on the change is made.
func (f *original) replace(ctx context.Context, content []byte, begin func() error) error {
	if err := f.writable(); err != nil {
		return err
	}
	if err := f.write(ctx, content, begin); err != nil {
		if _, ok := errors.AsType[*acting.Refusal](err); ok {
			return err
		}
		return f.refusal(err)
	}
	return nil
}

// write is replace, with the errors of the file system.
func (f *original) write(ctx context.Context, content []byte, begin func() error) error {
	unlock, err := lock(ctx, filepath.Dir(f.real))
	if err != nil {
		return err
	}
	defer unlock()
	path := f.temporary()
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() { // of a process that was killed
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	// Nothing is opened that is there already: a link with that name, for one, could lead anywhere.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // after the rename: while it is open, no file of another process has its inode, and is taken for it
	own, err := f.fill(file, content)
	if err == nil && !renamesOpen {
		err = file.Close()
	}
	if err == nil {
		err = f.stillSame(path, own)
	}
	if err == nil {
		err = begin()
	}
	if err == nil {
		err = os.Rename(path, f.real)
	}
	if err != nil {
		removeOwn(path, own)
		return err
	}
	syncDirectory(filepath.Dir(f.real))
	return nil
}

// fill gives the temporary file its content, mode and owner, and puts it on the disk.
func (f *original) fill(file *os.File, content []byte) (own fs.FileInfo, err error) {
	if own, err = file.Stat(); err != nil {
		return nil, err
	}
	// Until then the file is for this user alone. The owner comes before the mode, since giving a file away may take off bits of that.
	mode := fs.FileMode(newMode)
	if f.info != nil {
		mode = f.info.Mode().Perm()
		if err := keepOwner(file, own, f.info); err != nil {
			return own, refuseFile("%s belongs to another user or group, which a new file cannot be given: %w: change its owner to the user of this process", f.path, plain(err))
		}
	}
	if err := file.Chmod(mode); err != nil {
		return own, err
	}
	if _, err := file.Write(content); err != nil {
		return own, err
	}
	return own, file.Sync()
}

// stillSame looks for a change by others since the file was read.
func (f *original) stillSame(path string, own fs.FileInfo) error {
	stale := &acting.Refusal{Kind: acting.Stale, Err: fmt.Errorf("%s has changed meanwhile: look at it again, then repeat the change", f.path)}
	if info, err := os.Lstat(path); err != nil || own == nil || !os.SameFile(info, own) {
		return stale // another process writes it at the same time, too
	}
	if f.info == nil {
		if _, err := os.Lstat(f.real); err == nil {
			return stale
		}
		return nil
	}
	if real, err := filepath.EvalSymlinks(f.path); err != nil || real != f.real {
		return stale
	}
	// An editor may have replaced the file, or have written it in place. The time of the file may not tell, so the content does.
	now, info, err := watchfile.Read(f.real, maxSize)
	if err != nil || !os.SameFile(info, f.info) || !bytes.Equal(now, f.content) {
		return stale
	}
	return nil
}

// The name alone does not tell whose file it is: a second process may have begun a change and have taken ours for one that is left.

// removeOwn removes the temporary file, unless another process has put its own there.
func removeOwn(path string, own fs.FileInfo) {
	if info, err := os.Lstat(path); err == nil && own != nil && os.SameFile(info, own) {
		os.Remove(path)
	}
}

// refusal is an error of the file system with what to do about it. Others, such as a full disk, are not about this file, and are told
// as they are.
func (f *original) refusal(err error) error {
	dir := filepath.Dir(f.real)
	switch {
	case errors.Is(err, syscall.EROFS):
		return refuseFile("%s is on a read-only file system: if it is mounted from a ConfigMap, %s; else mount it so that it can be written", f.path, configMap)
	case errors.Is(err, fs.ErrPermission):
		return refuseFile("this process may not write to %s: give its user the right to, or edit %s by hand", dir, f.path)
	case errors.Is(err, syscall.EBUSY):
		return refuseFile("%s is mounted as a single file, which cannot be replaced: mount its directory, or edit it by hand", f.path)
	case errors.Is(err, fs.ErrExist):
		return refuseFile("%s is in the way: remove it", f.temporary())
	case errors.Is(err, fs.ErrNotExist):
		return refuseFile("the directory %s does not exist: make it", dir)
	}
	return fmt.Errorf("%s stays as it was: %w", f.path, plain(err))
}

// syncDirectory puts the names in a directory on the disk, where the system can do that.
func syncDirectory(path string) {
	if dir, err := os.Open(path); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
}

// plain is an error of the file system without its call and path, which the message has already.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
