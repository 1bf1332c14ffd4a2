package rules

// TextOf returns a stanza of the block as it is written, without comments and secrets, for an explanation.
func (b *Block) TextOf(s *Stanza) string {
	for i, other := range b.stanzas {
		if other == s {
			return b.configs[i].Text()
		}
	}
	return ""
}
