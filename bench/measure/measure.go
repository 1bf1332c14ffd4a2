// Package measure is what the programs under bench share: what a process costs, by the kernel's account of it.
package measure

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CPU is the processor time of all threads of a process so far, in nanoseconds, by the scheduler's account.
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
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		total += ns
	}
	if total == 0 {
		return 0, errors.New("the kernel keeps no account of processor time in schedstat")
	}
	return total, nil
}

// Memory is what a process has in memory of its own, in bytes: its heap and stacks, without the program's file.
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
	return 0, errors.New("the kernel tells no RssAnon")
}

// FreePort is a port of loopback that is free for UDP and for TCP.
func FreePort() (int, error) {
	var err error
	for range 10 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		var conn net.PacketConn
		conn, err = net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			conn.Close()
			return port, nil
		}
	}
	return 0, err
}

// Build compiles cmd/coredns into a folder, and returns the program's path.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "coredns")
	fmt.Println("building cmd/coredns")
	build := exec.Command("go", "build", "-o", binary, "github.com/coredns-multivalue/multivalue/cmd/coredns")
	build.Stderr = os.Stderr
	return binary, build.Run()
}

// Median is the middle one of some figures, which it sorts.
func Median(x []float64) float64 { return Quantile(x, 0.5) }

// Quantile is the figure below which the share q of them lies. It sorts them.
func Quantile(x []float64, q float64) float64 {
	slices.Sort(x)
	return x[min(len(x)-1, int(q*float64(len(x))))]
}
