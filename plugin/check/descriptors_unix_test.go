//go:build unix

package check_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// Whatever opens a socket proves nothing where it gets none.
func TestNoDescriptorAbstains(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways(t) {
		if w.scheme() == "exec" || len(w.lines) > 0 {
			continue // has no socket, or is another way of a scheme that has one
		}
		url := strings.Replace(w.url, "HOST", www, 1)
		child := exec.Command(self)
		child.Env = append(os.Environ(), starve+"="+url)
		out, err := child.CombinedOutput()
		got := strings.TrimSpace(string(out))
		unprivileged := w.scheme() == "icmp" && strings.HasPrefix(got, "true could not ask: no icmp for this process")
		if err != nil || got != "true could not ask: too many open files" && !unprivileged {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
}

// probeStarved is the child: it opens files until it may not, probes a listener that is there, and prints whether
// that was abstaining, and the reason.
func probeStarved() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	c, err := check.New(os.Getenv(starve))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		fmt.Println(err)
		return
	}
	var files []*os.File // held, so that none is closed behind our back
	for err == nil {
		var f *os.File
		f, err = os.Open(os.DevNull)
		files = append(files, f)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = c.Probe(ctx, l.Addr().(*net.TCPAddr).AddrPort())
	files[0].Close()
	fmt.Println(errors.Is(err, check.ErrAbstain), err)
}
