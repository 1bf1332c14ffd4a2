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
