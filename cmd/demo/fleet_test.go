package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// The demo starts itself for each member, which is the test here.
func TestMain(m *testing.M) {
	if corefile := os.Getenv(memberVariable); corefile != "" {
		if err := serveMember(corefile); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestDemoFleet(t *testing.T) {
	ports.Need(t, usual...)
	const twice = `of 127\.0\.0\.1[12]:\d+ .*= [12]\.\d an interval of 1s\n`
	out := checkScene(t, runFleet, usual, "Two web servers", "vantage 2\n", `\$ dig .short @127.0.0.1`, "dns3: 127.0.0.11  127.0.0.12\n", twice, twice,
		"is probed by 2 of the 3", `Killing dns[123] `, twice, twice, "taken over", "Stopping the web server on 127.0.0.12",
		`dns[123]: 127.0.0.11   dns[123]: 127.0.0.11\n`, "gone from the answers", "logs: .* 127.0.0.12:.* is down: ",
		"Starting", "back in the answers", " is up: ")
	checkNothingRuns(t, out)
}

// An interrupt ends all members. Here the web servers share an address, as on macOS.
func TestDemoFleetInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := script{cue: "Killing", then: cancel}
	if err := runFleet(ctx, &out, options{hosts: lacking}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "types SRV") {
		t.Errorf("no SRV records:\n%s", &out)
	}
	checkNothingRuns(t, out.String())
}

// checkNothingRuns checks that the ports of all members are free again.
func checkNothingRuns(t *testing.T, out string) {
	t.Helper()
	line := regexp.MustCompile(`fleet( 127\.0\.0\.1:\d+){3}`).FindString(out)
	if line == "" {
		t.Fatal("the demo did not say the ports of its members")
	}
	for _, at := range strings.Fields(line)[1:] {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Errorf("a member still runs: %v", err)
			continue
		}
		l.Close()
	}
}

// A member ends when its standard input does, which is when the demo has died.
func TestMemberEndsWithTheDemo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte("example.org:0 {\n    bind 127.0.0.1\n    errors\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := startMember("dns1", path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.kill()
	_ = m.in.Close()
	select {
	case <-m.ended:
	case <-time.After(answerTimeout):
		t.Error("it still runs")
	}
}

// A member that does not start says why.
func TestMemberWithAMistake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte("example.org:0 {\n    bined 127.0.0.1\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := startMember("dns1", path); err == nil || !strings.Contains(err.Error(), "bined") {
		if err == nil {
			m.kill()
		}
		t.Errorf("%v", err)
	}
}

// Probes are shared if each web server has those of two members, at their pace, and no others.
func TestIsShared(t *testing.T) {
	f := new(fleet)
	for _, c := range []struct {
		probes map[string]int
		want   bool
	}{
		{map[string]int{"dns1": 4, "dns2": 5}, true},
		{map[string]int{"dns1": 4}, false},
		{map[string]int{"dns1": 4, "dns2": 2}, false},
		{map[string]int{"dns1": 4, "dns2": 9}, false},
		{map[string]int{"dns1": 4, "dns2": 4, "dns3": 1}, false},
		{nil, false},
	} {
		good := map[string]int{"dns1": 4, "dns3": 4}
		if got := f.isShared(window{lasts: countFor + time.Millisecond, webs: []map[string]int{good, c.probes}}); got != c.want {
			t.Errorf("%v: %t", c.probes, got)
		}
	}
}
