//go:build linux

package kube

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
)

// process is a program that runs during the test, with its output.
type process struct {
	*exec.Cmd
	output logbook
	ended  chan struct{}
}

func newProcess(name string, args ...string) *process {
	p := &process{Cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.output, &p.output
	return p
}

func (p *process) start() error {
	if err := p.Start(); err != nil {
		close(p.ended)
		return err
	}
	go func() {
		defer close(p.ended)
		_ = p.Wait()
	}()
	return nil
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends the process at once, if it has not ended, and waits for that.
func (p *process) kill() {
	_ = p.Process.Signal(os.Kill)
	<-p.ended
}

// logbook collects the output of a program.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count returns how often the expression matches in the log.
func (l *logbook) count(expression string) int {
	return len(regexp.MustCompile("(?m)"+expression).FindAllString(l.String(), -1))
}
