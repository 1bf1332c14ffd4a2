package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// SIGTERM and SIGINT end the program with status 0, as they end CoreDNS; also while every probe hangs (B71).
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
				t.Errorf("the status is %d, want 0:\n%s", status, p.output.since(0))
			}
		})
	}
}

// A second SIGINT while the first is at work ends the program at once. Its status is 2 then, as CoreDNS has it, or 0 if
// the first was quicker.
func TestSecondInterruptEndsTheProgram(t *testing.T) {
	for range 3 {
		p := runCalm(t, listening)
		p.signal(syscall.SIGINT)
		_ = p.cmd.Process.Signal(syscall.SIGINT) // fails if the process has ended
		if status := p.exit(); status != 0 && status != 2 {
			t.Errorf("the status is %d, want 0 or 2:\n%s", status, p.output.since(0))
		}
	}
}

// A stop that comes in the middle of a reload ends the program with status 0, wherever it hits.
func TestStopInTheMiddleOfAReload(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for range 3 {
			p := runCalm(t, listening)
			p.signal(syscall.SIGUSR1)
			p.logs("Reloading")
			p.signal(signal)
			if status := p.exit(); status != 0 {
				t.Errorf("%s: the status is %d, want 0:\n%s", signal, status, p.output.since(0))
			}
			if text := p.output.since(0); strings.Contains(text, "panic") {
				t.Errorf("%s: %s", signal, text)
			}
		}
	}
}

// A broken Corefile ends the program with an error that says what is wrong, and on which line (B78).
func TestBrokenCorefileNamesTheLine(t *testing.T) {
	for name, c := range map[string]struct {
		corefile string
		want     []string
	}{
		"an unknown property": {".:0 {\n bind 127.0.0.1\n multivalue example.org {\n  check tcp://:80\n  intervall 10s\n }\n}",
			[]string{"Corefile:5", `"intervall"`, `"interval"`}},
		"the root without within": {".:0 {\n bind 127.0.0.1\n multivalue {\n  check tcp://:80\n }\n}",
			[]string{"Corefile:3", "within"}},
		"forward without within": {"example.org:0 {\n bind 127.0.0.1\n forward . 127.0.0.1:9\n multivalue {\n  check tcp://:80\n }\n}",
			[]string{"Corefile:4", "within", "forward"}},
		"credentials in a URL": {"example.org:0 {\n bind 127.0.0.1\n multivalue {\n  check http://user:hush@www.example.org/\n }\n}",
			[]string{"Corefile:4", "credentials"}},
		"no check": {"example.org:0 {\n multivalue\n}", []string{"Corefile:2", "check"}},
		"a timeout over the interval": {"example.org:0 {\n multivalue {\n  check tcp://:80\n  interval 1s\n  timeout 2s\n }\n}",
			[]string{"Corefile:5", "timeout"}},
		"an option of another scheme": {"example.org:0 {\n multivalue {\n  check tcp://:80 status 200\n }\n}",
			[]string{"Corefile:3", "status"}},
		"a zone twice": {"example.org:0 {\n multivalue {\n  check tcp://:80\n }\n multivalue {\n  check tcp://:81\n }\n}",
			[]string{"Corefile:5", "example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.file("Corefile", c.corefile)
			cmd := exec.Command(program(t), "-conf", filepath.Join(s.dir, "Corefile"))
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the program started")
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("the error lacks %s: %s", want, out)
				}
			}
			if strings.Contains(string(out), "hush") {
				t.Errorf("the error repeats a password: %s", out)
			}
		})
	}
}
