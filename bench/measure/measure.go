// Package measure reads what a running process costs, for the programs bench/qps, bench/probe and bench/fleet.
//
// CPU and Memory ask the kernel about another process, so the process that is measured needs no profiling and does not
// know that it is measured. FreePort and Build help to start it. Median and Quantile reduce the figures of many windows
// to one: on a shared machine some windows are disturbed, and a mean would follow them.
package measure

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/freeport"
)

// CPU returns the processor time that all threads of a process have used so far, in nanoseconds, in user mode and in the
// kernel. It reads schedstat, because the times in /proc/PID/stat come in steps of 10 ms.
//
// The kernel brings the figure up to date when a thread is switched or at a tick of a few milliseconds, so a window
// between two calls must be much longer than that. The time of threads that have ended is lost; Go keeps its threads.
func CPU(pid int) (int64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var total int64
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(text), " ") // time on a processor; time spent waiting for one comes second
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		total += ns
	}
	if total == 0 {
		return 0, fmt.Errorf("no processor time in /proc/%d/task/*/schedstat: the process has ended, or the kernel lacks CONFIG_SCHED_INFO", pid)
	}
	return total, nil
}

// Memory returns the resident memory that belongs to a process alone, in bytes: its heap and stacks. Pages of the
// program's file are left out, because the kernel loads and drops them on its own account.
func Memory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no RssAnon in /proc/%d/status: the process has ended, or Linux is older than 4.5", pid)
}

// FreePort returns a port of 127.0.0.1 that is free for both UDP and TCP. It is free when FreePort returns, and not
// reserved: start the server on it soon.
func FreePort() (int, error) {
	found, err := freeport.Find(1)
	if err != nil {
		return 0, err
	}
	return found[0], nil
}

// Workplace makes a directory for a benchmark, and compiles cmd/coredns into it if binary names no program yet. The caller removes the
// directory.
func Workplace(name string, binary *string) (dir string, err error) {
	if dir, err = os.MkdirTemp("", name); err != nil || *binary != "" {
		return dir, err
	}
	*binary = filepath.Join(dir, "coredns")
	fmt.Println("building cmd/coredns")
	build := exec.Command("go", "build", "-o", *binary, "github.com/coredns-multivalue/multivalue/cmd/coredns")
	build.Stderr = os.Stderr
	return dir, build.Run()
}

// Median returns the middle one of the figures, and sorts them. There must be at least one.
func Median(x []float64) float64 { return Quantile(x, 0.5) }

// Quantile returns the figure below which the share q of the figures lies: 0 gives the least, 1 the greatest. It sorts
// them. There must be at least one.
func Quantile(x []float64, q float64) float64 {
	slices.Sort(x)
	return x[min(len(x)-1, int(q*float64(len(x))))]
}
