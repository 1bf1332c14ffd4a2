package inspect

import (
	"fmt"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Here is what explanations say of a name that takes over from a set of which no address is healthy (all_down NAME). As with the
// set itself, nothing is decided here: each sentence says what the code that answers queries has decided.

// Fallback is the judge's, with a health that leaves no trace: an explanation looks at the addresses of the other name, and
// must not have them watched for it.
func (e *explainer) Fallback(owner, name string, rrtype uint16) answer.Fallback {
	f := e.Judge.Fallback(owner, name, rrtype)
	if f.Rule != nil {
		s := f.Rule.Health.(*rules.Stanza) // which it is for every rule of a judge
		f.Rule = &answer.Rule{Types: f.Rule.Types, Policy: f.Rule.Policy, Health: s.ReadOnly()}
	}
	return f
}

// takenOver says what another name has in place of the set.
func (d *decision) takenOver() string {
	switch {
	case !d.Instead.TookOver():
		return ""
	case len(d.Others) == 0:
		return ", which has addresses of the other family only"
	case d.OthersServed == len(d.Others):
		return ", which takes over with " + text.Count(d.OthersServed, "address")
	}
	return fmt.Sprintf(", which takes over with %d of its %s", d.OthersServed, text.Count(len(d.Others), "address"))
}

// insteadText says which addresses of the Corefile are served in place of the set (all_down ADDRESS).
func (d *decision) insteadText() string {
	p := &d.stanza.Rule.Policy
	if p.AllDown != answer.Fixed {
		return ""
	}
	// Those of the other family are in the answers of the other type.
	var words []string
	for _, addr := range p.Instead { // an answer has those of its family alone
		if addr.Is4() == (d.Type == dns.TypeA) {
			words = append(words, addr.String())
		}
	}
	if len(words) == 0 || d.Type != dns.TypeA && d.Type != dns.TypeAAAA {
		return ", so nothing is served"
	}
	return fmt.Sprintf(", so %s %s served instead", strings.Join(words, " and "), text.Plural(len(words), "is", "are"))
}

// openBecause is what the Corefile says of a set whose health is disregarded, and why another name does not take over.
func (d *decision) openBecause() string {
	why := d.Instead.Why()
	switch {
	case d.Instead.Name == "":
		return "all_down serve"
	case why == "":
		why = "is this name itself"
	}
	return "all_down is " + strings.TrimSuffix(d.Instead.Name, ".") + ", which " + why
}

// addOthers says what happens to each address of the name that all_down has for a set.
func (s *sentences) addOthers(set *status.Set, d *decision) {
	if len(d.Others) == 0 {
		return
	}
	var words []string
	for i, c := range d.Others[:min(len(d.Others), maxOthers)] {
		verb := "left out"
		switch {
		case i < d.OthersServed && d.DryRun:
			verb = "would be served"
		case i < d.OthersServed:
			verb = "served"
		}
		words = append(words, fmt.Sprintf("%s is %s, and %s", c.Addr, stateOf(&c), verb))
	}
	if more := len(d.Others) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	s.step("the addresses of %s for %s %s: %s", d.Instead.Name, set.Owner, set.Type, strings.Join(words, "; "))
}

// maxOthers is how many addresses of another name a step lists.
const maxOthers = 16

// stateOf is the state of an address in a word.
func stateOf(c *answer.Candidate) string {
	if c.Verdict.State() == verdict.Unchecked {
		return "not checked"
	}
	return c.Verdict.State().String()
}
