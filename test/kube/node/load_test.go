//go:build linux

package node

import (
	"fmt"
	"strings"
	"time"
)

// load starts asking for the Service in the client Pod, without a pause, and waits until queries are answered.
func (s *scene) load() {
	s.Helper()
	s.page(s.client(), ":8080/load?server="+s.server+"&name="+s.service+".shop.svc.cluster.local")
	s.eventually(func() bool { return s.asked() > 100 }, func() string { return "no query is sent" })
}

func (s *scene) asked() (n int) {
	s.Helper()
	_, _ = fmt.Sscan(s.page(s.client(), ":8080/loaded"), &n)
	return n
}

// loaded ends the load. It checks that every query was answered, and returns the addresses in the answers.
func (s *scene) loaded() map[string]seen {
	s.Helper()
	report := s.page(s.client(), ":8080/loaded?end=yes")
	first, _, _ := strings.Cut(report, "\n")
	s.Logf("queries, failures, the first failure: %s", first)
	asked, failed := 0, 0
	if _, err := fmt.Sscan(report, &asked, &failed); err != nil || asked < 100 || failed > 0 {
		s.Errorf("of %d queries %d failed", asked, failed)
	}
	return parse(report)
}

// seen is how often an address was in an answer, and when the first and the last of these queries were sent.
type seen struct {
	count       int
	first, last time.Time
}

// answered returns the addresses in the answers so far, and forgets them on request.
func (s *scene) answered(forget bool) map[string]seen {
	s.Helper()
	page := ":8080/loaded"
	if forget {
		page += "?forget=yes"
	}
	return parse(s.page(s.client(), page))
}

func parse(report string) map[string]seen {
	all := make(map[string]seen)
	now := time.Now() // some milliseconds after the report
	for line := range strings.Lines(report) {
		var address string
		var it seen
		var first, last time.Duration
		if n, _ := fmt.Sscan(line, &address, &it.count, (*int64)(&first), (*int64)(&last)); n == 4 {
			it.first, it.last = now.Add(-first), now.Add(-last)
			all[address] = it
		}
	}
	return all
}
