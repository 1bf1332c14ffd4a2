package check_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A good probe over TLS leaves its connection open: the peer gets no close_notify, and a duplicate
// of the descriptor keeps it open. After a bad answer, or if the peer announces that it closes,
// nothing is held (B53).
func TestProbeKeeping(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	for name, tt := range map[string]struct {
		says string
		keep bool
		want string
	}{
		"stays":       {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, ""},
		"closes":      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, ""},
		"http/1.0":    {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, ""},
		"is not good": {"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", false, "status 503"},
	} {
		heard := make(chan error, 1)
		p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, func(conn net.Conn) {
			readRequest(conn)
			fmt.Fprint(conn, tt.says)
			_, err := conn.Read(make([]byte, 1))
			heard <- err
		}))
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		var kept io.Closer
		err := mustNew(t, "https://", opt("insecure"), opt("hold")).ProbeKeeping(ctx, p.addr, func(conn *net.TCPConn) {
			file, err := conn.File() // a descriptor of our own
			if err != nil {
				t.Fatal(err)
			}
			kept = file
		})
		if reason(err) != tt.want || (kept != nil) != tt.keep {
			t.Errorf("%s: %q, kept %t; want %q, %t", name, reason(err), kept != nil, tt.want, tt.keep)
		}
		if kept != nil {
			select {
			case err := <-heard:
				t.Errorf("%s: while it is kept, the peer hears %v", name, err)
			case <-time.After(100 * time.Millisecond): // nothing can be waited for
			}
			kept.Close()
		}
		if err := <-heard; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: in the end the peer hears %v", name, err)
		}
	}
}

// What cannot be held is refused.
func TestHoldIsRefused(t *testing.T) {
	for _, lines := range [][][]string{
		{opt("body", "ok")}, {opt("invert")},
	} {
		_, err := check.New("https://www.example.org", options(append(lines, opt("hold"))...)...)
		var wrong *check.OptionError
		if !errors.As(err, &wrong) || wrong.Index != len(lines) {
			t.Errorf("%v with hold: %v", lines, err)
		}
	}
	if _, err := check.New("https://", options(opt("host", "owner"), opt("hold"))...); err == nil || !strings.HasPrefix(err.Error(), "option hold: ") {
		t.Errorf("host owner with hold: %v", err)
	}
	for _, lines := range [][][]string{{opt("alpn", "http/1.1")}, {opt("from", "127.0.0.1")}, {opt("header", "A", "b")}} {
		if c := mustNew(t, "https://www.example.org", append(lines, opt("hold"))...); !c.Hold() {
			t.Errorf("%v with hold: it is not", lines)
		}
	}
}
