package pool

import (
	"context"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A check with host owner asks each address for the name whose record it is in, so it has a target for each name and
// address. The name is in the target's identity by its hash, and nowhere else: a query needs no table of names, which would
// have to be bounded and published. The hash differs from process to process, so that no client can choose names that collide.

// identityFor is the identity of the check as it asks for an owner, and the seed of its targets' hashes.
func (c *CheckSpec) identityFor(owner string) (verdict.Identity, uint64) {
	if c.forOwner == nil {
		return c.identity, c.seed
	}
	h := hash.Name(owner)
	return c.identity.Of(h), c.seed ^ h
}

// seedFor is the second result of identityFor.
func (c *CheckSpec) seedFor(owner string) uint64 {
	_, seed := c.identityFor(owner)
	return seed
}

// memoryKey is the target without the pace of its check, by which the last verdict is remembered for a while: an edit of
// the pace alone finds it there.
func (c *CheckSpec) memoryKey(t verdict.Target, owner string) verdict.Target {
	id := c.withoutPace
	if c.forOwner != nil {
		id = id.Of(hash.Name(owner))
	}
	return verdict.Target{Identity: id, Addr: t.Addr}
}

// withoutOwner is the target without the owner that it is for, by which the owners of an address are counted.
func (c *CheckSpec) withoutOwner(t verdict.Target) verdict.Target {
	return verdict.Target{Identity: c.identity, Addr: t.Addr}
}

// prober is what asks the target from a goroutine.
func (m *monitor) prober() Prober {
	if m.check.forOwner == nil {
		return m.check.prober
	}
	return ownerProber{m.check.forOwner, m.owner}
}

// ownerProber asks for an owner. The check for it is made by the probe, so that the pool keeps none for each name.
type ownerProber struct {
	forOwner func(string) Prober
	owner    string
}

// Probe implements Prober.
func (a ownerProber) Probe(ctx context.Context, addr netip.AddrPort) error {
	return a.forOwner(a.owner).Probe(ctx, addr)
}

// question is what the target is asked, for the log.
func (m *monitor) question() string {
	if m.check.forOwner == nil {
		return m.check.Name
	}
	return m.check.Name + ", for " + m.owner
}

// lowerName is a name in lower case as names compare, which is by ASCII letters alone (RFC 4343).
func lowerName(name string) string {
	all := []byte(name)
	for i, b := range all {
		all[i] = hash.Lower(b)
	}
	return string(all)
}
