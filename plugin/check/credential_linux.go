package check

import (
	"io/fs"
	"syscall"
	"time"
)

// changed is when a file last changed in any way. Unlike the time of modification nobody can set it, so that it tells of a
// version that was written over another, and given its time.
func changeTime(file fs.FileInfo) time.Time {
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix())
	}
	return file.ModTime()
}
