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
	switch {
	case s.Site != "":
		s.step("the client %s is in site %s, by %s", client, s.Site, s.SiteBy)
	case c.Prefers():
		s.step("the client %s is in no site: the line order * says where it goes", client)
	default:
		s.step("the client %s is in no site, and no line order * says where it goes: it may get addresses of all sites", client)
	}
	if table := e.topologyOf(); table != nil && table.Labels() && !c.By.IsValid() {
		s.step("labels may decide about this client, which an explanation cannot know: it is no query")
	}
}

// topologyOf returns the sites that decided about the first set that went by any.
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
		if !c.Addr.IsValid() { // hosts are in no site
			return nil
		}
		name := d.siteOf(c)
		at := slices.IndexFunc(all, func(s status.Site) bool { return s.Site == name })
		if at < 0 {
			at, all = len(all), append(all, status.Site{Site: name})
		}
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

// siteText says what each site has left.
func siteText(all []status.Site) string {
	if len(all) == 0 {
		return ""
	}
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
	var names []string
	for _, s := range d.sites() {
		if s.Kept > 0 && s.Site != "" {
			names = append(names, s.Site)
		}
	}
	if len(names) == 0 {
		return "the nearest addresses are served"
	}
	return fmt.Sprintf("the nearest %s %s", text.Counted(len(names), "site is", "sites are"), strings.Join(names, " and "))
}

// stayedHome reports whether a member is fit and not served because nearer sites are enough.
func (d *decision) stayedHome(c answer.Candidate) bool {
	if !d.BySite {
		return false
	}
	return !slices.ContainsFunc(d.Candidates[:d.Served], func(other answer.Candidate) bool { return d.siteOf(other) == d.siteOf(c) })
}
