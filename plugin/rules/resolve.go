package rules

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// Resolve returns the addresses of a host that a Corefile names for the server itself, such as a member of its fleet; none and no
// error if it has none. A name in a zone of this server is asked of the plugins below, because the system may not know it: in a Pod
// of Kubernetes it does not know the names of the cluster that this server answers for.
//
// It may be called from any goroutine, and waits for the plugins and the system, which a caller's context ends.
func Resolve(ctx context.Context, blocks []*Block, host string) ([]netip.Addr, error) {
	name := dns.CanonicalName(host)
	// A block for the root zone comes last: it may forward to servers that know another address, and in a cluster it is the one that
	// knows the names of Services, which the system does not.
	for _, root := range []bool{false, true} {
		for _, b := range blocks {
			if zone := b.origins.Matches(name); zone == "" || (zone == ".") != root {
				continue
			}
			if addrs := b.addressesOf(ctx, name); len(addrs) > 0 {
				return addrs, nil
			}
		}
	}
	// A name without addresses is not an error: a headless Service has none before its first Pod.
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var unknown *net.DNSError
	if errors.As(err, &unknown) && unknown.IsNotFound {
		return nil, nil
	}
	return addrs, err
}

// addressesOf are the addresses of a name that the plugins below have, whatever their health is.
func (b *Block) addressesOf(ctx context.Context, name string) (addrs []netip.Addr) {
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		// The question is marked as the block's own, so that nothing is thinned and nothing is watched for it.
		reply := b.Resolver.Ask(b.Mark(ctx), new(dns.Msg).SetQuestion(name, rrtype))
		if reply == nil {
			continue
		}
		for _, rr := range reply.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				addrs = appendAddr(addrs, rr.A)
			case *dns.AAAA:
				addrs = appendAddr(addrs, rr.AAAA)
			}
		}
	}
	return addrs
}

// appendAddr adds the address of a record, if it is one.
func appendAddr(addrs []netip.Addr, ip net.IP) []netip.Addr {
	if addr, ok := netip.AddrFromSlice(ip); ok {
		return append(addrs, addr.Unmap())
	}
	return addrs
}
