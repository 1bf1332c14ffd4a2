package multivalue

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// story puts into words how an answer comes about. It decides nothing.
type story struct{ status.Explanation }

func (s *story) step(format string, args ...any) {
	s.Steps = append(s.Steps, fmt.Sprintf(format, args...))
}

// hear tells what the plugins below say, and whether that can be judged.
func (s *story) hear(said *said) bool {
	switch {
	case said.unfollowed():
		s.step("no query has come in yet: ask the server once, so that aliases can be followed")
		return false
	case said.msg == nil:
		s.step("the zone's plugins gave no answer that can be used: they failed, or it is truncated")
		return false
	}
	s.Rcode = dns.RcodeToString[said.msg.Rcode]
	s.step("the zone's plugins answer %s with %s", s.Rcode, text.Count(len(said.msg.Answer), "record"))
	for _, name := range slices.Sorted(maps.Keys(said.elsewhere)) {
		x := said.elsewhere[name]
		s.step("the server block %s judges %s %s; ask for that name", x.block, name, dns.TypeToString[x.qtype])
	}
	return true
}

// tell tells of one set.
func (s *story) tell(e *explainer, d decision, known map[verdict.Target]status.Target) {
	set := status.Set{
		Owner: d.Owner, Type: dns.TypeToString[d.Type], Outcome: d.Outcome.String(),
		Kept: d.Served, Total: len(d.Candidates), DryRun: d.DryRun, Members: []status.Member{},
	}
	set.Why = d.why(e)
	for i := range d.shown {
		set.Members = append(set.Members, d.member(i, known))
	}
	if set.More = len(d.Candidates) - len(d.shown); set.More > 0 {
		set.Why += fmt.Sprintf("; and %d more, which are not listed", set.More)
	}
	s.Sets = append(s.Sets, set)
	s.step("the outcome for %s %s is %s: %s", set.Owner, set.Type, set.Outcome, set.Why)
	if d.TTL != 0 && d.TTL < math.MaxUint32 && !d.DryRun {
		s.step("the TTL of %s %s is at most %d s: after that a verdict may have changed", set.Owner, set.Type, d.TTL)
	}
}

// close tells of the rest.
func (s *story) close(e *explainer) {
	switch {
	case e.thinned == nil:
		s.Rcode = dns.RcodeToString[dns.RcodeServerFailure]
		s.step("all_down asks for SERVFAIL")
		return
	case len(e.decisions) == 0 && e.reply.Rcode != dns.RcodeSuccess:
		s.step("that is no positive answer: it passes as it is")
	case len(e.decisions) == 0 && len(e.elsewhere) == 0:
		s.step("it has no set that the stanza judges: it passes as it is")
	}
	for _, rr := range e.thinned.Answer {
		if !e.ofOthers(rr.Header().Name) {
			s.Records = append(s.Records, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	words := text.Counted(len(s.Records), "record is", "records are") + " served"
	if len(e.elsewhere) > 0 {
		words += ", and what the other server block leaves"
	}
	s.step("%s", words)
}

// why is how a set came to its outcome.
func (d *decision) why(e *explainer) string {
	if d.DryRun && !d.Signed && !d.Alone {
		return d.reason(e) + "; but it is a dry run, and the set is served as it came"
	}
	return d.reason(e)
}

func (d *decision) reason(e *explainer) string {
	n := d.count()
	total := len(d.Candidates)
	switch {
	case d.Signed:
		return "a DNSSEC signature covers it, so that it stays whole"
	case d.Alone:
		return "it is one alone, which is served whatever its health is, and is not probed for this set"
	}
	switch d.Outcome {
	case answer.Whole:
		return n.text() + ", and served" + n.spare()
	case answer.Sample:
		return fmt.Sprintf("%s, and the limit is %d: %s", n.text(), d.Limit, d.drawn(e))
	case answer.Thinned:
		words := fmt.Sprintf("%s, and the %s left out", n.text(), text.Plural(n.primaries-n.fit, "other is", "others are"))
		if d.Limit > 0 && n.fit > d.Limit {
			words += fmt.Sprintf("; the limit is %d: %s", d.Limit, d.drawn(e))
		}
		return words + n.spare()
	case answer.Backup:
		return fmt.Sprintf("%s, and %s wanted (min_up): %s", n.text(), text.Counted(d.Need, "is", "are"), d.fillers())
	case answer.Open:
		n.fit, n.primaries = n.fit+n.backups+n.drained, total
		return fmt.Sprintf("%s, and %s wanted (min_up, all_down serve): health is disregarded", n.text(), text.Counted(d.Need, "is", "are"))
	case answer.Closed:
		return fmt.Sprintf("none of %d is up, and all_down says %s", total, allDown(d.stanza.rule.Policy))
	}
	return "nothing was judged"
}

// numbers are how many candidates are what.
type numbers struct {
	primaries, fit, backups, drained int
	unsure                           bool // of some that are fit it is only not known that they are down
}

// text says how many of the primaries are fit, in the words for what is measured.
func (n numbers) text() string {
	word := "up"
	if n.unsure {
		word = "not down"
	}
	return fmt.Sprintf("%d of %d %s %s", n.fit, n.primaries, text.Plural(n.fit, "is", "are"), word)
}

// spare says what is kept back.
func (n numbers) spare() string {
	words := ""
	if n.backups > 0 {
		words += fmt.Sprintf("; %s not needed", text.Counted(n.backups, "backup is", "backups are"))
	}
	if n.drained > 0 {
		words += fmt.Sprintf("; %s not needed", text.Counted(n.drained, "drained one is", "drained ones are"))
	}
	return words
}

func (d *decision) count() numbers {
	n := numbers{primaries: d.Primaries}
	for _, c := range d.Candidates {
		n.unsure = n.unsure || c.Verdict.State() == verdict.Unknown || c.Verdict.State() == verdict.Unchecked
		switch c.Tier.String() {
		case "primary":
			n.fit++
		case "backup":
			n.backups++
		case "drained":
			n.drained++
		}
	}
	return n
}

// drawn says who draws.
func (d *decision) drawn(e *explainer) string {
	if d.stanza.rule.Policy.Client {
		return fmt.Sprintf("the client's network, here %s, decides which are served", e.draw.Client.Masked())
	}
	return "each answer draws its own, of which this is one"
}

// fillers says what fills up.
func (d *decision) fillers() string {
	var words []string
	for _, tier := range []string{"backup", "drained"} {
		if slices.ContainsFunc(d.Candidates[:d.Served], func(c answer.Candidate) bool { return c.Tier.String() == tier }) {
			words = append(words, map[string]string{"backup": "backups", "drained": "drained ones"}[tier])
		}
	}
	return strings.Join(words, " and ") + " are served too"
}

func allDown(p answer.Policy) string {
	switch p.AllDown {
	case answer.NoData:
		return "nodata"
	case answer.ServFail:
		return "servfail"
	case answer.Fixed:
		var words []string
		for _, addr := range p.Instead {
			words = append(words, addr.String())
		}
		return strings.Join(words, " ")
	}
	return "serve"
}

// member tells of one candidate.
func (d *decision) member(i int, known map[verdict.Target]status.Target) status.Member {
	c, x := d.Candidates[i], &d.shown[i]
	m := status.Member{Within: x.within, More: x.more, Served: i < d.Served || d.DryRun, Tier: c.Tier.String(), State: c.Verdict.State().String(), Checks: []status.Asked{}}
	m.Member = c.Addr.String()
	if !c.Addr.IsValid() {
		m.Member = strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(c.Record.String(), c.Record.Header().String()), "\t", " "))
	}
	if d.stanza.forced != nil && c.Addr.IsValid() {
		m.Forced = d.stanza.forced.For(c.Addr).String()
	}
	for _, t := range x.targets {
		m.Checks = append(m.Checks, t.asked(known))
	}
	if d.Alone && c.Addr.IsValid() {
		m.State = peeking{d.stanza}.Look(d.Owner, c.Addr, 0, 0).State().String()
	}
	if m.Why = d.fate(c, &m); x.more > 0 {
		m.Why += fmt.Sprintf("; and %s not listed", text.Counted(x.more, "more address is", "more addresses are"))
	}
	return m
}

// asked tells what one check says.
func (t *seeded) asked(known map[verdict.Target]status.Target) status.Asked {
	a := status.Asked{Check: t.check.Name, Address: t.Addr, State: verdict.Unknown.String()}
	if w, ok := known[t.Target]; ok {
		a.Watched, a.State, a.Since, a.Reason, a.Streak, a.Needed = true, w.State, w.Since, w.Reason, w.Streak, w.Needed
	}
	return a
}

// fate says why a candidate is served or left out.
func (d *decision) fate(c answer.Candidate, m *status.Member) string {
	switch {
	case d.DryRun:
		return "dry run"
	case d.Alone:
		return "one alone"
	case c.Tier.String() == "unfit" && m.Served:
		return "served although it is down"
	case c.Tier.String() == "unfit":
		return blame(m)
	case m.Served && c.Tier.String() != "primary":
		return c.Tier.String() + ", needed"
	case !m.Served && c.Tier.String() != "primary":
		return c.Tier.String() + ", not needed"
	case !m.Served:
		return c.Verdict.State().String() + ", but not drawn"
	case c.Verdict.State() == verdict.Unknown:
		return unknown(m)
	case c.Verdict.State() == verdict.Unchecked && len(m.Checks) > 0:
		return "not watched, for there are as many targets as there may be (max_targets): served unchecked"
	case c.Verdict.State() == verdict.Unchecked && !m.Within && c.Addr.IsValid():
		return "outside of within, served unchecked"
	case c.Verdict.State() == verdict.Unchecked:
		return "not ours to judge"
	}
	return "up"
}

// blame says why a member is down.
func blame(m *status.Member) string {
	if m.Forced == "down" {
		return "forced down"
	}
	for _, a := range m.Checks {
		if a.State == m.State && a.Reason != "" {
			return a.Reason
		}
	}
	return "down"
}

// unknown says why nothing is known of an address.
func unknown(m *status.Member) string {
	if slices.ContainsFunc(m.Checks, func(a status.Asked) bool { return a.Watched }) {
		return "not decided yet, so it is served"
	}
	return "not watched yet, so it is served"
}
