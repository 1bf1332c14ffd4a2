package main

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// script collects what the scene tells, and calls a function at a word.
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

// usual are addresses of every Linux and Windows. 192.0.2.1 is an address for documentation, and no machine's (RFC 5737).
var usual, lacking = []string{"127.0.0.11", "127.0.0.12"}, []string{"127.0.0.11", "192.0.2.1"}

func TestPlay(t *testing.T) {
	ports.Need(t, usual...)
	played(t, usual, "Two web servers", "multivalue \\{", "\\$ dig .short @127.0.0.1", "127.0.0.11  127.0.0.12\n",
		"Stopping the web server on 127.0.0.12", "s   127.0.0.11\n", "gone after", "Starting", "127.0.0.11  127.0.0.12\n", "back after")
}

// On a machine with one loopback address, the web servers share that, and the same is shown by SRV records.
func TestPlayOnOneAddress(t *testing.T) { playedOnOneAddress(t, lacking) }

func playedOnOneAddress(t *testing.T, hosts []string) {
	t.Helper()
	const first, second = `1 1 \d+ web1\.example\.org\.`, `1 1 \d+ web2\.example\.org\.`
	const both = "(" + first + "  " + second + "|" + second + "  " + first + ")\n"
	played(t, hosts, "no second loopback address", "Two web servers: http://127.0.0.1:", "types SRV", "_http._tcp.example.org SRV\n", both,
		"Stopping the web server on 127.0.0.1:", `s   `+first+"\n", "gone after", "Starting", both, "back after")
}

// played plays the scene, and holds what it tells to expressions, in their order.
func played(t *testing.T, hosts []string, expressions ...string) {
	t.Helper()
	var out script
	if err := play(t.Context(), &out, wishes{hosts: hosts}); err != nil {
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
}

// An interrupt ends the scene wherever it is, and leaves nothing behind: the next one plays.
func TestPlayInterrupted(t *testing.T) {
	for _, cue := range []string{"CoreDNS with", "Stopping", "Left running"} {
		ctx, cancel := context.WithCancel(context.Background())
		out := script{cue: cue, then: cancel}
		err := play(ctx, &out, wishes{hosts: lacking, keep: true})
		if ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at %q: %v\n%s", cue, err, &out)
		}
		cancel()
	}
}

func TestPlayPortInUse(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	var out script
	// CoreDNS listens with SO_REUSEPORT, which a socket without it refuses.
	if err := play(t.Context(), &out, wishes{hosts: lacking, port: port}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("on a port in use: %v", err)
	}
}
