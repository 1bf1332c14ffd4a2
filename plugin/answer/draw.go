package answer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Draw is what decides where more is fit than goes out.
type Draw struct {
	IntN   func(n int) int // chance, as math/rand/v2.IntN
	Client netip.Prefix    // the network that asks, for policies that let it choose; the zero value if it is not known
	Now    uint64          // milliseconds since 1970; only policies with Warmup look at it
}

// ClientNetwork is the network that an address counts as when a client chooses: the 24 bits of IPv4 and the 56 bits of
// IPv6 that RFC 7871, section 11.1, has resolvers send.
func ClientNetwork(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 56
	if addr.Is4() {
		bits = 24
	}
	p, _ := addr.Prefix(bits) // which fails for the zero Addr alone
	return p
}

// sample takes n of the candidates, or all, in their order, if there are no more than n.
//
// Without weights it is the first n steps of a Fisher-Yates shuffle, so that each has the same chance. With them, each
// candidate gets an exponential time with its weight for a rate, and the n earliest are taken: sampling without
// replacement by weight (Efraimidis and Spirakis, 2006). Where the client chooses, that time does not come from chance
// but from a hash of the client and the candidate, so that each client keeps its own order whatever comes and goes
// (weighted rendezvous hashing).
func (p *Policy) sample(from []candidate, n int, d *Draw) []candidate {
	if len(from) <= n {
		return from
	}
	client := d.Client.Masked()
	byClient := p.Client && client.IsValid()
	if !byClient && len(p.Weights) == 0 && p.Warmup == 0 {
		for i := range n {
			j := i + d.IntN(len(from)-i)
			from[i], from[j] = from[j], from[i]
		}
		return from[:n]
	}
	for i := range from {
		c := &from[i]
		var u int // of 30 bits
		if byClient {
			u = int(rendezvous(client, c.addr) >> 34)
		} else {
			u = d.IntN(1 << 30)
		}
		c.key = -math.Log((float64(u)+0.5)/(1<<30)) / (p.weightOf(c.addr) * p.warmupShare(c.verdict, d.Now))
	}
	slices.SortFunc(from, func(a, b candidate) int { return cmp.Compare(a.key, b.key) })
	return from[:n]
}

// weightOf is the weight of an address.
func (p *Policy) weightOf(addr netip.Addr) float64 {
	for i := range p.Weights {
		if p.Weights[i].Network.Contains(addr) {
			return float64(p.Weights[i].Weight)
		}
	}
	return 1
}

// minWarmupShare is the share with which an address begins to warm up.
const minWarmupShare = 0.01

// warmupShare is the share of its weight that an address has now: it grows with the time that the address has been up.
func (p *Policy) warmupShare(v verdict.Brief, now uint64) float64 {
	switch {
	case p.Warmup == 0 || v.State() == verdict.Unchecked:
		return 1
	case v.State() != verdict.Up || now <= v.Since():
		return minWarmupShare
	}
	return max(minWarmupShare, min(1, float64(now-v.Since())/float64(p.Warmup.Milliseconds())))
}

// rendezvous is a hash that is the same in every process, so that all replicas choose alike.
func rendezvous(client netip.Prefix, addr netip.Addr) uint64 {
	c, a := client.Addr().As16(), addr.As16()
	h := uint64(client.Bits())
	for _, x := range [4]uint64{
		binary.BigEndian.Uint64(c[:8]), binary.BigEndian.Uint64(c[8:]), binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]),
	} {
		h = mix(h ^ x)
	}
	return h
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
