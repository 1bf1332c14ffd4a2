package browser

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
)

// The commands in the manual work as described.
func TestManualCommands(t *testing.T) {
	for _, program := range []string{"bash", "curl", "jq"} {
		need(t, program)
	}
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") == "127.0.0.11" })
	wants := []string{`"down": 1`, "127.0.0.12:", "www.example.org. A is filtered", "127.0.0.11\n", "true", "127.0.0.12:", ": 8, default\n", "0 transitions, 0 s"}
	lines := f.commands()
	if len(lines) != len(wants)+1 {
		t.Fatalf("%d commands: %q", len(lines), lines)
	}
	for i, want := range wants {
		out, err := exec.Command("bash", "-o", "pipefail", "-c", lines[i]).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %q:\n%s", lines[i], err, want, out)
		}
	}
	f.follows(lines[len(wants)])
	f.kill(11)
	failing := lines[4]
	f.eventually("health is disregarded", func() bool { return f.ask("www.example.org") != "127.0.0.11" })
	if exec.Command("bash", "-o", "pipefail", "-c", failing).Run() == nil {
		t.Error("the script does not fail when health is disregarded")
	}
}

// follows runs the command that never ends, until it has reported a change.
func (f *farm) follows(command string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out logbook.Book
	c := exec.CommandContext(ctx, "bash", "-c", command)
	c.Stdout = &out
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		f.Fatal(err)
	}
	running := true
	for running && !strings.Contains(out.String(), `"to":"up"`) {
		f.start(12)
		f.eventually("it is up", func() bool { return f.count("state=up") == 2 })
		f.kill(12)
		f.eventually("it is down", func() bool { return f.count("state=down") == 1 })
		running = ctx.Err() == nil
	}
	if !strings.Contains(out.String(), "event: change") {
		f.Errorf("%s prints %s", command, out.String())
	}
	cancel()
	_ = c.Wait()
}

// commands returns the commands of the section on the status, for this server.
func (f *farm) commands() (lines []string) {
	f.Helper()
	text, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		f.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n## JSON\n"))
	_, text, _ = bytes.Cut(text, []byte("\n~~~ sh\n"))
	text, _, _ = bytes.Cut(text, []byte("\n~~~\n"))
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.ReplaceAll(strings.TrimSpace(line), "localhost:9253", f.status))
		}
	}
	return lines
}
