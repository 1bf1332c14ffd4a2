package multivalue

import (
	"net"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

// What an Extended DNS Error says of an answer. Its code is 0, "Other": the registered ones would say something untrue
// (RFC 8914). It names no address.
const (
	textOpen   = "too few addresses are healthy: health was disregarded"
	textClosed = "no address is healthy"
)

// network is the network that asks: the one that the query carries for a resolver's client (RFC 7871), else the sender's.
func (x *exchange) network() netip.Prefix {
	if subnet := subnetOf(x.request); subnet != nil {
		return prefixOf(subnet)
	}
	remote, ok := x.RemoteAddr().(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.Prefix{}
	}
	return answer.ClientNetwork(remote.AddrPort().Addr())
}

// prefixOf is the client subnet of a query, at most as long as a client's network counts. It is the zero value for one that
// is malformed.
func prefixOf(subnet *dns.EDNS0_SUBNET) netip.Prefix {
	addr, ok := netip.AddrFromSlice(subnet.Address)
	if !ok {
		return netip.Prefix{}
	}
	if subnet.Family == 1 {
		addr = addr.Unmap()
	}
	most := answer.ClientNetwork(addr)
	p, err := addr.Prefix(min(int(subnet.SourceNetmask), most.Bits()))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func subnetOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if subnet, ok := o.(*dns.EDNS0_SUBNET); ok {
				return subnet
			}
		}
	}
	return nil
}

// annotate adds to m what a client that speaks EDNS should know: that health was disregarded, or has emptied the answer;
// and how much of its network decided. The OPT record is one of our own: the server writes into the one it finds.
func (x *exchange) annotate(m, original *dns.Msg, r answer.Report) *dns.Msg {
	if r.Enforced < answer.Open && !x.byClient {
		return m // the common case
	}
	if x.request.IsEdns0() == nil {
		return m
	}
	var options []dns.EDNS0
	switch r.Enforced {
	case answer.Open:
		options = append(options, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: textOpen})
	case answer.Closed:
		options = append(options, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: textClosed})
	}
	subnet := subnetOf(x.request)
	if subnet != nil && x.byClient {
		scoped := *subnet
		scoped.Address = slices.Clone(net.IP(subnet.Address))
		scoped.SourceScope = uint8(max(0, x.draw.Client.Bits()))
		options = append(options, &scoped)
	}
	if len(options) == 0 {
		return m
	}
	return withOptions(m, original, options)
}

// withOptions is m, or a copy if it is the original, with an OPT record that has the options besides those it had.
func withOptions(m, original *dns.Msg, options []dns.EDNS0) *dns.Msg {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	extra := make([]dns.RR, 0, len(m.Extra)+1)
	for _, rr := range m.Extra {
		if old, ok := rr.(*dns.OPT); ok {
			opt = dns.Copy(old).(*dns.OPT)
			continue
		}
		extra = append(extra, rr)
	}
	for _, option := range options {
		if ours, ok := option.(*dns.EDNS0_SUBNET); ok {
			opt.Option = slices.DeleteFunc(opt.Option, func(o dns.EDNS0) bool {
				theirs, ok := o.(*dns.EDNS0_SUBNET)
				if ok { // whoever answered us may have looked at more of the network (RFC 7871, section 7.2.1)
					ours.SourceScope = max(ours.SourceScope, theirs.SourceScope)
				}
				return ok
			})
		}
		opt.Option = append(opt.Option, option)
	}
	if m == original {
		c := *original
		m = &c
	}
	m.Extra = append(extra, opt)
	return m
}
