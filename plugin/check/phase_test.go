package check_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"

	"golang.org/x/net/http2"
)

// Over HTTP/2 the answer starts with its HEADERS: the SETTINGS of a server come at once, whatever
// is wrong with it.
func TestFirstByteOverHTTP2(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	settled := func(conn net.Conn) {
		framer := http2.NewFramer(conn, conn)
		framer.WriteSettings()
		framer.WriteSettingsAck()
		hold(conn)
	}
	first := opt("first_byte_timeout", "200ms")
	for name, tt := range map[string]struct {
		c     *check.Check
		serve func(net.Conn)
	}{
		"https":          {mustNew(t, "https://", opt("insecure"), first), overTLS(config, hold)},
		"https, settled": {mustNew(t, "https://", opt("insecure"), first), overTLS(config, settled)},
		"grpc, settled":  {mustNew(t, "grpc://:1", first), settled},
		"grpcs, settled": {mustNew(t, "grpcs://:1", opt("insecure"), first), overTLS(config, settled)},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		timer := time.AfterFunc(patient, cancel)
		if got := reason(tt.c.Probe(ctx, listen(t, "127.0.0.1", tt.serve).addr)); got != "no response: timed out" {
			t.Errorf("%s: %q", name, got)
		}
		timer.Stop()
		cancel()
	}
}

func TestPhaseOptions(t *testing.T) {
	for text, want := range map[string]string{"2": "2s", "2s": "2s", "1500ms": "1.5s"} {
		if got := mustNew(t, "tcp://:1", opt("connect_timeout", text)).String(); got != "tcp://:1 connect_timeout "+want {
			t.Errorf("%s: %q", text, got)
		}
	}
	for _, tt := range []struct {
		url   string
		lines [][]string
		want  string
	}{
		{"tcp://:1", [][]string{opt("connect_timeout", "0")}, `option connect_timeout: invalid duration "0": use 1ms to 24h0m0s, such as 500ms`},
		{"tcp://:1", [][]string{opt("connect_timeout", "25h")}, `option connect_timeout: invalid duration "25h": use 1ms to 24h0m0s`},
		{"tcp://:1", [][]string{opt("connect_timeout", "soon")}, `option connect_timeout: invalid duration "soon": use 1ms to`},
		{"tcp://:1", [][]string{opt("first_byte_timeout", "1s")}, "option first_byte_timeout: needs a step such as expect TEXT"},
		{"tcp://:1", [][]string{opt("tls_timeout", "1s")}, "option tls_timeout: needs the step starttls: add it, or remove the option"},
		{"postgres://", [][]string{opt("tls_timeout", "1s")}, "option tls_timeout: has no effect without starttls: add starttls, or remove it"},
		{"http://", [][]string{opt("tls_timeout", "1s")}, "option tls_timeout is for dot, grpcs, https"},
		{"tls://h:1", [][]string{opt("first_byte_timeout", "1s")}, "option first_byte_timeout is for agent, dot, grpc"},
		{"icmp:", [][]string{opt("connect_timeout", "1s")}, "option connect_timeout is for agent, dot, grpc"},
	} {
		if _, err := check.New(tt.url, options(tt.lines...)...); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s %v: %v, want %s", tt.url, tt.lines, err, tt.want)
		}
	}
	if mustNew(t, "http://", opt("connect_timeout", "1s")).Talk() != nil {
		t.Error("a check with a bound on connecting is a conversation, and those know of none")
	}
}

// A check that is not a talk can still hold its connection, unless it leaves the connection in an
// unknown state (B53).
func TestHoldWithoutTalk(t *testing.T) {
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		bufio.NewReader(conn).ReadString('\n')
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		hold(conn)
	})
	for _, lines := range [][][]string{{opt("from", "127.0.0.1")}, {opt("connect_timeout", "1m")}} {
		for _, url := range []string{"http://", "tcp://:1"} {
			c := mustNew(t, url, append(lines, opt("hold"))...)
			kept := 0
			if err := c.ProbeKeeping(t.Context(), p.addr, func(*net.TCPConn) { kept++ }); err != nil || kept != 1 || c.Talk() != nil || !c.Hold() {
				t.Errorf("%s: %v, kept %d times", c, err, kept)
			}
		}
	}
}
