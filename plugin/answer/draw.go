package answer

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Draw has what decides which addresses are served if more are fit than the limit allows, and in which order. Each query has one.
type Draw struct {
	IntN   func(n int) int // a random number, as of math/rand/v2.IntN
	Client netip.Prefix    // the network of the client, for policies with Client; the zero value if it is not known
	Now    uint64          // in milliseconds since 1970; used only by policies with Warmup
	Near   Near            // how near addresses are to the client, for policies with Nearest; nil if it has no preference
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

// sample returns n of the candidates, which it moves to the front, or all of them if there are no more. The order is that of the
// draw: its first candidate is the one that a client tries which takes the first address. If there are no more than n, and all
// have the same share, there is nothing to draw, and they keep their order.
//
// Without weights it does the first n steps of a Fisher-Yates shuffle, so each candidate has the same chance. With weights each
// candidate gets an exponentially distributed key with its weight as the rate, and the n lowest keys win: sampling by weight
// without replacement (Efraimidis and Spirakis, 2006).
//
// If the client decides, the key comes from a hash of its network and the candidate (weighted rendezvous hashing). Each client
// then has an order of its own, and an address that comes or goes changes nothing but its own place in it.
func (p *Policy) sample(from []candidate, n int, d *Draw) []candidate {
	n = min(n, len(from))
	if !p.hasShares(d) {
		if n < len(from) {
			shuffle(from, n, d)
		}
		return from[:n]
	}
	byClient := p.byClient(d)
	if p.setShares(from, d) && n == len(from) && !byClient {
		return from
	}
	client := d.Client.Masked()
	for i := range from {
		c := &from[i]
		var u int // uniform, 30 bits
		if byClient {
			u = int(rendezvous(client, c.addr) >> 34)
		} else {
			u = d.IntN(1 << 30)
		}
		c.key = -math.Log((float64(u)+0.5)/(1<<30)) / c.key
	}
	slices.SortFunc(from, func(a, b candidate) int { return cmp.Compare(a.key, b.key) })
	return from[:n]
}

// shuffle moves n of more candidates to the front, each with the same chance.
func shuffle(from []candidate, n int, d *Draw) {
	for i := range n {
		j := i + d.IntN(len(from)-i)
		from[i], from[j] = from[j], from[i]
	}
}

// ordersAnswers reports whether the order of an answer is the policy's also if all of a set is served.
func (p *Policy) ordersAnswers(d *Draw) bool { return p.hasShares(d) || p.bySite(d) }

// hasShares reports whether candidates are drawn by shares, or by the client, and not just by chance.
func (p *Policy) hasShares(d *Draw) bool {
	return len(p.Weights) > 0 || p.Reports || p.Warmup > 0 || p.byClient(d)
}

// DrawnBy returns what may draw the order of an answer, in the words of the Corefile if it has one for it. If it is empty, no order is ever drawn but
// that of a choice.
func (p *Policy) DrawnBy() []string {
	var words []string
	switch {
	case p.Nearest && p.Client:
		words = append(words, "select nearest client")
	case p.Nearest:
		words = append(words, "select nearest")
	case p.Client:
		words = append(words, "select client")
	}
	if len(p.Weights) > 0 {
		words = append(words, "weight")
	}
	if p.Reports {
		words = append(words, "reported weights")
	}
	if p.Warmup > 0 {
		words = append(words, "warmup")
	}
	return words
}

// byClient reports whether the network of the client draws, and not chance.
func (p *Policy) byClient(d *Draw) bool { return p.Client && d.Client.IsValid() }

// setShares puts the share of each candidate into its key, and reports whether all are the same.
func (p *Policy) setShares(all []candidate, d *Draw) bool {
	even := true
	for i := range all {
		c := &all[i]
		c.key = float64(p.weightOf(c.addr)) * p.warmupShare(c.verdict, d.Now)
		even = even && c.key == all[0].key
	}
	if p.Reports {
		return scaleByReports(all)
	}
	return even
}

// scaleByReports scales the share of each candidate by what its backend wants, and reports whether all are the same.
func scaleByReports(all []candidate) bool {
	even := true
	for i := range all {
		c := &all[i]
		c.key *= reportedShare(c.verdict)
		even = even && c.key == all[0].key
	}
	return even
}

// weightOf returns the weight of an address by the first network that contains it.
func (p *Policy) weightOf(addr netip.Addr) int {
	for i := range p.Weights {
		if p.Weights[i].Network.Contains(addr) {
			return p.Weights[i].Weight
		}
	}
	return 1
}

// reportedShare returns the share of its weight that an address wants, as its backend says. It is not 0: an address that wants
// nothing counts as drained, and as a last resort one that is drained for another reason may be beside it.
func reportedShare(v verdict.Brief) float64 { return float64(max(1, v.Weight())) / 100 }

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
