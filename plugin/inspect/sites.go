package inspect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
)

// locate says in which site the client is, and what decided that, if a stanza goes by sites.
func (s *sentences) locate(e *explainer) {
	c := e.Located()
	if c == nil {
		return
	}
	s.Site, s.SiteBy = c.Name(), c.Reason()
	client := e.Client()
	// What decided is said in the words of the file, so that a reader finds the line.
	switch {
	case s.Site != "":
		s.step("the client %s is in site %s, by %s", client, s.Site, s.SiteBy)
	// A client of no site is told from one that no sites are known for, since what an operator can do about it differs.
	case c.Prefers():
		s.step("the client %s is in no site: the line order * says where it goes", client)
	default:
		s.step("the client %s is in no site, and no line order * says where it goes: it may get addresses of all sites", client)
	}
	// The client of an explanation is a network without the rest of a query.
	if table := e.topologyOf(); table != nil && table.Labels() && !c.By.IsValid() {
		s.step("labels may decide about this client, which an explanation cannot know: it is no query")
	}
}

// topologyOf returns the sites that decided about the first set that went by any, and nil if none did. An answer may have sets of
// several stanzas, with files of their own; its steps speak of the first, since most answers have no other.
func (e *explainer) topologyOf() *topology.Table {
	for i := range e.decisions {
		if t := e.decisions[i].stanza.Topology; t != nil {
			return t.Value()
		}
	}
	return nil
}

// siteOf is the name of the site that has an address, and empty for none.
func (d *decision) siteOf(c answer.Candidate) string {
	if d.stanza.Topology == nil || !c.Addr.IsValid() {
		return ""
	}
	// It may have been replaced since the decision. Then the words are about what holds now.
	table := d.stanza.Topology.Value()
	return table.Name(table.Of(c.Addr))
}

// sites counts the members of a set by site, in the order in which they would be served. Addresses of no site are counted under
// an empty name. It is nil if no topology is about the set.
func (d *decision) sites() (all []status.Site) {
	if d.stanza.Topology == nil || d.Signed || d.Alone {
		return nil
	}
	for i, c := range d.Candidates {
		// A host may have addresses in several sites, so that records which name hosts are in none.
		if !c.Addr.IsValid() {
			return nil
		}
		name := d.siteOf(c)
		at := slices.IndexFunc(all, func(s status.Site) bool { return s.Site == name })
		if at < 0 {
			at, all = len(all), append(all, status.Site{Site: name})
		}
		// What has no verdict yet is served, and so it is left.
		all[at].Total++
		if c.Verdict.State().Fit() {
			all[at].Fit++
		}
		if i < d.Served {
			all[at].Kept++
		}
	}
	return all
}

// siteText says what each site has left, at the end of the sentence about a set. It says nothing for sets that no topology is
// about.
func siteText(all []status.Site) string {
	if len(all) == 0 {
		return ""
	}
	// All sites are listed, also those that a client does not get: what is left there decides where it goes next.
	var words []string
	for _, s := range all {
		name := "site " + s.Site
		if s.Site == "" {
			name = "no site"
		}
		words = append(words, fmt.Sprintf("%s has %d of %d left", name, s.Fit, s.Total))
	}
	return "; " + strings.Join(words, ", ")
}

// nearestReason says from which sites a set is served.
func (d *decision) nearestReason() string {
	// Sites are in the order in which they are served, so the client's own one comes first.
	var names []string
	for _, s := range d.sites() {
		if s.Kept > 0 && s.Site != "" {
			names = append(names, s.Site)
		}
	}
	if len(names) == 0 { // those of no site are the nearest that there are
		return "the nearest addresses are served"
	}
	return fmt.Sprintf("those of the nearest %s are served: %s", text.Plural(len(names), "site", "sites"), strings.Join(names, ", "))
}

// stayedHome reports whether a member is fit and not served because nearer sites are enough: nothing of its own site is served.
// What the limit has left out of a site that is served has another reason.
func (d *decision) stayedHome(c answer.Candidate) bool {
	if !d.BySite {
		return false
	}
	return !slices.ContainsFunc(d.Candidates[:d.Served], func(other answer.Candidate) bool { return d.siteOf(other) == d.siteOf(c) })
}
