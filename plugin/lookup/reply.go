package lookup

import (
	"math"
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

const (
	// minKeep and maxKeep bound how long a reply is believed, whatever its TTL.
	minKeep = 5 * time.Second
	maxKeep = 5 * time.Minute
)

// Reply is what matters of an answer. It never changes.
type Reply struct {
	Addresses []netip.Addr
	Owner     string   // of the first address, in lower case: the name that was asked, or where its aliases lead
	TTL       uint32   // the lowest one in the answer, in seconds
	Foreign   bool     // an address is of a name outside the block, at the end of an alias
	SOA       *dns.SOA // nil if there is none
	Apex      string   // of the zone with that SOA, in lower case
}

// digest takes what matters out of an answer, and how long that is to be believed. It returns nil if the message is
// neither an answer nor a denial (RFC 2308, section 2).
func (l *Resolver) digest(q Question, m *dns.Msg) (*Reply, time.Duration) {
	if m == nil || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return nil, 0
	}
	r := &Reply{TTL: math.MaxInt32} // the largest TTL that there is (RFC 2181, section 8)
	ttl := uint32(maxKeep / time.Second)
	for _, rr := range m.Answer {
		r.TTL, ttl = min(r.TTL, rr.Header().Ttl), min(ttl, rr.Header().Ttl)
		if addr, ok := answer.Address(rr); ok {
			if r.Owner == "" {
				r.Owner = dns.CanonicalName(rr.Header().Name)
			}
			r.Addresses = append(r.Addresses, addr)
			r.Foreign = r.Foreign || !l.host.Owns(rr.Header().Name)
		}
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, q.Name) && r.SOA == nil {
				own := *soa
				r.SOA, r.Apex = &own, dns.CanonicalName(soa.Hdr.Name)
				ttl = min(ttl, soa.Hdr.Ttl, max(soa.Minttl, 1))
			}
		}
	}
	if r.SOA == nil && (q.Type == dns.TypeSOA || len(m.Answer) == 0) {
		return nil, 0 // a referral, or less
	}
	if q.Type == dns.TypeSOA && q.Name != r.Apex {
		return r, maxKeep // it says where the zone begins; the question for the apex is renewed in time
	}
	return r, min(max(time.Duration(ttl)*time.Second, minKeep), maxKeep)
}
