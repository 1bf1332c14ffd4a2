package inspect

import (
	"fmt"
	"slices"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/miekg/dns"
)

// Here is what the two numbers that bound an answer mean for one set, in words. A reader who sees limit 8 and three addresses wants
// to know whether it matters, and one who sees min_up 2 how far away that is.

// policy says how many members of a set are served, and what limit and min_up mean for it. Nothing was decided about a set that is
// signed, or that has one address.
func (d *decision) policy() status.Policy {
	if d.Signed || d.Alone {
		return status.Policy{}
	}
	// Limit is the one in force: records that name hosts have none, whatever the stanza says.
	p := status.Policy{Limit: d.Limit, MinUp: d.Need, Primaries: d.Primaries, Fit: d.count().fit}
	if d.Outcome != answer.Closed { // nothing of the set is served, so neither number has a meaning
		p.Meaning = slices.DeleteFunc([]string{d.limitMeaning(&p), d.minUpMeaning(&p)}, func(words string) bool { return words == "" })
	}
	return p
}

// limitMeaning says what the limit does to this set; nothing if none is up and it leaves none out.
func (d *decision) limitMeaning(p *status.Policy) string {
	isAddress := d.Type == dns.TypeA || d.Type == dns.TypeAAAA
	// The order matters: what does not apply is not worth a number.
	switch limit := d.stanza.Rule.Policy.Limit; {
	case limit > 0 && !isAddress:
		return fmt.Sprintf("limit %d does not apply to %s records: clients need all of them", limit, dns.TypeToString[d.Type])
	case limit == 0:
		return "limit off: an answer has all members that are up"
	case p.Fit > limit: // those without a verdict count: they are served
		return fmt.Sprintf("limit %d: %d are up or not known to be down, so each answer has %d of them", limit, p.Fit, limit)
	case p.Fit == 0 && len(d.Candidates) > limit:
		return fmt.Sprintf("limit %d: an answer has %d of those that are down", limit, d.Served)
	case p.Fit == 0:
		return ""
	default:
		return fmt.Sprintf("limit %d: it leaves none out, because %s up or not known to be down", limit, text.Counted(p.Fit, "is", "are"))
	}
}

// minUpMeaning says how far the set is from serving others than its primaries.
func (d *decision) minUpMeaning(p *status.Policy) string {
	// A share, or a count that the set or the limit makes smaller, is told as what it comes to.
	words := fmt.Sprintf("min_up %s", d.stanza.Rule.Policy.MinUp)
	if d.stanza.Rule.Policy.MinUp.Percent > 0 || d.stanza.Rule.Policy.MinUp.Count != d.Need {
		words += fmt.Sprintf(", here %d of %d", d.Need, p.Primaries)
	}
	// What has happened already is told by what it did, and not by what might come.
	others := d.others()
	switch spare := p.Fit - d.Need; {
	case spare < 0 && d.Outcome == answer.Backup: // then the outcome says so, too
		return fmt.Sprintf("%s: fewer are up (%d), so %s", words, p.Fit, d.fillReason())
	case spare < 0:
		return fmt.Sprintf("%s: fewer are up (%d), so those that are down are served too", words, p.Fit)
	case spare == 0:
		return fmt.Sprintf("%s: if one more goes down, %s", words, others)
	default:
		return fmt.Sprintf("%s: %d more may go down before %s", words, spare, others)
	}
}

// others says what an answer has besides its primaries if too few of those are up. The order is that in which they fill up.
func (d *decision) others() string {
	n := d.count()
	switch {
	case n.backups > 0 && n.drained > 0:
		return "backups, drained addresses and at last those that are down are served too"
	case n.backups > 0:
		return "backups and at last those that are down are served too"
	case n.drained > 0:
		return "drained addresses and at last those that are down are served too"
	// With the last primary nothing is up any more, and then all_down decides alone.
	case d.Need <= 1 && d.stanza.Rule.Policy.AllDownText() != "serve":
		return "all_down decides what is served"
	}
	return "members that are down are served too"
}

// addShare says how likely a member is to be in an answer, and the first one. A dry run changes no answer.
func (d *decision) addShare(c answer.Candidate, m *status.Member) {
	if d.DryRun {
		c.Share, c.Lead = 1, -1
	}
	// What is not known is left out, so that no reader takes it for a zero.
	if c.Share >= 0 {
		in := rounded(c.Share)
		m.Share = &in
	}
	if c.Lead >= 0 {
		lead := rounded(c.Lead)
		m.Leads = &lead
	}
}
