package ports

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
)

// outcome is a test that records how it ends.
type outcome struct {
	testing.TB
	text string
}

func (o *outcome) Helper() {}

func (o *outcome) Logf(format string, args ...any) { o.text = fmt.Sprintf(format, args...) }

func (o *outcome) Fatalf(format string, args ...any) {
	o.text = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (o *outcome) SkipNow() {
	o.text = "skipped: " + o.text
	runtime.Goexit()
}

func ending(f func(testing.TB)) string {
	o := &outcome{text: "ran"}
	done := make(chan struct{})
	go func() { defer close(done); f(o) }()
	<-done
	return o.text
}

// 192.0.2.1 is an address for documentation, which no machine has (RFC 5737).
func TestNeed(t *testing.T) {
	for _, c := range []struct{ ci, host, want string }{
		{"", "127.0.0.1", "ran"},
		{"true", "127.0.0.1", "ran"},
		{"", "192.0.2.1", "skipped: this machine cannot listen on 192.0.2.1"},
		{"true", "192.0.2.1", "failed: this machine cannot listen on 192.0.2.1"},
	} {
		t.Setenv("CI", c.ci)
		if got := ending(func(t testing.TB) { Need(t, "127.0.0.1", c.host) }); !strings.HasPrefix(got, c.want) {
			t.Errorf("CI=%q, %s: %q, want %q", c.ci, c.host, got, c.want)
		}
	}
}

func TestIPv6(t *testing.T) {
	host := IPv6(t)
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	if has := err == nil; (host == "::1") != has || (host == "127.0.0.1") == has {
		t.Errorf("%s, on a machine that has ::1: %t", host, has)
	}
}
