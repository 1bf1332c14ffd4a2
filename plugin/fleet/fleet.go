// Package fleet is what several servers do to probe like one and to decide like several.
//
// A member of the fleet is one server. Members whose Corefiles ask the same question in the same way are in one Group, and
// share the targets of it. Targets fall into shards, and Seats says which members probe a shard for all: its vantage points.
// What a vantage point has found out is its Vote. A Ballot has the votes on one target, and Seats.Fold makes one verdict of
// them. Roster knows who is there, and whose votes are fresh.
//
// An Engine carries votes and wants from member to member. The package knows of engines only what is in Engine and Listener:
// it has no network, starts no goroutine and reads no clock, so the current time is always an argument. Its types are not
// safe for concurrent use: they belong to the loop of the pool.
package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Protocol is the version of what members say to one another. It is part of each batch and of each group, so members with
// different ones share nothing. A field or a kind of entry that is added does not need another number: it is skipped by those who do
// not know it. One that changes the meaning of others does.
const Protocol = 1

const (
	// Shards is how many parts the targets of a group are cut into, each of which has seats of its own. All members must agree.
	Shards = 4096
	// MaxVantage is the greatest number of vantage points of a target.
	MaxVantage = 16
	// usualVantage is that of most fleets.
	usualVantage = 3
	// substitutes is how many members after the vantage points of a shard are heard, too: two members that do not agree on who is
	// there may be off by that.
	substitutes = 2
	// maxOwner is the longest name that a target may have, in bytes.
	maxOwner = 255
)

// Terms is what two members must have in common to share targets. All of it may be known to others: what a check hides, such as
// the value of a header, is not in its text.
type Terms struct {
	Check   string // the canonical text of the check
	Pace    verdict.Pace
	Within  []netip.Prefix // the networks that may be probed; their order does not matter
	Vantage int
	Quorum  answer.Quorum
}

// Defaults are the terms of a fleet that says nothing else. The quorum is the share that Route 53 has. Of up to five votes it is one:
// then an address goes only if all vantage points find it down.
func Defaults() Terms { return Terms{Vantage: usualVantage, Quorum: answer.Quorum{Percent: 18}} }

// Group names terms. It is the same in every process, and different for different terms.
type Group [16]byte

// Group returns the group of all who have these terms.
func (t Terms) Group() Group {
	within := make([]netip.Prefix, 0, len(t.Within))
	for _, p := range t.Within {
		within = append(within, p.Masked())
	}
	slices.SortFunc(within, netip.Prefix.Compare)
	text := fmt.Appendf(nil, "protocol %d\n%q\n%s\nvantage %d quorum %s\n", Protocol, t.Check, t.Pace, t.Vantage, t.Quorum)
	for _, p := range slices.Compact(within) {
		text = fmt.Appendln(text, p)
	}
	sum := sha256.Sum256(text)
	return Group(sum[:16])
}

// Valid returns what is wrong with vantage and quorum, in the words of the Corefile, or nil.
func (t Terms) Valid() error {
	switch q := t.Quorum; {
	case t.Vantage < 1 || t.Vantage > MaxVantage:
		return fmt.Errorf("invalid vantage %d: use a count from 1 to %d", t.Vantage, MaxVantage)
	case q.Percent < 0 || q.Percent > 100:
		return fmt.Errorf("invalid quorum %s: use a share from 1%% to 100%%", q)
	case q.Percent == 0 && q.Count < 1:
		return fmt.Errorf("invalid quorum %s: use a count from 1, or a share, such as 18%%", q)
	case q.Percent == 0 && q.Count > t.Vantage:
		return fmt.Errorf("invalid quorum %s: there are %d vantage points; use a count up to that, or a share, such as 18%%", q, t.Vantage)
	}
	return nil
}

// Compare orders groups.
func (g Group) Compare(other Group) int { return bytes.Compare(g[:], other[:]) }

// Target is a target as members name it to each other.
type Target struct {
	Group Group
	Addr  netip.AddrPort // port 0 if the check uses none
	Owner string         // the name that is asked for, in lower case; empty for a check that does not depend on it
}

// sayable reports whether the target may be named to others: an address with a zone means nothing there.
func (t Target) sayable() bool {
	return t.Addr.IsValid() && t.Addr.Addr().Zone() == "" && len(t.Owner) <= maxOwner
}

// Shard is a part of the targets of a group, from 0 to Shards-1.
type Shard uint16

// Shard returns the shard that the target is in, which is the same in every process.
func (t Target) Shard() Shard { return Shard(t.hash() >> 32 % Shards) }

// hash is the same in every process, so it has no key. The authors of records could choose addresses that meet in one shard. All
// they get by it is that its vantage points probe what their own Corefiles allow, up to max_targets.
func (t Target) hash() uint64 {
	raw := t.Addr.Addr().As16()
	h := mix(binary.BigEndian.Uint64(t.Group[:8]) ^ uint64(t.Addr.Port()))
	h = mix(h ^ binary.BigEndian.Uint64(t.Group[8:]))
	h = mix(h ^ binary.BigEndian.Uint64(raw[:8]))
	h = mix(h ^ binary.BigEndian.Uint64(raw[8:]))
	if t.Owner != "" {
		h = mix(h ^ textHash(t.Owner))
	}
	return h
}

// textHash is the same in every process. SHA-256 is cut short here, so that names cannot be chosen to collide with those of others.
func textHash(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:8])
}

// mix spreads each bit of x over the result. It must never change: members of different versions have to agree on seats. It is
// the last step of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// part is n × h / 2⁶⁴: where the hash lies among n.
func part(h, n uint64) uint64 {
	high, _ := bits.Mul64(h, n)
	return high
}
