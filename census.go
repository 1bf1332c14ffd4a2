package multivalue

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// censusTakes is how long readiness waits for the first verdicts on watched names.
const censusTakes = 5 * time.Second

// census follows the watched names of a block until each address of theirs has a verdict.
type census struct {
	over     atomic.Bool
	deadline atomic.Pointer[time.Time] // monotonic, for clocks are set when machines start; nil before the start

	// The rest is the learner's.
	missing map[question]bool     // not answered yet
	answers map[question]*dns.Msg // the last to each question
}

func newCensus(questions []question) *census {
	c := &census{missing: make(map[question]bool), answers: make(map[question]*dns.Msg)}
	for _, q := range questions {
		c.missing[q] = true
	}
	return c
}

// begin sets the deadline. Until then nobody waits.
func (c *census) begin(now time.Time) {
	deadline := now.Add(censusTakes)
	c.deadline.Store(&deadline)
}

func (c *census) end() { c.over.Store(true) }

// waiting reports whether verdicts are missing that may still be waited for.
func (c *census) waiting() bool { return c != nil && !c.over.Load() }

// holds reports whether readiness has to wait at this instant.
func (c *census) holds(now time.Time) bool { return c.waiting() && !c.due(now) }

// due reports whether the time is up. It is before the start.
func (c *census) due(now time.Time) bool {
	deadline := c.deadline.Load()
	return deadline == nil || !now.Before(*deadline)
}

// took takes note of the answer to a question, nil if there was none, and teaches the pool the addresses in it.
func (c *census) took(l *learner, q question, m *dns.Msg) {
	if m != nil {
		l.teach(m)
		if !c.over.Load() {
			c.answers[q] = m
		}
	}
	delete(c.missing, q)
}

// look ends the census if nothing is unknown any more, or time is up.
func (c *census) look(l *learner) {
	if c.over.Load() {
		return
	}
	unknown := len(c.missing)
	for _, m := range c.answers {
		unknown += l.teach(m)
	}
	if unknown == 0 || c.due(time.Now()) {
		c.end()
		clear(c.answers)
	}
}

// teach hands the addresses in an answer to the pool, and returns how many of them have no verdict yet.
func (l *learner) teach(m *dns.Msg) int {
	if len(m.Question) != 1 {
		return 0
	}
	z := l.block.zones.find(m.Question[0].Name)
	if z == nil || z.stanza == nil {
		return 0
	}
	s := &survey{exchange: exchange{ResponseWriter: new(inquirer), block: l.block, zone: z, request: m, quiet: true}}
	answer.Thin(m, s, &answer.Draw{IntN: rand.IntN})
	return s.unknown
}

// survey judges an answer of which nothing goes out, and counts the addresses without a verdict.
type survey struct {
	exchange
	unknown int
}

// Rule is the exchange's, with a health that counts.
func (s *survey) Rule(owner string) *answer.Rule {
	rule := s.exchange.Rule(owner)
	if rule == nil {
		return nil
	}
	return &answer.Rule{Types: rule.Types, Policy: rule.Policy, Health: counting{rule.Health, &s.unknown}}
}

type counting struct {
	answer.Health
	unknown *int
}

// Look is the stanza's.
func (c counting) Look(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	v := c.Health.Look(owner, addr, port, ttl)
	if v.State() == verdict.Unknown {
		*c.unknown++
	}
	return v
}
