package watchfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A regular file is read up to its limit, also through a link. Anything else is an error that names the path.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("12345"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path  string
		limit int
		text  string
		err   error
	}{
		{file, 5, "12345", nil},
		{link, 100, "12345", nil},
		{file, 4, "", ErrTooLarge},
		{dir, 100, "", ErrIrregular},
		{filepath.Join(dir, "none"), 100, "", fs.ErrNotExist},
	} {
		text, info, err := Read(tc.path, tc.limit)
		var at *fs.PathError
		if string(text) != tc.text || !errors.Is(err, tc.err) || err != nil && (!errors.As(err, &at) || at.Path != tc.path) {
			t.Errorf("%s, at most %d: %q, %v", tc.path, tc.limit, text, err)
		}
		if known := err == nil || tc.err == ErrTooLarge; known != (info != nil) || known && info.Size() != 5 {
			t.Errorf("%s, at most %d: metadata %v", tc.path, tc.limit, info)
		}
	}
}
