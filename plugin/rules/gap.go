package rules

import (
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus"
)

// uncheckedFor counts answers with unchecked addresses by reason: no query looks up a label.
var uncheckedFor = func() (all [verdict.Gaps]prometheus.Counter) {
	for g := range verdict.Gaps {
		all[g] = metrics.Unchecked.WithLabelValues(g.String())
	}
	return all
}()

// logGap says, once for each stanza and reason, which address is served unchecked and what to write. An address outside within
// is meant to be. A limit of targets has a line of its own, which comes again. It is on the query path: after the first time it
// costs one atomic load.
func (s *Stanza) logGap(owner string, addr netip.Addr, v verdict.Brief) {
	g := v.Gap()
	if g == verdict.Outside || g == verdict.Full || !s.loggedGaps[g].First() {
		return
	}
	switch {
	case g == verdict.NoPort:
		s.Group.Warn("%s: %s is served unchecked, because its record names port 0 and the check names none: write a port into the URL of the check (stanza at %s)", owner, addr, s.Group.At)
	case len(s.Within) == 0:
		s.Group.Warn("%s: %s is served unchecked, because special addresses such as loopback are probed only where within names them: write within with %s and all other networks of your servers (stanza at %s)", owner, addr, addr, s.Group.At)
	default:
		s.Group.Warn("%s: %s is served unchecked, because special addresses such as loopback are probed only if within has a network inside their range: add %s to within (stanza at %s)", owner, addr, addr, s.Group.At)
	}
}

// NoteGaps counts an answer in which addresses are not checked, once for each reason. It logs, as logGap does, which host or
// target of an alias is outside the zones.
func (j *Judge) NoteGaps(r answer.Report) {
	r.Unchecked[verdict.Elsewhere] = j.alias != ""
	for gap, is := range r.Unchecked {
		if is {
			uncheckedFor[gap].Inc()
		}
	}
	s := j.Zone.Stanza
	if j.host != "" && s.loggedGaps[verdict.NoAddress].First() {
		s.Group.Warn("%s: the host %s is served unchecked, because it is outside the zones of the stanza, and within does not say where such hosts may be probed: write within with the networks of your servers (stanza at %s)", j.Request.Question[0].Name, j.host, s.Group.At)
	}
	if j.alias != "" && s.loggedGaps[verdict.Elsewhere].First() {
		s.Group.Warn("%s: the addresses of %s are served unchecked, because it is outside the zones of the stanza, and within does not say where such names may be probed: write within with the networks of your servers (stanza at %s)", j.Request.Question[0].Name, j.alias, s.Group.At)
	}
}
