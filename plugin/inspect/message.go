package inspect

import (
	"slices"

	"github.com/miekg/dns"
)

// message is the answer as a client gets it, in the form that dig prints. Its id is 0, because each answer has another one.
// What another server block judges is left out, since this one does not say what becomes of it.
func (e *explainer) message() string {
	// The message belongs to those who explain the same at the moment, too: only the copy is changed.
	m := new(dns.Msg)
	if e.thinned == nil {
		m.SetRcode(e.Request, dns.RcodeServerFailure)
	} else {
		*m = *e.thinned
		m.Question = e.Request.Question // the one of the client, and not of who asked below
	}
	// What a server sets on its way out, such as compression, is not seen in this form.
	m.Id, m.Response, m.RecursionDesired = 0, true, e.Request.RecursionDesired
	m.Answer = slices.DeleteFunc(slices.Clone(m.Answer), func(rr dns.RR) bool { return e.judgedElsewhere(rr.Header().Name) })
	return m.String()
}
