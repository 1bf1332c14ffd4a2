package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A broken Corefile ends the program with an error that says what is wrong and on which line (B78).
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
		"template without within": {"example.org:0 {\n bind 127.0.0.1\n template IN A {\n  answer \"{{ .Name }} 60 IN A 127.0.0.1\"\n }\n multivalue {\n  check tcp://:80\n }\n}",
			[]string{"Corefile:6", "within", "template", "clients choose"}},
		"a block that is not closed": {"example.org:0 {\n bind 127.0.0.1\n multivalue {\n  check tcp://:80\n hosts {\n  127.0.0.1 www.example.org\n }\n}\n",
			[]string{"Corefile:5", `unexpected "hosts" in the block of multivalue`, "close the block"}},
		"a zone that never matches": {"example.org:0 {\n bind 127.0.0.1\n multivalue *.example.org {\n  check tcp://:80\n }\n}",
			[]string{"Corefile:3", "use example.org"}},
		"credentials in a URL": {"example.org:0 {\n bind 127.0.0.1\n multivalue {\n  check http://user:hush@www.example.org/\n }\n}",
			[]string{"Corefile:4", "credentials"}},
		"no check": {"example.org:0 {\n multivalue\n}", []string{"Corefile:2", "check"}},
		"a timeout over the interval": {"example.org:0 {\n multivalue {\n  check tcp://:80\n  interval 1s\n  timeout 2s\n }\n}",
			[]string{"Corefile:5", "timeout"}},
		"an option of another scheme": {"example.org:0 {\n multivalue {\n  check tcp://:80 status 200\n }\n}",
			[]string{"Corefile:3", "status"}},
		"a zone twice": {"example.org:0 {\n multivalue {\n  check tcp://:80\n }\n multivalue {\n  check tcp://:81\n }\n}",
			[]string{"Corefile:5", "example.org"}},
		"two state files": {"example.org:0 {\n multivalue {\n  check tcp://:80\n  state one\n }\n}\nexample.net:0 {\n multivalue {\n  check tcp://:80\n  state two\n }\n}",
			[]string{"Corefile:10", "state two", "Corefile:4 names one"}},
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

// What is valid and hardly meant is said once at the start, and the server runs.
func TestNoticesAtTheStart(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11")
	mark := logs.Mark()
	v := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n multivalue {\n check http://127.0.0.1/healthz\n within 127.0.0.11/32\n min_up 50\n }\n}")
	if got := members(v.ask("www.example.org A")); got != "11" {
		t.Errorf("answered %q, want 11", got)
	}
	for _, want := range []string{"Corefile:5 - check http://127.0.0.1/healthz dials the address of each record", "Corefile:7 - min_up 50 is above the limit of 8", "did you mean 50%?"} {
		if n := strings.Count(logs.Since(mark), want); n != 1 {
			t.Errorf("%q is logged %d times, want once:\n%s", want, n, logs.Since(mark))
		}
	}
}
