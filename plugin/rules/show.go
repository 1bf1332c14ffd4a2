package rules

import "github.com/coredns-multivalue/multivalue/plugin/status/config"

// ShowConfig returns what the Corefile says of the stanzas of the block, and the values in effect, for the status page. It is made
// each time, because few look at it.
func (b *Block) ShowConfig() (all []config.Stanza) {
	for i, s := range b.stanzas {
		c := b.configs[i]
		shown := config.Stanza{At: c.At, Block: b.Keys, Zones: s.Group.Zones, Text: c.Text(), Properties: []config.Property{}}
		for _, p := range c.Properties() {
			shown.Properties = append(shown.Properties, config.Property(p))
		}
		all = append(all, shown)
	}
	return all
}
