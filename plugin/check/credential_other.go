//go:build !linux

package check

import (
	"io/fs"
	"time"
)

// changeTime is the modification time, because the change time is not available in a portable way.
func changeTime(file fs.FileInfo) time.Time { return file.ModTime() }
