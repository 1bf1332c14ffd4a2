package multivalue

import (
	"context"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A check with host owner asks each address for the name whose record it is in. So it has a target for each name and
// address: the name is in the identity, by its hash, and nowhere else, so that a query needs no table of names. The
// hash differs from process to process: nobody can choose names that share one.

// identityFor is the identity of the check as it asks for an owner, and what its targets hash with.
func (c *CheckSpec) identityFor(owner string) (verdict.Identity, uint64) {
	if c.forOwner == nil {
		return c.identity, c.seed
	}
	h := hash.Name(owner)
	return c.identity.Of(h), c.seed ^ h
}

// seedFor is the second half of of.
func (c *CheckSpec) seedFor(owner string) uint64 {
	_, seed := c.identityFor(owner)
	return seed
}

// memoryKey is the target that remembers, for a while, what is known under a check, without regard to its pace: whoever changes
// only that finds the verdict there.
func (c *CheckSpec) memoryKey(t verdict.Target, owner string) verdict.Target {
	id := c.withoutPace
	if c.forOwner != nil {
		id = id.Of(hash.Name(owner))
	}
	return verdict.Target{Identity: id, Addr: t.Addr}
}

// withoutOwner is a target without regard to the owner that it is for.
func (c *CheckSpec) withoutOwner(t verdict.Target) verdict.Target {
	return verdict.Target{Identity: c.identity, Addr: t.Addr}
}

// probeFor is who asks a target.
func (w *monitor) probeFor() Prober {
	if w.check.forOwner == nil {
		return w.check.prober
	}
	return ownerProber{w.check.forOwner, w.owner}
}

// An ownerProber asks for an owner. What that takes is made by the probe, so that the pool keeps nothing of it.
type ownerProber struct {
	forOwner func(string) Prober
	owner    string
}

// Probe is that of a prober.
func (a ownerProber) Probe(ctx context.Context, addr netip.AddrPort) error {
	return a.forOwner(a.owner).Probe(ctx, addr)
}

// question is what the log calls what a target is asked.
func (w *monitor) question() string {
	if w.check.forOwner == nil {
		return w.check.Name
	}
	return w.check.Name + ", for " + w.owner
}

// lowerName is a name in lower case, as names are compared: that of ASCII (RFC 4343).
func lowerName(name string) string {
	all := []byte(name)
	for i, b := range all {
		all[i] = hash.Lower(b)
	}
	return string(all)
}
