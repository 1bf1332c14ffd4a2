//go:build linux

package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Servers share a check only with those that ask the same question in the same way. Of five servers, the first three have one pace and
// the other two another, and the first two have a second check. With one vantage point, one of the servers that have a check asks it.
// What servers find by one check does not count for servers that do not have it (B104, B109).
func TestOnlyTheSameIsShared(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12, 13, 14)
	const more = "check http://:BACKEND/ header X-Server NUMBER\n check http://:BACKEND/more header X-Server NUMBER"
	for n := 1; n <= 5; n++ {
		edits := []string{"INNER", "vantage 1"}
		switch {
		case n <= 2:
			edits = append(edits, "CHECK", more)
		case n >= 4:
			edits = append(edits, "timeout 500ms", "timeout 400ms")
		}
		s.launch(n, edits...)
	}
	s.settle()
	s.probedBy(patience, "one of 1 and 2, one of 1 to 3, and one of 4 and 5", func(n int, _ []int) bool {
		of := make(map[string][]int)
		for _, v := range s.backends[n].visits(time.Now().Add(-window), time.Time{}) {
			group := v.path
			if v.path == "/" && v.by >= 4 {
				group = "the others'"
			}
			if !slices.Contains(of[group], v.by) {
				of[group] = append(of[group], v.by)
			}
		}
		return len(of) == 3 && len(of["/"]) == 1 && len(of["/more"]) == 1 && len(of["the others'"]) == 1
	})
	if who := s.paths("/more"); len(who) == 0 || who[len(who)-1] > 2 {
		t.Errorf("a check of 1 and 2 was asked by %v", who)
	}
	s.backends[14].fails(func(_ int, path string) bool { return path == "/more" })
	s.backends[13].fails(func(by int, _ string) bool { return by >= 4 })
	s.backends[12].fails(func(by int, path string) bool { return by <= 3 && path == "/" })
	for n, want := range map[int][]int{1: {11, 13}, 2: {11, 13}, 3: {11, 13, 14}, 4: {11, 12, 14}, 5: {11, 12, 14}} {
		s.servers[n].eventually(bound+slack, func() bool { return s.servers[n].has(want...) }, func() string {
			got, err := s.servers[n].ask()
			return fmt.Sprintf("server %d answers %v (%v), want %v", n, got, err, want)
		})
	}
}

// A program, and a check from an address of this host, are asked by each server for itself, and what one finds is not believed by the
// others. The log says so at the start (B109).
func TestOwnQuestionsAreNotShared(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12)
	script := filepath.Join(s.dir, "probe")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $PPID >>"+s.dir+"/asked\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	const checks = "check http://:BACKEND/ header X-Server NUMBER\n" +
		"check http://:BACKEND/from {\n header X-Server NUMBER\n from 127.0.0.1\n }\n" +
		"check exec://:BACKEND {\n command DIR/probe\n }"
	for n := 1; n <= 4; n++ {
		s.launch(n, "CHECK", checks, "INNER", "vantage 1")
	}
	s.settle()
	s.probedBy(patience, "one for all, and by each from its address", func(n int, _ []int) bool {
		of := make(map[string]map[int]bool)
		for _, v := range s.backends[n].visits(time.Now().Add(-window), time.Time{}) {
			if of[v.path] == nil {
				of[v.path] = make(map[int]bool)
			}
			of[v.path][v.by] = true
		}
		return len(of["/"]) == 1 && len(of["/from"]) == 4
	})
	asked, err := os.ReadFile(filepath.Join(s.dir, "asked"))
	processes := strings.Fields(string(asked))
	slices.Sort(processes)
	if processes = slices.Compact(processes); err != nil || len(processes) != 4 {
		t.Errorf("the program was run by %v, want 4 servers (%v)", processes, err)
	}
	for _, p := range s.live() {
		p.says("fleet does not share check", 2)
	}
	s.backends[12].fails(func(by int, path string) bool { return by == 3 && path == "/from" })
	s.servers[3].eventually(bound+slack, func() bool { return s.servers[3].has(11) }, func() string { return "server 3 does not find out" })
	s.passes(2 * interval)
	for _, n := range []int{1, 2, 4} {
		if !s.servers[n].has(11, 12) {
			t.Errorf("server %d believes what server 3 has found for itself", n)
		}
	}
}

// A server that cannot reach anything takes nothing out, not even where one vote is enough, and keeps nothing in: it marks its votes
// while others can be heard (B105, B107).
func TestIsolatedServerHasNoSay(t *testing.T) {
	for _, quorum := range []string{"100%", "18%"} {
		t.Run(quorum, func(t *testing.T) { t.Parallel(); testIsolated(t, quorum) })
	}
}

func testIsolated(t *testing.T, quorum string) {
	all := make([]int, 40)
	for i := range all {
		all[i] = 11 + i
	}
	s := fleetOf(t, 4, all, "INNER", "quorum "+quorum)
	l := s.load()
	lost := s.servingMost()
	first := all[0] // a target that it has a seat for
	for !slices.Contains(s.probers(window)[first], lost) {
		first++
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(n int) bool { return n == first })
	for _, b := range s.backends {
		b.fails(func(by int, _ string) bool { return by == lost })
	}
	p := s.servers[lost]
	p.eventually(bound+slack, func() bool { return p.metric("isolated", "") == 1 }, func() string { return "the server does not notice that it is cut off" })
	s.passes(2 * interval)
	l.expects(rest, nil)
	s.backends[first].turn(stalls)
	s.serves(bound+slack, rest...)
	l.expects(rest, []int{first})
	for _, b := range s.backends {
		b.fails(nil)
	}
	p.eventually(bound+slack, func() bool { return p.metric("isolated", "") == 0 }, func() string { return "the server stays cut off" })
	s.passes(2 * interval)
	l.end()
}
