package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/signals"
)

// built has the complete program, and mvctl. They are built once, for all tests that need them.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	return builtProgram(t, "coredns")
}

// builtProgram is the path of one of the programs that are built.
func builtProgram(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "multivalue"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir, "../cmd/coredns", "../cmd/mvctl").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

// process is the complete program, run as a process of its own.
type process struct {
	*server
	cmd    *exec.Cmd
	output logbook.Book
	ended  chan struct{}
}

// run starts the program with the Corefile and waits until it answers queries and handles signals. A limit other than
// 0 is its limit of file descriptors. In the Corefile, LISTEN is the port to listen on.
func (s *scene) run(t *testing.T, corefile string, descriptors int) *process {
	t.Helper()
	port := freePort(t)
	addr := net.JoinHostPort("127.0.0.1", port)
	p := &process{server: &server{scene: s, addr: addr, tcp: addr}, ended: make(chan struct{})}
	p.edit(strings.ReplaceAll(corefile, "LISTEN", port))
	p.cmd = signals.Command(program(t), "-conf", filepath.Join(s.dir, "Corefile"))
	if descriptors > 0 {
		p.cmd = signals.Command("sh", "-c", fmt.Sprintf("ulimit -n %d; exec \"$@\"", descriptors), "sh", program(t), "-conf", filepath.Join(s.dir, "Corefile"))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	p.logs("CoreDNS-")
	p.eventually(func() bool { return signals.Trapped(p.cmd.Process.Pid) }, func() string { return "the program does not handle signals" })
	return p
}

// edit replaces the Corefile.
func (p *process) edit(corefile string) {
	p.Helper()
	_, port, _ := net.SplitHostPort(p.addr)
	p.file("Corefile", strings.ReplaceAll(corefile, "LISTEN", port))
}

// logs waits until the output contains the text.
func (p *process) logs(text string) {
	p.Helper()
	p.logsAgain(text, 1)
}

// logsAgain waits until the output contains the text that many times.
func (p *process) logsAgain(text string, n int) {
	p.Helper()
	p.eventually(func() bool { return strings.Count(p.output.Since(0), text) >= n },
		func() string { return fmt.Sprintf("the output lacks %q:\n%s", text, p.output.Since(0)) })
}

const listening = `
example.org:LISTEN {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
    }
}`

// runCalm runs the program with one backend down, and waits until the program knows it.
func runCalm(t *testing.T, corefile string) *process {
	t.Helper()
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	p := s.run(t, corefile, 0)
	p.comesTo("www.example.org A", "11 13")
	return p
}

// The program prints its versions, and lists multivalue among its plugins.
func TestProgramSaysWhatItIs(t *testing.T) {
	version, err := exec.Command(program(t), "-version").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CoreDNS-1.", "multivalue-" + multivalue.Version} {
		if !strings.Contains(string(version), want) {
			t.Errorf("-version lacks %s: %s", want, version)
		}
	}
	plugins, err := exec.Command(program(t), "-plugins").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(plugins), "\nmultivalue\n") {
		t.Errorf("-plugins lacks multivalue: %s", plugins)
	}
}

// The reload plugin finds an edited Corefile by itself, and the verdicts are kept (B69, T38).
func TestReloadPluginKeepsVerdicts(t *testing.T) {
	withReload := strings.Replace(listening, "bind", "reload 2s 1s\n bind", 1)
	p := runCalm(t, withReload)
	p.edit(strings.Replace(withReload, "CALM", "CALM\n limit 5", 1))
	p.logs("Reloading complete")
	if got := members(p.ask("www.example.org A")); got != "11 13" {
		t.Errorf("after the edit, the answer has %q, want 11 13", got)
	}
	if n := strings.Count(p.output.Since(0), "plugin/multivalue: version "+multivalue.Version+"\n"); n != 1 {
		t.Errorf("the version is in the log %d times, want once, also with a reload", n)
	}
}
