package web

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// unreadNotes are notes on stanzas that a change has no effect on: they read another file of forced states, or do not read one. The
// change is made all the same, because an operator may want it so. A release has none: the file had no effect there before.
func unreadNotes(snap *status.Snapshot, file *acting.File) (notes []string) {
	made := file.Made
	if made == nil || made.State == "release" {
		return nil
	}
	var others []string // stanzas that may have an address that no probe is for
	more := 0
	for i := range snap.Summary.Stanzas {
		s := &snap.Summary.Stanzas[i]
		if s.Force == file.File {
			continue
		}
		reads := "does not read " + file.File
		if s.Force != "" {
			reads = fmt.Sprintf("reads %s, and not %s", s.Force, file.File)
		}
		switch words := judged(snap, s.At, made.Networks); {
		case len(words) == 0:
			others = append(others, s.At)
		case len(notes) < maxNotices:
			notes = append(notes, fmt.Sprintf("the stanza at %s judges %s, too, and %s: nothing changes there", s.At, networksText(words), reads))
		default:
			more++
		}
	}
	if more > 0 {
		notes = append(notes, fmt.Sprintf("the same holds for %s", counted(more, "more stanza", "more stanzas")))
	}
	// An only address is not probed because of its name, so that its stanza is not known.
	if missed := unprobed(snap, made.Networks); len(missed) > 0 && len(others) > 0 {
		list := strings.Join(others[:min(len(others), maxNotices)], ", ")
		if n := len(others) - maxNotices; n > 0 {
			list += fmt.Sprintf(" and %d more", n)
		}
		notes = append(notes, fmt.Sprintf("nothing changes for names of stanzas that do not read %s: those at %s", file.File, list))
	}
	return notes
}

// judged are those of the networks that have an address which a stanza judges now.
func judged(snap *status.Snapshot, stanza string, networks []string) []string {
	return slices.DeleteFunc(slices.Clone(networks), func(word string) bool {
		return !hasTarget(snap, word, func(t *status.Target) bool { return slices.Contains(stanzasOf(snap, t), stanza) })
	})
}

// stanzasOf are the stanzas that led to a target. While no answer has, they are those that name its check.
func stanzasOf(snap *status.Snapshot, t *status.Target) []string {
	if len(t.Stanzas) > 0 {
		return t.Stanzas
	}
	for i := range snap.Checks {
		if c := &snap.Checks[i]; c.Check == t.Check && c.Pace == t.Pace {
			return c.Stanzas
		}
	}
	return nil
}

// unprobed are those of the networks in which no address is probed.
func unprobed(snap *status.Snapshot, networks []string) []string {
	return slices.DeleteFunc(slices.Clone(networks), func(word string) bool {
		return hasTarget(snap, word, func(*status.Target) bool { return true })
	})
}

// hasTarget reports whether a network, or an address, has a target that is as asked for. A word that is neither has all.
func hasTarget(snap *status.Snapshot, word string, is func(*status.Target) bool) bool {
	p, err := netip.ParsePrefix(word)
	if addr, e := netip.ParseAddr(word); e == nil {
		p, err = addr.Prefix(addr.BitLen())
	}
	return err != nil || slices.ContainsFunc(snap.Targets, func(t status.Target) bool { return p.Contains(t.Address.Addr()) && is(&t) })
}
