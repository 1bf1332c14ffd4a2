package main

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// script collects the output of the demo, and calls a function when the output contains the cue.
type script struct {
	strings.Builder
	cue  string
	then func()
}

func (s *script) Write(b []byte) (int, error) {
	if s.then != nil && strings.Contains(string(b), s.cue) {
		s.then()
	}
	return s.Builder.Write(b)
}

// usual are addresses that every Linux and Windows has. lacking has one that no machine has: 192.0.2.1 is for documentation
// (RFC 5737).
var usual, lacking = []string{"127.0.0.11", "127.0.0.12"}, []string{"127.0.0.11", "192.0.2.1"}

func TestDemo(t *testing.T) {
	ports.Need(t, usual...)
	checkOutput(t, usual, "Two web servers", "multivalue \\{", "\\$ dig .short @127.0.0.1", "127.0.0.11  127.0.0.12\n",
		"Stopping the web server on 127.0.0.12", "s   127.0.0.11\n", "gone after", "Starting", "127.0.0.11  127.0.0.12\n", "back after")
}

// On a machine with one loopback address, the web servers share it, and SRV records show the same.
func TestDemoOnOneAddress(t *testing.T) { checkOnOneAddress(t, lacking) }

func checkOnOneAddress(t *testing.T, hosts []string) {
	t.Helper()
	const first, second = `1 1 \d+ web1\.example\.org\.`, `1 1 \d+ web2\.example\.org\.`
	const both = "(" + first + "  " + second + "|" + second + "  " + first + ")\n"
	checkOutput(t, hosts, "no second loopback address", "Two web servers: http://127.0.0.1:", "types SRV", "_http._tcp.example.org SRV\n", both,
		"Stopping the web server on 127.0.0.1:", `s   `+first+"\n", "gone after", "Starting", both, "back after")
}

// checkOutput runs the demo, and checks that its output matches the expressions in this order.
func checkOutput(t *testing.T, hosts []string, expressions ...string) {
	t.Helper()
	checkScene(t, run, hosts, expressions...)
}

// checkScene is checkOutput for any scene. It returns the output.
func checkScene(t *testing.T, scene func(context.Context, io.Writer, options) error, hosts []string, expressions ...string) string {
	t.Helper()
	var out script
	if err := scene(t.Context(), &out, options{hosts: hosts}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	rest := out.String()
	for _, want := range expressions {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("%q is missing, or out of order:\n%s", want, &out)
		}
		rest = rest[at[1]:]
	}
	return out.String()
}

// An interrupt ends the demo at any point, and leaves nothing running: the next demo can start.
func TestDemoInterrupted(t *testing.T) {
	for _, cue := range []string{"CoreDNS with", "Stopping", "Left running"} {
		ctx, cancel := context.WithCancel(context.Background())
		out := script{cue: cue, then: cancel}
		err := run(ctx, &out, options{hosts: lacking, keep: true})
		if ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at %q: %v\n%s", cue, err, &out)
		}
		cancel()
	}
}

func TestDemoPortInUse(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	var out script
	// CoreDNS listens with SO_REUSEPORT, which fails if another socket on the port does not use it.
	if err := run(t.Context(), &out, options{hosts: lacking, port: port}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("on a port in use: %v", err)
	}
}
