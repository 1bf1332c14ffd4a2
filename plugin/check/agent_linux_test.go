package check_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// agentTalks are lines that an agent says one after the other. Each is said until HAProxy has heard it.
var agentTalks = [][]string{
	{"down", "up"},
	{"down", "50%", "up"},
	{"down #a", "ready", "up"},
	{"stopped", "drain", "up", "ready"},
	{"maint", "up", "down", "ready", "up"},
	{"maint", "drain", "ready"},
	{"maint", "", "50%", "ready"},
	{"drain", "50%", "up", "ready 100%"},
	{"0%", "up", "ready", "10%"},
	{"50%", "", "hello", "50%x", "down", "up"},
	{"fail 30%", "up"},
	{"maint 0%", "ready", "20%"},
}

// An agentScript is what HAProxy and we hear from one agent, and what we believe after it.
type agentScript struct {
	lines   []string
	at      atomic.Int32 // the line that is said now
	heard   atomic.Int32 // connections since that is so
	addr    netip.AddrPort
	machine verdict.Machine
}

// HAProxy and we believe the same after each line of an agent and each sequence of lines, except that a weight over 100 %
// counts as 100 here (B100).
func TestAgentAsHAProxy(t *testing.T) {
	t.Parallel()
	var scripts []*agentScript
	for _, tc := range agentLines {
		scripts = append(scripts, &agentScript{lines: []string{tc.line}})
	}
	for _, lines := range agentTalks {
		scripts = append(scripts, &agentScript{lines: lines})
	}
	s := newServer(t)
	config := "global\n    stats socket DIR/stats.sock mode 666\ndefaults\n    mode tcp\n    timeout connect 10s\n    timeout server 10s\n    timeout client 10s\n"
	for i, a := range scripts {
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			line := a.lines[a.at.Load()]
			a.heard.Add(1)
			fmt.Fprint(conn, line+"\n")
			hold(conn)
		})
		a.addr = p.addr
		config += fmt.Sprintf("backend b%d\n    server s 127.0.0.1:1 weight 100 agent-check agent-addr 127.0.0.1 agent-port %s agent-inter 50ms\n", i, port(a.addr))
	}
	s.file("config", strings.ReplaceAll(config, "DIR", s.dir))
	s.start("haproxy", "-db", "-f", "DIR/config")
	for step := range 5 {
		for _, a := range scripts {
			if step < len(a.lines) {
				a.at.Store(int32(step))
				a.heard.Store(0)
			}
		}
		for i, a := range scripts {
			// The line of the first connection may be the one before; when the third comes, the second was heard.
			if !wait(func() bool { return a.heard.Load() > 2 }) {
				t.Fatalf("HAProxy does not ask the agent of b%d; log:\n%s", i, s.log.String())
			}
		}
		states := haproxyStates(t, filepath.Join(s.dir, "stats.sock"))
		for i, a := range scripts {
			if step >= len(a.lines) {
				continue
			}
			r, _ := ask(mustNew(t, "agent://:1"), a.addr)
			v, _ := a.machine.Hear(verdict.Pace{Interval: time.Second, Fast: time.Second, Rise: 1, Fall: 1}, r, time.Unix(1e9, 0))
			got, want := describeVerdict(v), states[fmt.Sprint("b", i)]
			if r.OddKind == report.OddExcess {
				want = "up 100%"
			}
			if got != want {
				t.Errorf("after %q: %s, and HAProxy has %s", a.lines[:step+1], got, want)
			}
		}
	}
}

// describeVerdict is what is believed, in the words of haproxyStates.
func describeVerdict(v verdict.Verdict) string {
	switch {
	case v.State == verdict.Down:
		return "out"
	case v.Said.Drains():
		return fmt.Sprintf("drained %d%%", v.Said.Weight())
	}
	return fmt.Sprintf("up %d%%", v.Said.Weight())
}

// haproxyStates asks HAProxy for the states of the servers, by their backends ("show servers state" in its management guide,
// 9.3).
func haproxyStates(t *testing.T, socket string) map[string]string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "show servers state\n")
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	const maint, drain = 0x01 | 0x02 | 0x04 | 0x20, 0x08 | 0x10 // bits of srv_admin_state
	states := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] == "#" {
			continue
		}
		admin, err := strconv.Atoi(f[6])
		if err != nil {
			t.Fatal(line)
		}
		switch state, weight := f[5], f[7]; {
		case state == "0" || admin&maint != 0:
			states[f[1]] = "out"
		case admin&drain != 0 || weight == "0":
			states[f[1]] = "drained " + weight + "%"
		default:
			states[f[1]] = "up " + weight + "%"
		}
	}
	return states
}
