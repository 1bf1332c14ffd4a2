//go:build !unix

package force

import (
	"io/fs"
	"os"
)

// renamesOpen is false: Windows renames no file that is open.
const renamesOpen = false

// keepOwner does nothing: a new file has the rights of its directory here.
func keepOwner(*os.File, fs.FileInfo, fs.FileInfo) error { return nil }

// mayKeepOwner is true for the same reason.
func mayKeepOwner(fs.FileInfo) bool { return true }

// mayWrite does nothing: only writing tells.
func mayWrite(string) error { return nil }
