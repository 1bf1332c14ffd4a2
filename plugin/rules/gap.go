package rules

import (
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// uncheckedFor counts answers with unchecked addresses by reason: no query looks up a label.
var uncheckedFor = func() (all [verdict.Gaps]prometheus.Counter) {
	for g := range verdict.Gaps {
		all[g] = metrics.Unchecked.WithLabelValues(g.String())
	}
	return all
}()

// NoteGaps counts an answer in which addresses are served unchecked, once for each reason. Once for each stanza and reason it
// logs which address that is and what to write, where the operator can mend it. An address outside within is meant to be, and a
// limit of targets has a line of its own, which comes again.
func (j *Judge) NoteGaps(r answer.Report) {
	j.noteLabels()
	r.Unchecked[verdict.Elsewhere] = j.alias != "" && !j.isSigned(j.alias)
	for gap, is := range r.Unchecked {
		if is {
			uncheckedFor[gap].Inc()
		}
	}
	if r.Mendable.Owner != "" {
		z := j.Block.Zones.Find(r.Mendable.Owner)
		if z == nil {
			z = j.Zone
		}
		if z.Stanza != nil {
			z.Stanza.logGap(&r)
		}
	}
	s := j.Zone.Stanza
	if j.host != "" && s.loggedGaps[verdict.NoAddress].First() {
		s.Group.Warn("%s: the host %s is served unchecked, because it is outside the zones of the stanza, and within does not say where such hosts may be probed: write within with the networks of your servers (stanza at %s)", j.Request.Question[0].Name, j.host, s.Group.At)
	}
	if r.Unchecked[verdict.Elsewhere] && s.loggedGaps[verdict.Elsewhere].First() {
		s.Group.Warn("%s: the addresses of %s are served unchecked, because it is outside the zones of the stanza, and within does not say where such names may be probed: write within with the networks of your servers (stanza at %s)", j.Request.Question[0].Name, j.alias, s.Group.At)
	}
}

// isSigned reports whether a signature covers the set of an owner that was asked for: it would not be judged anyway, and to
// write within would change nothing.
func (j *Judge) isSigned(owner string) bool {
	for _, rr := range j.Reply.Answer {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == j.Request.Question[0].Qtype && strings.EqualFold(sig.Hdr.Name, owner) {
			return true
		}
	}
	return false
}

// logGap says once for each reason which address is served unchecked, and what to write. The address may be one that should
// not be probed, such as that of a metadata service: zone data chooses it, and the operator decides. It is on the query path:
// after the first time it costs one atomic load.
func (s *Stanza) logGap(r *answer.Report) {
	m := &r.Mendable
	if !s.loggedGaps[m.Gap].First() {
		return
	}
	what := "an address of a host that it names"
	if m.Addr.IsValid() {
		what = m.Addr.String()
	}
	switch {
	case m.Gap == verdict.NoPort:
		s.Group.Warn("%s: %s is served unchecked, because its record names port 0 and the check names none: write a port into the URL of the check (stanza at %s)", m.Owner, what, s.Group.At)
	case len(s.Within) == 0:
		s.Group.Warn("%s: %s is served unchecked, because special addresses such as loopback are probed only where within names them. If it is a server of yours, write within with it and all other networks of your servers (stanza at %s)", m.Owner, what, s.Group.At)
	default:
		s.Group.Warn("%s: %s is served unchecked, because special addresses such as loopback are probed only if within has a network inside their range. If it is a server of yours, add it to within (stanza at %s)", m.Owner, what, s.Group.At)
	}
}
