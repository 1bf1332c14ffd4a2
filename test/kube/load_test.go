//go:build linux

package kube

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// load runs clients that ask without pause. The test fails if a query is lost, if an answer has no data, or if its
// judge rejects one.
type load struct {
	s        *scene
	name     string
	judge    func(sent time.Time, data []string) error
	answered atomic.Int64
	failed   atomic.Int64
	stop     func() // and waits for the last answer
}

// load starts asking for the IPv4 addresses of a name.
func (s *scene) load(clients int, name string, judge func(sent time.Time, data []string) error) *load {
	l := &load{s: s, name: s.full(name), judge: judge}
	var over atomic.Bool
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for !over.Load() {
				l.ask()
				time.Sleep(2 * time.Millisecond) // leaves the machine time for other work
			}
		})
	}
	l.stop = func() { over.Store(true); all.Wait() }
	s.Cleanup(l.stop)
	return l
}

func (l *load) ask() {
	sent := time.Now()
	reply, err := question{}.ask(l.name, "A")
	if err == nil {
		err = l.verdict(sent, reply)
	}
	if l.answered.Add(1); err != nil && l.failed.Add(1) <= 5 {
		l.s.Errorf("%s: %v", l.name, err)
	}
}

func (l *load) verdict(sent time.Time, reply *dns.Msg) error {
	if reply.Rcode != dns.RcodeSuccess || reply.Truncated || len(reply.Answer) == 0 {
		return fmt.Errorf("a bad answer: %s", reply.MsgHdr.String())
	}
	return l.judge(sent, data(reply.Answer))
}

// goesOn waits for n more answers.
func (l *load) goesOn(n int64) {
	l.s.Helper()
	before := l.answered.Load()
	l.s.eventually(2*patience, func() bool { return l.answered.Load() >= before+n }, func() string { return "queries are not answered" })
}

// ends stops the load, and logs its result.
func (l *load) ends() {
	l.s.Helper()
	l.stop()
	l.s.Logf("%d queries for %s, %d bad", l.answered.Load(), l.name, l.failed.Load())
	if l.answered.Load() < 100 || l.failed.Load() > 0 {
		l.s.Errorf("of %d queries for %s, %d were lost or had a bad answer", l.answered.Load(), l.name, l.failed.Load())
	}
}

// always returns a judge that requires these addresses in each answer.
func always(want ...string) func(time.Time, []string) error {
	return func(_ time.Time, data []string) error {
		for _, address := range want {
			if !slices.Contains(data, address) {
				return fmt.Errorf("%s is missing from %s", address, data)
			}
		}
		return nil
	}
}
