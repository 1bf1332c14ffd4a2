package pool

import (
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// shownChecks are the checks that run, for the status page. Checks that look the same are one entry: they may be asked apart, since
// they differ in a secret, or in what their stanzas share with a fleet, but a reader cannot tell one from the other.
func (p *Pool) shownChecks() (all []status.Check) {
	at := make(map[string]int, len(p.checks))
	for _, c := range p.checks {
		key := c.Name + " " + c.PaceText()
		i, known := at[key]
		if !known {
			i = len(all)
			at[key] = i
			all = append(all, status.Check{
				Check: c.Name, Pace: c.PaceText(), Stanzas: []string{},
				Interval: c.pace.Interval.Seconds(), Fast: c.pace.Fast.Seconds(), Timeout: c.pace.Timeout.Seconds(), Rise: c.pace.Rise, Fall: c.pace.Fall,
			})
		}
		all[i].Hold, all[i].Reuse = all[i].Hold || c.hold, all[i].Reuse || c.reuse
	}
	p.eachNamed(func(key, stanza string) {
		if i, known := at[key]; known && !slices.Contains(all[i].Stanzas, stanza) {
			all[i].Stanzas = append(all[i].Stanzas, stanza)
		}
	})
	return all
}

// eachNamed calls do for each check that a stanza of the running Corefile names, with the file and line of that stanza.
func (p *Pool) eachNamed(do func(key, stanza string)) {
	for _, g := range p.generations {
		if g.stage != confirmed {
			continue
		}
		for _, a := range g.groups {
			for _, c := range a.Checks.All() {
				if !c.Annotated { // else an annotation names it, and no line
					do(c.Name+" "+c.PaceText(), a.At)
				}
			}
		}
	}
}
