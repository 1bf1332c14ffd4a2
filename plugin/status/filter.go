package status

import (
	"net/netip"
	"slices"
	"strings"
)

// Filter picks targets, names and changes. An empty field picks everything, and all fields must match, in any case.
type Filter struct {
	Query   string // words, all of which must be found: in a name, its outcome, an address, a check, a reason or a site; or a network, or a stanza
	Name    string // a part of the name
	Address string // a network such as 192.0.2.0/24, an address, one with its port, or a part of one
	State   string // the measured state; forced, for any forced state; drain, by hand or by its backend; or idle
	Check   string // a part of the text of the check, or in quotes all of it
}

// MaxWords is how many words a Query may have. Those after them are not looked at.
const MaxWords = 32

// matcher is a filter in the form that the methods below need.
type matcher struct {
	Filter
	network netip.Prefix   // Address, if it is a network, or an address without a port
	at      netip.AddrPort // Address, if it is an address with its port
	check   string         // Check, if it is a whole text
	words   []word         // of Query
	// outcomes has for names a bit for each word that is part of the words for the outcome of an answer.
	outcomes map[string]uint64
}

// word is a word of a query.
type word struct {
	text    string       // in lower case
	network netip.Prefix // if it is one
}

// matcher prepares a filter for a snapshot.
func (s *Snapshot) matcher(f Filter) *matcher {
	m := &matcher{Filter: f}
	m.Name, m.State, m.Address, m.Check = strings.ToLower(f.Name), strings.ToLower(f.State), strings.ToLower(f.Address), strings.ToLower(f.Check)
	if p, err := netip.ParsePrefix(f.Address); err == nil {
		m.network = p.Masked()
	} else if a, err := netip.ParseAddr(strings.Trim(f.Address, "[]")); err == nil { // and not 192.0.2.11 for 192.0.2.1
		m.network, _ = a.Prefix(a.BitLen())
	} else if at, err := netip.ParseAddrPort(f.Address); err == nil {
		m.at = at
	}
	if text, ok := strings.CutPrefix(m.Check, `"`); ok && strings.HasSuffix(text, `"`) { // no check begins with a quote
		m.check = strings.TrimSuffix(text, `"`)
	}
	for text := range strings.FieldsSeq(strings.ToLower(f.Query)) {
		w := word{text: text}
		if p, err := netip.ParsePrefix(text); err == nil {
			w.network = p.Masked()
		}
		if m.words = append(m.words, w); len(m.words) == MaxWords {
			break
		}
	}
	if len(m.words) > 0 {
		m.outcomes = s.outcomes(m.words)
	}
	return m
}

// outcomes has for each name the words of a query that are its outcome, by the last answers: as the page labels them, or its first
// sentence, or JSON. All words for an outcome have to be there, one after another: "not filtered" is not "filtered".
func (s *Snapshot) outcomes(words []word) map[string]uint64 {
	all := make(map[string]uint64)
	for i := range s.Names {
		n := &s.Names[i]
		for j := range n.Answers {
			for _, phrase := range n.Answers[j].phrases() {
				if bits := foundPhrase(words, phrase); bits != 0 {
					all[n.Name] |= bits
				}
			}
		}
	}
	return all
}

// phrases are the words for the outcome of an answer. That of a dry run is not what the first sentence counts.
func (a *Last) phrases() [][]string {
	t := OutcomeOf(a.Outcome, a.Checked, a.Health)
	if a.DryRun && t.Value != "whole" && t.Value != "none" {
		return [][]string{strings.Fields(t.Label), {"dry", "run"}, {"(dry", "run)"}}
	}
	return phrasesOf[t.Value]
}

// phrasesOf has the words for each outcome, and for what stands in place of one, in lower case.
var phrasesOf = func() map[string][][]string {
	all := make(map[string][][]string)
	for _, t := range slices.Concat(Outcomes, Instead) {
		one, many := t.InSentence()
		for _, text := range []string{t.Value, t.Label, one, many} {
			for _, words := range [][]string{strings.Fields(text), strings.Fields(strings.ReplaceAll(text, ",", ""))} {
				if len(words) > 0 {
					all[t.Value] = append(all[t.Value], words)
				}
			}
		}
	}
	return all
}()

// foundPhrase has a bit for each word of a query that is part of a phrase which is in it as a whole, and not behind "not".
func foundPhrase(words []word, phrase []string) (bits uint64) {
	for i := 0; i+len(phrase) <= len(words); i++ {
		same := i == 0 || words[i-1].text != "not"
		for j := range phrase {
			same = same && words[i+j].text == phrase[j]
		}
		if same {
			bits |= (1<<len(phrase) - 1) << i
		}
	}
	return bits
}

// all has a bit for each word.
func (m *matcher) all() uint64 { return 1<<len(m.words) - 1 }

// found has a bit for each word that a target has in anything but its names.
func (m *matcher) found(t *Target) (bits uint64) {
	if len(m.words) == 0 {
		return 0
	}
	texts := [...]string{t.Address.String(), strings.ToLower(t.Check), strings.ToLower(t.Reason), strings.ToLower(t.Site)}
	for i, w := range m.words {
		if w.network.IsValid() && w.network.Contains(t.Address.Addr()) ||
			slices.ContainsFunc(texts[:], func(text string) bool { return strings.Contains(text, w.text) }) ||
			slices.ContainsFunc(t.Stanzas, func(at string) bool { return strings.EqualFold(at, w.text) }) {
			bits |= 1 << i
		}
	}
	return bits
}

// foundIn has a bit for each word that a name has, or the outcome of its answers.
func (m *matcher) foundIn(name string) (bits uint64) {
	bits = m.outcomes[name]
	for i, w := range m.words {
		if strings.Contains(name, w.text) {
			bits |= 1 << i
		}
	}
	return bits
}

// foundInNames has a bit for each word that any name of a target has.
func (m *matcher) foundInNames(t *Target) uint64 {
	bits := m.foundIn(t.Name)
	for _, name := range t.Names {
		bits |= m.foundIn(name)
	}
	return bits
}

// matchesName reports whether any name of a target matches: the one it was learned by, or one that leads to it now.
func (m *matcher) matchesName(t *Target) bool {
	return strings.Contains(t.Name, m.Name) || slices.ContainsFunc(t.Names, func(name string) bool { return strings.Contains(name, m.Name) })
}

// matchesState reports whether a target is in the state. Each target has one measured state, so that those of all states add up.
func (m *matcher) matchesState(t *Target) bool {
	switch m.State {
	case "":
		return true
	case "forced":
		return t.Forced != ""
	case "drain":
		return t.Forced == "drain" || t.Drained
	case "idle":
		return t.Idle
	}
	return t.State == m.State
}

// matchesCheck reports whether the check of a target matches.
func (m *matcher) matchesCheck(t *Target) bool {
	text := strings.ToLower(t.Check)
	if m.check != "" {
		return text == m.check
	}
	return strings.Contains(text, m.Check)
}

// fits reports whether a target matches all but the words.
func (m *matcher) fits(t *Target) bool {
	switch {
	case !m.matchesState(t), m.Name != "" && !m.matchesName(t), m.Check != "" && !m.matchesCheck(t):
		return false
	case m.network.IsValid():
		return m.network.Contains(t.Address.Addr())
	case m.at.IsValid():
		return m.at == t.Address
	}
	return m.Address == "" || strings.Contains(t.Address.String(), m.Address)
}

// matches reports whether a target matches.
func (m *matcher) matches(t *Target) bool {
	return m.fits(t) && (len(m.words) == 0 || m.found(t)|m.foundInNames(t) == m.all())
}

// matchesChange reports whether a change matches. By name it also matches the names that lead to the target now, which the
// change does not have, and by forced, drain and idle what the target is now. By a measured state it matches the one before the
// change and the one after.
func (s *Snapshot) matchesChange(m *matcher, c *Change) bool {
	t := Target{Address: c.Address, Check: c.Check, Name: c.Name, State: c.To, Reason: c.Reason}
	for _, now := range s.At(c.Address) {
		if now.Check == c.Check {
			t.Names, t.Site, t.Stanzas = now.Names, now.Site, now.Stanzas
			t.Force, t.Drained, t.Idle = now.Force, now.Drained, now.Idle
		}
	}
	if m.State == c.From {
		t.State = c.From
	}
	return m.matches(&t)
}

// FilterTargets returns the targets that match, in the order of the snapshot. They belong to the snapshot: do not change
// them.
func (s *Snapshot) FilterTargets(f Filter) []*Target {
	m := s.matcher(f)
	var picked []*Target
	for i := range s.Targets {
		if t := &s.Targets[i]; m.matches(t) {
			picked = append(picked, t)
		}
	}
	return picked
}

// FilterChanges returns those of the changes that match, in their order. The changes are of this snapshot or older.
func (s *Snapshot) FilterChanges(f Filter, changes []Change) []Change {
	m := s.matcher(f)
	var picked []Change
	for i := range changes {
		if s.matchesChange(m, &changes[i]) {
			picked = append(picked, changes[i])
		}
	}
	return picked
}

// FilterNames returns the names that match, in the order of the snapshot. A filter by address, state or check picks the
// names that lead to a target which matches those. A word of a query is in the name, or in a target that it leads to.
func (s *Snapshot) FilterNames(f Filter) []*Name {
	m := s.matcher(f)
	targets := m.Address != "" || m.State != "" || m.Check != "" // the name alone does not do
	leading := s.leading(m, targets)
	var picked []*Name
	for i := range s.Names {
		n := &s.Names[i]
		alone := !targets && m.foundIn(n.Name) == m.all()
		if strings.Contains(n.Name, m.Name) && (alone || leading[n.Name]) {
			picked = append(picked, n)
		}
	}
	return picked
}

// leading has the names that lead to a target which matches, together with the name itself.
func (s *Snapshot) leading(m *matcher, targets bool) map[string]bool {
	if !targets && len(m.words) == 0 {
		return nil
	}
	wide := *m
	wide.Name = "" // FilterNames matches the name: a target may match by another of its names
	leading := make(map[string]bool)
	for i := range s.Targets {
		t := &s.Targets[i]
		if !wide.fits(t) {
			continue
		}
		bits := m.found(t)
		for _, name := range t.Names {
			if bits|m.foundIn(name) == m.all() {
				leading[name] = true
			}
		}
	}
	return leading
}

// CountStates counts the targets that the filter picks by each state. Those that are measured add up to all targets.
func (s *Snapshot) CountStates() map[string]int {
	counts := make(map[string]int)
	for i := range s.Targets {
		t := &s.Targets[i]
		counts[t.State]++
		if t.Forced != "" {
			counts["forced"]++
		}
		if t.Forced == "drain" || t.Drained {
			counts["drain"]++
		}
		if t.Idle {
			counts["idle"]++
		}
	}
	return counts
}
