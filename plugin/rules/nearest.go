package rules

import (
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/topology"

	"github.com/coredns/coredns/plugin/metadata"
)

// Topology is where a stanza has its sites from: a file, or a cluster. Value is one atomic load.
type Topology interface{ Value() *topology.Table }

// location is where the client of an answer is, for stanzas with select nearest.
type location struct {
	topology.Client
	table   *topology.Table // in which it was found
	scope   int             // the longest of the sets that were chosen by it
	decides bool            // a set is not a dry run
}

// locate finds the client of the query in the topology of a stanza, once for all sets with the same one, and gives it to the
// draw. In a dry run the answer does not depend on the client. Stanzas with select nearest pay one allocation for it.
func (j *Judge) locate(s *Stanza, at *location, dry bool) {
	table := s.Topology.Value()
	client, subnet := j.clientPrefix()
	// An answer may have sets of several stanzas, mostly with the same topology.
	if at.table != table {
		var labels topology.Lookup
		if j.mark.Context != nil { // it is a query, and no question of our own or explanation
			labels = j.metadata
		}
		at.table, at.Client = table, table.Locate(client, labels)
	}
	j.Draw.Near = nil
	if at.Prefers() {
		j.Draw.Near = &at.Client
	}
	if dry {
		return
	}
	at.decides = true
	if subnet {
		at.scope = max(at.scope, at.Scope)
	}
}

// clientPrefix returns the network of the client: the subnet that the query carries for it (RFC 7871), as long as it is, else the
// sender's address. With a subnet of length 0 the client does not want to be known, so that the sender counts.
func (j *Judge) clientPrefix() (p netip.Prefix, subnet bool) {
	if o := ClientSubnet(j.Request); o != nil && o.SourceNetmask > 0 {
		addr, ok := netip.AddrFromSlice(o.Address)
		if !ok {
			return netip.Prefix{}, false
		}
		if o.Family == 1 {
			addr = addr.Unmap()
		}
		return netip.PrefixFrom(addr, min(int(o.SourceNetmask), addr.BitLen())), true
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1}) // of a question of our own
	if j.Remote != nil {
		addr = addressOf(j.Remote.RemoteAddr()).Unmap().WithZone("")
	}
	return netip.PrefixFrom(addr, addr.BitLen()), false
}

// metadata returns the value of a label that other plugins gave the query.
func (j *Judge) metadata(label string) (value string, found bool) {
	if f := metadata.ValueFunc(j.mark.Context, label); f != nil {
		return f(), true
	}
	return "", false
}

// noteLabels logs once that queries cannot have the labels of the topology, or do not have one of them.
func (j *Judge) noteLabels() {
	if j.at == nil || !j.at.Asked {
		return
	}
	s, name := j.Zone.Stanza, j.Request.Question[0].Name
	// Without metadata no query can have a label; with it, many may be without one that is right.
	if s.loggedMetadata.First() && metadata.Labels(j.mark.Context) == nil {
		s.Group.Warn("topology: queries such as %s have no labels, so that no line with a label decides: add metadata to this server block, with the plugin that sets them, or remove the labels (stanza at %s)", name, s.Group.At)
	} else if j.at.Missing != "" {
		s.Group.Warn("topology: no query had the label %s so far, so that no line with it decides: add the plugin that sets it to this server block, or correct its name (stanza at %s)", j.at.Missing, s.Group.At)
	}
}

// Scope returns how much of the client's network decided about the answer, in bits, and whether any of it did.
func (j *Judge) Scope() (bits uint8, decided bool) {
	if j.byClient {
		bits, decided = uint8(max(0, j.Draw.Client.Bits())), true
	}
	for _, at := range [2]*location{j.at, j.other} {
		if at != nil && at.decides {
			bits, decided = max(bits, uint8(at.scope)), true
		}
	}
	return bits, decided
}

// Located returns where the client of the query is, for an explanation; nil if no set was chosen by it.
func (j *Judge) Located() *topology.Client {
	if j.at == nil {
		return nil
	}
	return &j.at.Client
}

// Client returns the network that stands for the client where sites decide, for an explanation.
func (j *Judge) Client() netip.Prefix {
	p, _ := j.clientPrefix()
	return p
}
