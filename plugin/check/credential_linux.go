package check

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime is when the file or its attributes last changed (ctime). Unlike the modification time
// it cannot be set by a program, so it reveals a version that was written over another and was
// given the same time.
func changeTime(file fs.FileInfo) time.Time {
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix())
	}
	return file.ModTime()
}
