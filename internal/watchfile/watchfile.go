// Package watchfile reads a file that is read again while the server runs, and that other people and programs replace.
//
// Read is most of it, and Open is for files that are too large to be read at once. Whatever is at the path, they neither wait
// for a writer nor read without end. A file system that does not answer can still make them hang: callers run them where
// nothing else waits for that.
package watchfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

var (
	// ErrIrregular is the error for what is not a regular file, such as a directory, a pipe or a device.
	ErrIrregular = errors.New("not a regular file")
	// ErrTooLarge is the error for a file that is longer than allowed.
	ErrTooLarge = errors.New("too large")
)

// Open opens a regular file to read it, and returns its metadata. An error is a *fs.PathError.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// Opening a device may have an effect. If there is nothing, open says so.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: ErrIrregular}
	}
	return openNow(path)
}

// openNow is Open without a look at what is at the path, which may be replaced between that and open. So open does not wait,
// and it is what was opened that must be a regular file.
func openNow(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrIrregular}
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// Read returns the content of a regular file of at most limit bytes, and its metadata from before it was read. An error is a
// *fs.PathError. With ErrTooLarge the metadata is valid.
func Read(path string, limit int) ([]byte, fs.FileInfo, error) {
	file, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > limit {
		return nil, info, &fs.PathError{Op: "read", Path: path, Err: ErrTooLarge}
	}
	return text, info, nil
}
