package rules

import (
	"net"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

// clientNetwork is the network that asks: the one that the query carries for a resolver's client (RFC 7871), else the
// sender's. For a question of our own it is that of localhost.
func (j *Judge) clientNetwork() netip.Prefix {
	if subnet := ClientSubnet(j.Request); subnet != nil {
		return subnetPrefix(subnet)
	}
	if j.Remote == nil {
		return answer.ClientNetwork(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return answer.ClientNetwork(addressOf(j.Remote.RemoteAddr()))
}

// addressOf is the address of a client, invalid if there is none in it. That of *proxyproto* over UDP has no AddrPort, and is
// known by its text alone.
func addressOf(remote net.Addr) netip.Addr {
	if a, ok := remote.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Addr()
	}
	if remote == nil {
		return netip.Addr{}
	}
	if at, err := netip.ParseAddrPort(remote.String()); err == nil {
		return at.Addr()
	}
	addr, _ := netip.ParseAddr(remote.String())
	return addr
}

// subnetPrefix is the client subnet of a query, at most as long as a client's network counts. It is the zero value for one
// that is malformed.
func subnetPrefix(subnet *dns.EDNS0_SUBNET) netip.Prefix {
	addr, ok := netip.AddrFromSlice(subnet.Address)
	if !ok {
		return netip.Prefix{}
	}
	if subnet.Family == 1 {
		addr = addr.Unmap()
	}
	longest := answer.ClientNetwork(addr)
	p, err := addr.Prefix(min(int(subnet.SourceNetmask), longest.Bits()))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// ClientSubnet is the option of a message that names the client's network (RFC 7871), or nil.
func ClientSubnet(m *dns.Msg) *dns.EDNS0_SUBNET {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if subnet, ok := o.(*dns.EDNS0_SUBNET); ok {
				return subnet
			}
		}
	}
	return nil
}

// WithOptions is m, or a copy if it is the original, with these options in its OPT record besides those that it had.
func WithOptions(m, original *dns.Msg, options []dns.EDNS0) *dns.Msg {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	extra := make([]dns.RR, 0, len(m.Extra)+1)
	for _, rr := range m.Extra {
		if old, ok := rr.(*dns.OPT); ok {
			opt = dns.Copy(old).(*dns.OPT) // another plugin may still hold the original
			continue
		}
		extra = append(extra, rr)
	}
	for _, option := range options {
		if ours, ok := option.(*dns.EDNS0_SUBNET); ok {
			opt.Option = slices.DeleteFunc(opt.Option, func(o dns.EDNS0) bool {
				theirs, ok := o.(*dns.EDNS0_SUBNET)
				if ok { // the upstream server may have looked at more of the network (RFC 7871, section 7.2.1)
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
