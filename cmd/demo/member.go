package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

const (
	// memberVariable is an environment variable with the path of a Corefile. This program is then a CoreDNS of the fleet, and
	// nothing else: a process is one member, so the demo starts itself once for each.
	memberVariable = "MULTIVALUE_DEMO_MEMBER"
	// startTimeout is how long a member may take until it answers queries.
	startTimeout = 30 * time.Second
	// keptLines is how many lines of its log the demo keeps of a member.
	keptLines = 1000
)

// member is a CoreDNS of the fleet, in a process of its own.
type member struct {
	name    string // dns1, dns2 and so on
	dns     string // address and port of the DNS server
	process *exec.Cmd
	in      io.Closer     // its end ends the process
	ended   chan struct{} // closed when the process has ended, and all of its log is read

	mu    sync.Mutex
	lines []string // of its log
}

// startMember starts a member with a Corefile, and returns when it answers queries.
func startMember(name, corefile string) (*member, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &member{name: name, process: exec.Command(program), ended: make(chan struct{})}
	// The three pipes are: in, whose end is the sign to end; out, which has one line, the address; and the log.
	m.process.Env = append(os.Environ(), memberVariable+"="+corefile)
	if m.in, err = m.process.StdinPipe(); err != nil {
		return nil, err
	}
	log, err := m.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	said, err := m.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.process.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go m.hear(said, log, address)
	select {
	case m.dns = <-address:
	case <-time.After(startTimeout):
	}
	// It is empty if the time was over, or if the process has ended without a word. kill waits for the rest of the log.
	if m.dns == "" {
		m.kill()
		return nil, fmt.Errorf("%s does not start: its log is %q", name, m.log())
	}
	return m, nil
}

// hear reads what the process says until it ends: the address of its DNS server, and its log.
func (m *member) hear(said, log io.Reader, address chan<- string) {
	defer close(m.ended)
	var reading sync.WaitGroup
	reading.Add(1)
	go func() {
		defer reading.Done()
		line, _ := bufio.NewReader(said).ReadString('\n')
		address <- strings.TrimSpace(line)
	}()
	for in := bufio.NewScanner(log); in.Scan(); {
		m.mu.Lock()
		if len(m.lines) < keptLines {
			m.lines = append(m.lines, in.Text())
		}
		m.mu.Unlock()
	}
	reading.Wait()
	_ = m.process.Wait()
}

// log returns the lines that the member has logged so far.
func (m *member) log() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lines[:len(m.lines):len(m.lines)]
}

// kill ends the process without a warning, as the kernel does if memory runs out, and waits for its end. A member that has ended
// stays so.
func (m *member) kill() {
	_ = m.process.Process.Kill()
	_ = m.in.Close()
	<-m.ended
}

// serveMember is the main function of a member. It writes the address of its DNS server, and serves until its standard input
// ends: so no member outlives the demo, not even one that was killed or has panicked.
func serveMember(corefile string) error {
	multivalue.LinkFleet(gossip.Open)
	text, err := os.ReadFile(corefile)
	if err != nil {
		return err
	}
	instance, err := startCoreDNS(string(text))
	if err != nil {
		return err
	}
	// The Corefile may have port 0, so only this process knows the port. The demo waits for this line.
	fmt.Println(instance.Servers()[0].LocalAddr())
	_, err = io.Copy(io.Discard, os.Stdin)
	instance.ShutdownCallbacks()
	return errors.Join(err, instance.Stop())
}

// startCoreDNS starts CoreDNS in this process, with only the plugins that the demo needs, so that it is quick to build.
func startCoreDNS(corefile string) (*caddy.Instance, error) {
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives([]string{"bind", "errors", "multivalue", "file"}); err != nil {
		return nil, err
	}
	return caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
}
