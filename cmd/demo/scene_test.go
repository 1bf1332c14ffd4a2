package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
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

func TestPlay(t *testing.T) {
	var out script
	if err := play(context.Background(), &out, 0, false); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	at := 0
	for _, want := range []string{"multivalue {", "$ dig +short @127.0.0.1", "127.0.0.11  127.0.0.12", "Stopping", "s   127.0.0.11\n", "gone after", "Starting", "127.0.0.11  127.0.0.12\n", "back after"} {
		next := strings.Index(out.String()[at:], want)
		if next < 0 {
			t.Fatalf("%q is missing, or out of order:\n%s", want, &out)
		}
		at += next + len(want)
	}
}

// An interrupt ends the scene wherever it is, and leaves nothing behind: the next one plays.
func TestPlayInterrupted(t *testing.T) {
	for _, cue := range []string{"CoreDNS with", "Stopping", "Left running"} {
		ctx, cancel := context.WithCancel(context.Background())
		out := script{cue: cue, then: cancel}
		err := play(ctx, &out, 0, true)
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
	if err := play(context.Background(), &out, port, false); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("on a port in use: %v", err)
	}
}
