package inspect

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

// sentences puts into words how an answer comes about, for people. It decides nothing: each sentence says what the code that
// answers queries has decided. Outcomes are named by the words that operators search for; the values in JSON do not change.
type sentences struct{ status.Explanation }

// step adds a sentence to the steps.
func (s *sentences) step(format string, args ...any) {
	s.Steps = append(s.Steps, fmt.Sprintf(format, args...))
}

// addAnswer says what the plugins below answer, and reports whether that can be judged.
func (s *sentences) addAnswer(below *belowAnswer) bool {
	switch {
	case below.unfollowed():
		s.step("no query has arrived yet, so aliases cannot be followed: ask the server once")
		return false
	case below.msg == nil:
		s.step("the plugins that serve the zone gave no usable answer: they failed, or it is truncated")
		return false
	}
	s.Rcode = dns.RcodeToString[below.msg.Rcode]
	s.step("the plugins that serve the zone answer %s with %s", s.Rcode, text.Count(len(below.msg.Answer), "record"))
	for _, name := range slices.Sorted(maps.Keys(below.elsewhere)) {
		x := below.elsewhere[name]
		s.step("the server block %s judges %s %s; ask for that name", x.Block, name, dns.TypeToString[x.Type])
	}
	return true
}

// addSet says how one set was decided.
func (s *sentences) addSet(e *explainer, d decision, known map[verdict.Target]status.Target) {
	set := status.Set{
		Owner: d.Owner, Type: dns.TypeToString[d.Type], Outcome: d.Outcome.String(), Checked: d.Checked(), Health: d.health().String(),
		Kept: d.Served, Total: len(d.Candidates) + d.Unjudged, DryRun: d.DryRun, Members: []status.Member{},
	}
	set.Sites, set.Policy = d.sites(), d.policy()
	set.Why = d.explain(e) + siteText(set.Sites)
	if d.Instead.Served > 0 && !d.DryRun {
		set.Fallback = d.Instead.Name
	}
	if d.Unjudged > 0 {
		words := "left out"
		if d.Limit == 0 {
			words, set.Kept = "served after them", d.Served+d.Unjudged
		}
		set.Why += fmt.Sprintf("; %d after the first %d are not judged, and %s", d.Unjudged, len(d.Candidates), words)
	}
	if d.DryRun { // whatever was decided, all are served
		set.Kept = set.Total
	}
	for i := range d.members {
		set.Members = append(set.Members, d.member(i, known))
	}
	label := status.OutcomeOf(set.Outcome, set.Checked, set.Health, set.DryRun).Label
	if d.Alone && len(set.Members) == 1 && d.isKnown() { // another set has it checked, or a file forces it
		set.Why = "it is " + set.Members[0].Why
	}
	if set.More = set.Total - len(d.members); set.More > 0 {
		set.Why += fmt.Sprintf("; and %d more, not listed", set.More)
	}
	s.Sets = append(s.Sets, set)
	s.step("%s %s is %s: %s", set.Owner, set.Type, label, set.Why)
	s.addVotes(&set)
	s.addOthers(&set, &d)
	if d.TTL != 0 && d.TTL < math.MaxUint32 && !d.DryRun && e.thinned != nil { // SERVFAIL has none
		s.step("the TTL of %s %s is at most %d s, because a verdict may change after that", set.Owner, set.Type, d.TTL)
	}
}

// finish says what goes out.
func (s *sentences) finish(e *explainer) {
	s.Message = e.message()
	switch {
	case e.thinned == nil:
		s.Rcode = dns.RcodeToString[dns.RcodeServerFailure]
		s.step("the answer is SERVFAIL (all_down)")
		return
	case len(e.decisions) == 0 && e.reply.Rcode != dns.RcodeSuccess:
		s.step("the answer is negative, and passes unchanged")
	case len(e.decisions) == 0 && len(e.elsewhere) == 0:
		s.step("the answer has no set that the stanza judges, and passes unchanged")
	}
	for _, rr := range e.thinned.Answer {
		if !e.judgedElsewhere(rr.Header().Name) {
			s.Records = append(s.Records, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	words := text.Counted(len(s.Records), "record is", "records are") + " served"
	if len(e.elsewhere) > 0 {
		words += ", besides those of the other server block"
	}
	s.step("%s", words)
}

// explain says why a set has its outcome, in a sentence that begins with the numbers it was decided by.
func (d *decision) explain(e *explainer) string {
	words := d.reason(e)
	if d.Ordered && d.Served > 1 {
		words += "; their order is drawn by " + d.drawnBy(e)
	}
	if d.DryRun && !d.Signed && !d.Alone {
		words += "; but this is a dry run, so the set is served unchanged"
	}
	return words
}

// drawnBy says what draws the order of an answer, in the words of the Corefile. A client that is not known leaves the draw to
// chance, if anything else draws at all.
func (d *decision) drawnBy(e *explainer) string {
	words := slices.DeleteFunc(d.stanza.Rule.Policy.DrawnBy(), func(word string) bool { return strings.HasPrefix(word, "select") })
	if d.stanza.Rule.Policy.Client && e.Draw.Client.IsValid() { // otherwise the rest of the words draw
		words = slices.Insert(words, 0, fmt.Sprintf("the client's network, here %s", e.Draw.Client.Masked()))
	}
	return strings.Join(words, " and ")
}

// reason is explain without regard to a dry run. The order of the cases is that of the decision.
func (d *decision) reason(e *explainer) string {
	n := d.count()
	total := len(d.Candidates)
	switch {
	case d.Signed: // before anything else, because nothing else was looked at
		return "a DNSSEC signature covers it, so it stays whole"
	case d.Alone: // health could not change the answer, so it was not asked
		return "it is the only address of the set, which is served whatever its health is, and not probed because of this set"
	}
	switch d.Outcome {
	case answer.Whole:
		if n.allDrained { // the words say that all are served
			return n.text() + n.spare()
		}
		return n.text() + ", and all are served" + n.spare()
	case answer.Sample:
		if d.BySite {
			return n.text() + ", and " + d.nearestReason()
		}
		return fmt.Sprintf("%s, and the limit is %d: %s", n.text(), d.Limit, d.drawReason(e))
	case answer.Thinned:
		words := fmt.Sprintf("%s, and the %s left out", n.text(), text.Plural(n.primaries-n.fit, "other is", "others are"))
		if d.Limit > 0 && n.fit > d.Limit { // what is left was sampled as well
			words += fmt.Sprintf("; the limit is %d: %s", d.Limit, d.drawReason(e))
		}
		return words + n.spare()
	case answer.Backup:
		return fmt.Sprintf("%s, and min_up asks for %d: %s", n.text(), d.Need, d.fillReason())
	case answer.Open: // all tiers count, because all of them were served from
		n.fit, n.primaries = n.fit+n.backups+n.drained, total
		if n.fit > 0 { // then all_down was not asked
			return fmt.Sprintf("%s, and min_up asks for %d, so those that are down are served too", n.text(), d.Need)
		}
		return fmt.Sprintf("%s, and min_up asks for %d: health is disregarded (%s)", n.text(), d.Need, d.openBecause())
	case answer.Closed:
		return fmt.Sprintf("none of %d is up, and all_down is %s", total, d.stanza.Rule.Policy.AllDownText()) + d.takenOver() + d.insteadText()
	}
	return "nothing was judged"
}

// numbers counts the candidates of a set.
type numbers struct {
	primaries, fit, backups, drained int
	unsure                           bool // some that count as fit have no verdict
	allDrained                       bool // so none counts as drained
}

// text says how many of the primaries are fit: up, or not known to be down.
func (n numbers) text() string {
	if n.allDrained {
		return fmt.Sprintf("all %d are drained, so they are served as if none was", n.fit+n.backups)
	}
	word := "up"
	if n.unsure {
		word = "not down"
	}
	return fmt.Sprintf("%d of %d %s %s", n.fit, n.primaries, text.Plural(n.fit, "is", "are"), word)
}

// spare says which others are not needed.
func (n numbers) spare() string {
	words := ""
	if n.backups > 0 {
		words += fmt.Sprintf("; %s not needed", text.Counted(n.backups, "backup is", "backups are"))
	}
	if n.drained > 0 {
		words += fmt.Sprintf("; %s not needed", text.Counted(n.drained, "drained address is", "drained addresses are"))
	}
	return words
}

// count counts the candidates by tier. Those that are unfit are in none.
func (d *decision) count() numbers {
	n := numbers{primaries: d.Primaries, allDrained: len(d.Candidates) > 0}
	for _, c := range d.Candidates {
		n.allDrained = n.allDrained && c.Verdict.Drained()
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

// drawReason says what decides which addresses are served.
func (d *decision) drawReason(e *explainer) string {
	if d.stanza.Rule.Policy.Client {
		return fmt.Sprintf("the client's network, here %s, decides which are served", e.Draw.Client.Masked())
	}
	return "each answer draws its own sample, and this is one"
}

// fillReason says what fills up the answer.
func (d *decision) fillReason() string {
	var words []string
	for _, c := range d.Candidates[:d.Served] { // in the order in which they fill up
		word := ""
		switch c.Tier.String() {
		case "backup":
			word = "backups" + d.ofRank(c.Tier.Rank())
		case "drained":
			word = "drained addresses"
		}
		if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, " and ") + " are served too"
}

// tierName names the tier of a member, which is fit.
func (d *decision) tierName(m *status.Member) string {
	if m.Rank > 0 {
		return m.Tier + d.ofRank(m.Rank)
	}
	return m.Tier
}

// ofRank is the rank of backups in words; none if the stanza has no backups of another one.
func (d *decision) ofRank(rank int) string {
	for _, other := range d.stanza.Rule.Policy.Backup {
		if int(other.Rank) != rank {
			return fmt.Sprintf(" of rank %d", rank)
		}
	}
	return "" // most stanzas have backups of one rank, and it need not be said
}
