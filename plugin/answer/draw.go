package answer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Draw has what decides which addresses are served if more are fit than the limit allows. Each query has one.
type Draw struct {
	IntN   func(n int) int // a random number, as of math/rand/v2.IntN
	Client netip.Prefix    // the network of the client, for policies with Client; the zero value if it is not known
	Now    uint64          // in milliseconds since 1970; used only by policies with Warmup
}

// ClientNetwork returns the network that stands for a client's address: 24 bits of IPv4 and 56 bits of IPv6, as resolvers send
// them in EDNS Client Subnet (RFC 7871, section 11.1). So a client gets the same addresses directly and through such a resolver.
func ClientNetwork(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 56
	if addr.Is4() {
		bits = 24
	}
	p, _ := addr.Prefix(bits) // which fails for the zero Addr alone
	return p
}

// sample returns n of the candidates, which it moves to the front. If there are no more than n it returns all of them in their
// order.
//
// Without weights it does the first n steps of a Fisher-Yates shuffle, so each candidate has the same chance. With weights each
// candidate gets an exponentially distributed key with its weight as the rate, and the n lowest keys win: sampling by weight
// without replacement (Efraimidis and Spirakis, 2006).
//
// If the client decides, the key comes from a hash of its network and the candidate (weighted rendezvous hashing). Each client
// then has an order of its own, and an address that comes or goes changes nothing but its own place in it.
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
		var u int // uniform, 30 bits
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

// weightOf returns the weight of an address by the first network that contains it.
func (p *Policy) weightOf(addr netip.Addr) float64 {
	for i := range p.Weights {
		if p.Weights[i].Network.Contains(addr) {
			return float64(p.Weights[i].Weight)
		}
	}
	return 1
}

// minWarmupShare is the share of its weight with which an address begins to warm up. It is not 0: without any query the address
// could not warm its caches, and a sample may need it.
const minWarmupShare = 0.01

// warmupShare returns the share of its weight that an address has now. It grows linearly while the address is up, to 1 after
// Warmup. An address that no check covers is always warm.
func (p *Policy) warmupShare(v verdict.Brief, now uint64) float64 {
	switch {
	case p.Warmup == 0 || v.State() == verdict.Unchecked:
		return 1
	case v.State() != verdict.Up || now <= v.Since():
		return minWarmupShare
	}
	return max(minWarmupShare, min(1, float64(now-v.Since())/float64(p.Warmup.Milliseconds())))
}

// rendezvous hashes a client network and an address. The hash has no key and must never change: all replicas, also of different
// versions, must choose the same addresses for a client.
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
