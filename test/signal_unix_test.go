//go:build unix

package test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// signal sends a signal.
func (p *process) signal(s os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// exit waits for the end of the process and returns its exit status.
func (p *process) exit() int {
	p.Helper()
	p.eventually(func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}, func() string { return "the process does not end:\n" + p.output.Since(0) })
	return p.cmd.ProcessState.ExitCode()
}

// SIGTERM and SIGINT end the program with status 0, as they end CoreDNS, even while every probe hangs (B71).
func TestSignalsEndTheProgram(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			s := newScene(t)
			s.backends[11] = s.listen("127.0.0.11", hang)
			p := s.run(t, strings.Replace(hourly, "example.org:0", "example.org:LISTEN", 1), 0)
			p.ask("www.example.org A")
			s.visited(1)
			p.signal(signal)
			if status := p.exit(); status != 0 {
				t.Errorf("the status is %d, want 0:\n%s", status, p.output.Since(0))
			}
		})
	}
}

// A second SIGINT during the first one's shutdown ends the program at once. The exit status is then 2, as in CoreDNS,
// or 0 if the first shutdown was faster.
func TestSecondInterruptEndsTheProgram(t *testing.T) {
	for range 3 {
		p := runCalm(t, listening)
		p.signal(syscall.SIGINT)
		_ = p.cmd.Process.Signal(syscall.SIGINT) // fails if the process has ended
		if status := p.exit(); status != 0 && status != 2 {
			t.Errorf("the status is %d, want 0 or 2:\n%s", status, p.output.Since(0))
		}
	}
}

// A stop during a reload ends the program with status 0, at whatever moment it comes.
func TestStopInTheMiddleOfAReload(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for range 3 {
			p := runCalm(t, listening)
			p.signal(syscall.SIGUSR1)
			p.logs("Reloading")
			p.signal(signal)
			if status := p.exit(); status != 0 {
				t.Errorf("%s: the status is %d, want 0:\n%s", signal, status, p.output.Since(0))
			}
			if text := p.output.Since(0); strings.Contains(text, "panic") {
				t.Errorf("%s: %s", signal, text)
			}
		}
	}
}

// Reloads by SIGUSR1 keep the verdicts, however often, although SIGUSR1 drops all event hooks (B69).
func TestSIGUSR1KeepsVerdicts(t *testing.T) {
	p := runCalm(t, listening)
	for i := range 4 {
		p.edit(strings.Replace(listening, "CALM", fmt.Sprintf("CALM\n limit %d", 3+i), 1))
		p.signal(syscall.SIGUSR1)
		p.logsAgain("Reloading complete", i+1)
		if got := members(p.ask("www.example.org A")); got != "11 13" {
			t.Fatalf("after reload %d, the answer has %q, want 11 13 at once", i+1, got)
		}
	}
	p.edit("example.org:LISTEN {")
	p.signal(syscall.SIGUSR1)
	p.logs("[ERROR] SIGUSR1")
	p.edit(strings.Replace(listening, "CALM", "CALM\n limit 9", 1))
	p.signal(syscall.SIGUSR1)
	p.logsAgain("Reloading complete", 5)
	if got := members(p.ask("www.example.org A")); got != "11 13" {
		t.Errorf("after a failed and a successful reload, the answer has %q, want 11 13", got)
	}
	for n, b := range p.backends {
		if got := b.accepted.Load(); got != 1 {
			t.Errorf("backend %d was probed %d times, want once", n, got)
		}
	}
}

// Probing continues after SIGUSR1: a backend that dies then is detected.
func TestProbingGoesOnAfterSIGUSR1(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	p := s.run(t, strings.Replace(listening, "CALM", "QUICK", 1), 0)
	p.comesTo("www.example.org A", "11 12")
	for i := range 2 {
		p.signal(syscall.SIGUSR1)
		p.logsAgain("Reloading complete", i+1)
	}
	s.kill(12)
	p.comesTo("www.example.org A", "11")
}

// A program whose Corefile does not use multivalue fails to load one that does, loads it the second time, and then
// loads one without it again. No probing may continue after that (B69, B70, T35).
func TestFailedFirstUseIsForgotten(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	without := "example.org:LISTEN {\n bind 127.0.0.1\n file DIR/example.org\n}"
	with := strings.Replace(listening, "CALM", "QUICK", 1)
	p := s.run(t, without, 0)
	p.edit(strings.Replace(with, "LISTEN", busyPort(t), 1))
	p.signal(syscall.SIGUSR1)
	p.logs("[ERROR] SIGUSR1")
	p.edit(with)
	p.signal(syscall.SIGUSR1)
	p.comesTo("www.example.org A", "11")
	p.edit(without)
	p.signal(syscall.SIGUSR1)
	p.comesTo("www.example.org A", "11 12")
	s.notAsked(11)
}
