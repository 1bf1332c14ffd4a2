package multivalue

import (
	"net"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/miekg/dns"
)

// What an Extended DNS Error says of an answer. Its code is 0, "Other", because the registered codes would say something
// untrue (RFC 8914). The text names no address.
const (
	textOpen   = "too few addresses are healthy: health was disregarded"
	textClosed = "no address is healthy"
)

// annotate adds to m what a client that speaks EDNS should know: that health was disregarded (fail-open), or has emptied
// the answer (fail-closed); and how much of the client's network decided. The OPT record is a new one, because the server
// writes into the one it finds.
func (x *writer) annotate(m, original *dns.Msg, r answer.Report) *dns.Msg {
	scope, decided := x.Scope()
	if r.Enforced < answer.Open && !decided {
		return m // the common case
	}
	if x.Request.IsEdns0() == nil {
		return m
	}
	var options []dns.EDNS0
	switch r.Enforced {
	case answer.Open:
		options = append(options, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: textOpen})
	case answer.Closed:
		options = append(options, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: textClosed})
	}
	subnet := rules.ClientSubnet(x.Request)
	if subnet != nil && decided {
		scoped := *subnet // of the query, which is not ours to change
		scoped.Address = slices.Clone(net.IP(subnet.Address))
		scoped.SourceScope = scope
		options = append(options, &scoped)
	}
	if len(options) == 0 {
		return m
	}
	return rules.WithOptions(m, original, options)
}
