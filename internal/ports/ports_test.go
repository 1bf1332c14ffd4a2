package ports

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestFree(t *testing.T) {
	seen := make(map[int]bool)
	for range size - 50 {
		p := Free(t)
		if seen[p] || p <= lowest || p >= lowest+blocks*size {
			t.Errorf("port %d is outside the range or was returned before: %v", p, seen)
		}
		seen[p] = true
	}
	for p := range seen {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if free(p) {
			t.Errorf("port %d is reported free while %s listens", p, l.Addr())
		}
		l.Close()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		if free(p) {
			t.Errorf("port %d is reported free while %s listens", p, u.LocalAddr())
		}
		u.Close()
	}
}

// Processes that run at the same time get ports of different blocks.
func TestFreeForEachProcess(t *testing.T) {
	if os.Getenv("MULTIVALUE_PORTS") != "" {
		os.Stdout.WriteString("port " + strconv.Itoa(Free(t)) + "\n")
		return
	}
	block := func(p int) int { return (p - lowest) / size }
	mine := block(Free(t))
	for range 20 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestFreeForEachProcess$")
		cmd.Env = append(os.Environ(), "MULTIVALUE_PORTS=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(out), "port ")
		text, _, _ = strings.Cut(text, "\n")
		if p, err := strconv.Atoi(text); err != nil || block(p) == mine {
			t.Errorf("another process got port %q, which is in the block of this one: %v", text, err)
		}
	}
}
