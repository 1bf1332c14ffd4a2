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

// of is the identity of the check as it asks for an owner, and what its targets hash with.
func (c *checkSpec) of(owner string) (verdict.Identity, uint64) {
	if c.forOwner == nil {
		return c.identity, c.seed
	}
	h := hash.Name(owner)
	return c.identity.Of(h), c.seed ^ h
}

// seedOf is the second half of of.
func (c *checkSpec) seedOf(owner string) uint64 {
	_, seed := c.of(owner)
	return seed
}

// sibling is the target that remembers, for a while, what is known under a check, without regard to its pace: whoever changes
// only that finds the verdict there.
func (c *checkSpec) sibling(t verdict.Target, owner string) verdict.Target {
	id := c.bare
	if c.forOwner != nil {
		id = id.Of(hash.Name(owner))
	}
	return verdict.Target{Identity: id, Addr: t.Addr}
}

// owned is a target without regard to the owner that it is for.
func (c *checkSpec) owned(t verdict.Target) verdict.Target {
	return verdict.Target{Identity: c.identity, Addr: t.Addr}
}

// asker is who asks a target.
func (w *watch) asker() prober {
	if w.check.forOwner == nil {
		return w.check.prober
	}
	return ownerAsker{w.check.forOwner, w.owner}
}

// An ownerAsker asks for an owner. What that takes is made by the probe, so that the pool keeps nothing of it.
type ownerAsker struct {
	forOwner func(string) prober
	owner    string
}

// Probe is that of a prober.
func (a ownerAsker) Probe(ctx context.Context, addr netip.AddrPort) error {
	return a.forOwner(a.owner).Probe(ctx, addr)
}

// question is what the log calls what a target is asked.
func (w *watch) question() string {
	if w.check.forOwner == nil {
		return w.check.name
	}
	return w.check.name + ", for " + w.owner
}

// lowerName is a name in lower case, as names are compared: that of ASCII (RFC 4343).
func lowerName(name string) string {
	all := []byte(name)
	for i, b := range all {
		all[i] = hash.Lower(b)
	}
	return string(all)
}
