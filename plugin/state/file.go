package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

const (
	// suffix is what the name of the temporary file has in addition to that of the file. The name is always the same, so a
	// process that is killed while it writes leaves one such file, which the next save removes.
	suffix = ".tmp"
	// slice is after how many records Save looks at its context.
	slice = 256
)

// Read reads the file at a path. The result has its fresh records, each time in UTC. A file that does not exist has none,
// as at the first start. An error says what is wrong, and that there are no records because of it.
//
// Only a regular file is read, and a file system that hangs is waited for.
func Read(path string, now time.Time) (map[Key]Record, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var records map[Key]Record
	if err == nil {
		records, err = parse(data, now)
	}
	if err != nil {
		return nil, fmt.Errorf("state: %s: %w: starting without it", path, plain(err))
	}
	return records, nil
}

// readFile returns the content of a file whose first line is right.
func readFile(path string) ([]byte, error) {
	file, info, err := watchfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := info.Size()
	if size > maxSize {
		return nil, fmt.Errorf("%d bytes are too large, the limit is %d", size, maxSize)
	}
	r := bufio.NewReader(file)
	head, err := r.Peek(int(min(size, int64(maxHeader))))
	if err != nil {
		return nil, err
	}
	if _, err := checkHeader(head); err != nil {
		return nil, err
	}
	data := make([]byte, size) // a file that grows meanwhile is not ours, and the checksum will tell
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data, nil
}

// Check reports why Save could not write a new file at the path now, as Save would. It writes nothing that stays. A file that exists
// is not looked at: what is wrong with it, Read says.
func Check(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	real, err := resolve(path)
	if err == nil {
		var t *temporary
		if t, err = create(real + suffix); err == nil {
			t.discard()
		}
	}
	if err != nil {
		return fmt.Errorf("state: %s: %w: it cannot be saved", path, plain(err))
	}
	return nil
}

// Save writes a file with these records in place of the one at the path, with mode 0600. On any error the last file stays
// as it is. The directory has to exist, and to be writable.
//
// It takes records slice by slice, and gives up between two if the context has ended. A caller that cannot supply all
// records cancels the context: otherwise the file has less than before. Records that cannot be read again are left out. They may
// be of one target twice.
//
// A symbolic link is followed, and what it leads to is replaced. A file that this package has not written is never
// replaced, because the path may be a mistake; an empty one is. If two saves of one path overlap, in whatever processes, at least one of them
// fails. It is safe to abandon one that hangs: it ends without an effect once its context has ended.
func Save(ctx context.Context, path string, records iter.Seq2[Key, Record]) error {
	real, err := resolve(path)
	if err == nil {
		err = replace(ctx, real, records)
	}
	if err != nil {
		return fmt.Errorf("state: %s: %w: not saved, so the file stays as it was", path, plain(err))
	}
	return nil
}

// resolve follows symbolic links, and refuses a path that Save must not replace.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", errors.New("a symbolic link that leads nowhere")
		}
		return path, nil // this is the first save
	}
	if err != nil {
		return "", err
	}
	ours, err := isOurs(real)
	if err == nil && !ours {
		err = fmt.Errorf("%w: remove it, or use another path", errForeign)
	}
	return real, err
}

// isOurs reports whether a file begins as this package writes it, or is empty.
func isOurs(path string) (bool, error) {
	file, info, err := watchfile.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	head := make([]byte, min(info.Size(), int64(len(magic))))
	if _, err := io.ReadFull(file, head); err != nil {
		return false, err
	}
	return begun(head), nil
}

// replace writes a temporary file and renames it. The new file is on the disk before its name is, so that a machine that
// loses power has either the last file or the new one.
func replace(ctx context.Context, path string, records iter.Seq2[Key, Record]) error {
	t, err := create(path + suffix)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := write(ctx, t.file, records); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := t.rename(path); err != nil {
		return err
	}
	syncDirectory(filepath.Dir(path))
	return nil
}

// write writes the content of a file.
func write(ctx context.Context, to io.Writer, records iter.Seq2[Key, Record]) error {
	e, n := newEncoder(to), 0
	for k, r := range records {
		if n++; n%slice == 0 && ctx.Err() != nil {
			break
		}
		if err := e.put(k, r); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.end()
}

// temporary is the temporary file of one save.
type temporary struct {
	path string
	file *os.File // nil once it is renamed or removed
	info fs.FileInfo
}

// create makes a temporary file in place of one that a killed process left. If that process is alive, it finds out in
// rename, and gives up.
func create(path string) (*temporary, error) {
	if info, err := os.Lstat(path); err == nil {
		ours := false
		if info.Mode().IsRegular() {
			ours, _ = isOurs(path)
		}
		if !ours {
			return nil, fmt.Errorf("%s is in the way: remove it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &temporary{path, file, info}, nil
}

// close closes the file, and reports whether the path still leads to it. It has to look before it closes: the number of a
// file may be used again as soon as no one has the file any more.
func (t *temporary) close() (ours bool, err error) {
	info, err := os.Lstat(t.path)
	ours = err == nil && os.SameFile(info, t.info)
	err = t.file.Close()
	t.file = nil
	return ours, err
}

// rename gives the file its final name. Windows renames no file that is open, so it is closed before that.
func (t *temporary) rename(path string) error {
	ours, err := t.close()
	if err == nil && !ours {
		return errors.New("another process writes it at the same time")
	}
	if err == nil {
		err = os.Rename(t.path, path)
	}
	if err != nil && ours {
		os.Remove(t.path)
	}
	return err
}

// discard removes the file, if it has not been renamed.
func (t *temporary) discard() {
	if t.file == nil {
		return
	}
	if ours, _ := t.close(); ours {
		os.Remove(t.path)
	}
}

// syncDirectory puts the names in a directory on the disk, where the system can do that. If it cannot, a machine that
// loses power may have the last file, which is no harm.
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
