package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
)

// mvctl runs the program against a server, and returns what it writes and its status.
func mvctl(t *testing.T, server string, args ...string) (out string, code int) {
	t.Helper()
	path := builtProgram(t, "mvctl")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(cmd.Environ(), "MVCTL_SERVER="+server)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(text) + errs.String(), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return string(text) + errs.String(), 0
}

// Each command that reads shows what a real server has, over TCP and over a socket, as a table and as JSON, with a status for scripts
// (B119).
func TestMvctlReads(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\ndead A 127.0.0.13\ndead A 127.0.0.14")
	corefile := strings.Replace(showing, "QUICK", "QUICK\n all_down nodata\n check http://:PORT/ header X-Token hunter2", 1)
	v, base := s.shown(corefile)
	v.comesTo("www.example.org A", "11 12")
	if out, code := mvctl(t, base, "names", "--fail"); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	v.comesTo("dead.example.org A", "")
	// What is shown is up to half a second old, or more on a busy machine.
	v.eventually(func() bool {
		v.ask("www.example.org A")
		out, _ := mvctl(t, base, "names")
		return strings.Contains(out, "fail-closed") && strings.Contains(out, "all healthy")
	}, func() string { return "it does not show both names as they are" })
	reads := []struct {
		args string
		code int
		want []string
	}{
		{"targets", 0, []string{"✓ up", "127.0.0.11:" + s.port, "✗ down", "connection refused", "dead.example.org."}},
		{"targets --fail", 1, []string{"✗ down"}},
		{"targets --fail --name www", 0, []string{"127.0.0.12:" + s.port}},
		{"targets --state bogus", 2, []string{`invalid state "bogus"`}},
		{"names", 0, []string{"✗ fail-closed", "✓ all healthy", "2 of 2"}},
		{"names --fail", 1, []string{"0 of 2"}},
		{"explain www.example.org", 0, []string{"✓ all healthy", "127.0.0.11", "served", "  1. "}},
		{"explain dead.example.org a --fail", 1, []string{"✗ fail-closed", "left out", "connection refused"}},
		{"explain x.invalid --fail", 1, []string{"No stanza"}},
		{"explain www.example.org nope", 2, []string{"invalid record type"}},
		{"changes", 0, []string{"unknown → ", "✗ down", "127.0.0.13:" + s.port, "connection refused"}},
		{"members --fail", 0, []string{"in no fleet"}},
		{"config --fail", 0, []string{"Corefile:7", "limit", "8", "default", "nodata", "header X-Token …"}},
	}
	for _, tt := range reads {
		checkMvctl(t, base, tt.args, tt.code, tt.want)
	}
	// The same over a socket, and for programs.
	socket := "unix:" + filepath.Join(s.dir, "socket")
	v.mustReload(strings.Replace(corefile, "127.0.0.1:STATUS", socket, 1))
	for _, tt := range reads {
		checkMvctl(t, socket, tt.args, tt.code, tt.want)
	}
	for _, args := range []string{"targets", "names", "changes", "members", "config", "explain www.example.org"} {
		out, code := mvctl(t, socket, append(strings.Fields(args), "-o", "json")...)
		texts := []string{out}
		if args == "changes" { // each is an object
			texts = strings.SplitAfter(strings.TrimSpace(out), "\n")
		}
		for _, text := range texts {
			var v any
			if err := json.Unmarshal([]byte(text), &v); err != nil || code != 0 || strings.Contains(out, "hunter2") {
				t.Errorf("%s: %v, %d: %s", args, err, code, out)
			}
		}
	}
}

// checkMvctl runs a command, and looks for its status and for parts of what it writes.
func checkMvctl(t *testing.T, server, args string, code int, want []string) {
	t.Helper()
	out, got := mvctl(t, server, strings.Fields(args)...)
	if got != code || strings.Contains(out, "hunter2") || strings.Contains(out, "\x1b") {
		t.Errorf("mvctl %s: status %d, want %d:\n%s", args, got, code, out)
	}
	for _, part := range want {
		if !strings.Contains(out, part) {
			t.Errorf("mvctl %s lacks %q:\n%s", args, part, out)
		}
	}
}

// changes -f shows each change of a real process once, while the process is killed and started again (B119).
func TestMvctlFollowsOverARestart(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	corefile := strings.NewReplacer("127.0.0.1:STATUS", "unix:DIR/socket", "example.org:0", "example.org:LISTEN").Replace(showing)
	first := s.run(t, corefile, 0)
	first.comesTo("www.example.org A", "11 12")
	var out, errs logbook.Book
	cmd := exec.Command(builtProgram(t, "mvctl"), "changes", "-f", "-o", "json", "--server", "unix:"+filepath.Join(s.dir, "socket"))
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	shows := func(want ...string) {
		t.Helper()
		s.eventually(func() bool { return strings.Join(changesIn(out.Since(0)), ", ") == strings.Join(want, ", ") },
			func() string { return fmt.Sprintf("%q, want %q\n%s", changesIn(out.Since(0)), want, errs.Since(0)) })
	}
	s.kill(12)
	shows("12 down")
	_ = first.cmd.Process.Kill()
	<-first.ended
	s.eventually(func() bool { return strings.Contains(errs.Since(0), "trying again") }, func() string { return "it does not say that the server is gone: " + errs.Since(0) })
	second := s.run(t, corefile, 0)
	second.comesTo("www.example.org A", "11")
	shows("12 down", "12 down") // the second is that of the new process, which found it so
	s.start(12)
	shows("12 down", "12 down", "12 up")
}

// changesIn are the changes in the output for programs, each as the last number of its address and its state.
func changesIn(text string) (all []string) {
	for line := range strings.Lines(text) {
		var c struct{ Address, To string }
		if json.Unmarshal([]byte(line), &c) == nil {
			host, _, _ := strings.Cut(c.Address, ":")
			all = append(all, host[strings.LastIndexByte(host, '.')+1:]+" "+c.To)
		}
	}
	return all
}
