package inspect

import (
	"slices"

	"github.com/miekg/dns"
)

// message is the answer as a client gets it, in the form that dig prints. Its id is 0, because each answer has another one.
// What another server block judges is left out, since this one does not say what becomes of it.
func (e *explainer) message() string {
	m := new(dns.Msg)
	if e.thinned == nil {
		m.SetRcode(e.Request, dns.RcodeServerFailure)
	} else {
		*m = *e.thinned
		m.Question = e.Request.Question // the one of the client, and not of who asked below
	}
	m.Id, m.Response, m.RecursionDesired = 0, true, e.Request.RecursionDesired
	m.Answer = slices.DeleteFunc(slices.Clone(m.Answer), func(rr dns.RR) bool { return e.judgedElsewhere(rr.Header().Name) })
	return m.String()
}
