package force

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/network"
)

// Here is how a change becomes a new text of the file. What belongs to others stays as it is, byte for byte: their lines, comments,
// line ends, and the order of all of them.

const (
	// maxChanged is how many networks one change may name, and maxNotes how many of its notes are told.
	maxChanged = 256
	maxNotes   = 16
	// maxLines is how many lines of a file are listed, and maxNetworks how many networks they have together: a reader of the page
	// needs no token, and a file may have half a million lines.
	maxLines    = 1000
	maxNetworks = 10_000
	// maxAhead is the latest end of a line: later ones are mistyped.
	maxAhead = 10 * 365 * 24 * time.Hour
	// release is the word of a change that takes networks out of the file.
	release = "release"
)

// change is a change that could be made.
type change struct {
	State    // None to release
	networks []netip.Prefix
	until    time.Time // zero for no end
	reason   string
}

// parseChange reads a change. Each network counts once. What it accepts is what the reader of the file accepts on a line, so that a
// mistake is told to the person who makes it, and not found in the file. Nothing of a change is written as it came: words are
// written from what they mean, and a reason has no line break, so that none can make a second line.
func parseChange(c acting.Change, now time.Time) (x change, err error) {
	if x.State = stateWords[c.State]; x.State == None && c.State != release {
		return x, fmt.Errorf("unknown state %q: use drain, down, up or release", truncate(c.State))
	}
	if n := len(c.Networks); n == 0 || n > maxChanged {
		return x, fmt.Errorf("%d networks: use 1 to %d addresses or networks, such as 192.0.2.1 or 192.0.2.0/24", n, maxChanged)
	}
	for _, word := range c.Networks {
		n, err := network.ParseWord(truncate(strings.TrimSpace(word)))
		if err != nil {
			return x, err
		}
		if !slices.Contains(x.networks, n.Prefix) {
			x.networks = append(x.networks, n.Prefix)
		}
	}
	x.reason = reason([]byte(c.Reason))
	if x.State == None {
		if c.Until != "" {
			return x, errors.New("release has no end: leave until empty")
		}
		return x, nil
	}
	x.until, err = endOf(c.Until, now)
	return x, err
}

// endOf reads the end of a change, in UTC and whole seconds: the file is read by people, elsewhere and later.
func endOf(text string, now time.Time) (end time.Time, err error) {
	switch ahead, relative := strings.CutPrefix(text, "+"); {
	case text == "":
		return end, nil
	case relative: // a zone of the client's clock does not matter
		d, err := time.ParseDuration(ahead)
		if err != nil || d < time.Second || ahead[0] == '+' || ahead[0] == '-' {
			return end, fmt.Errorf("invalid until %q: use how long from now, such as +30m or +2h, or a time such as 2026-11-30T08:00:00Z", truncate(text))
		}
		end = now.Add(min(d, 2*maxAhead))
	default:
		if end, err = time.Parse(time.RFC3339, text); err != nil {
			return end, fmt.Errorf("invalid until %q: use a date, a time and its zone, such as 2026-11-30T08:00:00+01:00, or how long from now, such as +2h", truncate(text))
		}
	}
	// An end that is over, or after the lifetime of the file, is a mistake, and would not be noticed in the file.
	switch end = end.UTC().Truncate(time.Second); {
	case !end.After(now):
		return end, fmt.Errorf("until %s is over: use a time to come", end.Format(time.RFC3339))
	case end.Sub(now) > maxAhead:
		return end, fmt.Errorf("until %s is more than ten years ahead: use an earlier time, or none", end.Format(time.RFC3339))
	}
	return end, nil
}

// edit returns the text of a file after a change. A network of the change is first taken out of all lines that name it exactly, so
// that a line with it contradicts no other, and an earlier end or reason does not outlive a new one.
func edit(content []byte, x change) []byte {
	var out []byte
	for line := range bytes.Lines(content) {
		out = append(out, without(line, x.networks)...)
	}
	if x.State == None {
		return out
	}
	// The new line is the last one. Where it is does not matter to the reader, and people find the latest change at the end.
	end := lineEnd(content)
	// A last line without an end gets one: else the new words would be part of it, or of its comment.
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, end...)
	}
	return append(append(out, x.line()...), end...)
}

// lineEnd is how the lines of a file end: as the first one does. An editor of Windows writes CRLF, and one LF among them would make
// it show the whole file in one line.
func lineEnd(content []byte) string {
	if i := bytes.IndexByte(content, '\n'); i > 0 && content[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// line is the line that a change adds.
func (x change) line() string {
	words := []string{x.State.String()}
	for _, p := range x.networks {
		words = append(words, wordOf(p))
	}
	if !x.until.IsZero() {
		words = append(words, until, x.until.Format(time.RFC3339))
	}
	if x.reason != "" {
		words = append(words, "#", x.reason)
	}
	return strings.Join(words, " ")
}

// wordOf is a network as people write it: an address without its length.
func wordOf(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// without takes networks out of a line, each with the space before it. A line that has no other network goes as a whole.
func without(line []byte, networks []netip.Prefix) []byte {
	rule, _, _ := bytes.Cut(line, []byte("#"))
	words := bytes.Fields(rule)
	if len(words) == 0 {
		return line
	}
	// Words are found in the order in which Fields has them. Between two is nothing but space, so the next place where a word can be
	// found is where it is, also if it is part of another one.
	var kept []byte
	from, others, found := 0, 0, false // from is how much of the line has been copied or skipped
	for i, word := range words {
		at := from + bytes.Index(line[from:], word)
		end := at + len(word)
		if string(word) == until { // an end follows, and no more networks
			break
		}
		if n, err := network.ParseWord(string(word)); i > 0 && err == nil && slices.Contains(networks, n.Prefix) {
			found = true
		} else {
			kept = append(kept, line[from:end]...)
			others += min(i, 1)
		}
		from = end
	}
	switch {
	case !found:
		return line
	case others == 0: // with its comment, which is the reason of what is gone
		return nil
	}
	return append(kept, line[from:]...)
}

// linesOf goes over the lines of a file that force something, as they are shown. The content has been parsed. Lines that have ended are
// among them, because they are in the file, and a change may take them out.
func linesOf(content []byte, now time.Time) iter.Seq[acting.Line] {
	return func(yield func(acting.Line) bool) {
		number := 0
		for text := range bytes.Lines(content) {
			number++
			rule, comment, _ := bytes.Cut(text, []byte("#"))
			words := strings.Fields(string(rule))
			if len(words) == 0 {
				continue
			}
			networks, end, err := cutUntil(words)
			if err != nil { // it cannot be: Parse has read this content
				continue
			}
			ended := !end.IsZero() && !now.Before(end)
			if !yield(acting.Line{Line: number, State: words[0], Networks: networks, Until: end, Ended: ended, Reason: reason(comment)}) {
				return
			}
		}
	}
}

// firstLines are the lines that are listed, and how many more there are. Of those, nothing is kept.
func firstLines(content []byte, now time.Time) (first []acting.Line, more int) {
	first = []acting.Line{}
	networks := 0
	for line := range linesOf(content, now) {
		networks += len(line.Networks)
		if more > 0 || len(first) == maxLines || networks > maxNetworks {
			more++
			continue
		}
		first = append(first, line)
	}
	return first, more
}

// made is a change as it is in the file, for the log.
func (x change) made() *acting.Line {
	line := &acting.Line{State: x.State.String(), Until: x.until, Reason: x.reason}
	if x.State == None {
		line.State = release
	}
	for _, p := range x.networks {
		line.Networks = append(line.Networks, wordOf(p))
	}
	return line
}

// unnamed says which networks a change would release that no line of the file names: they are mistyped, or released already.
func unnamed(lines iter.Seq[acting.Line], x change) []string {
	if x.State != None {
		return nil
	}
	left := slices.Clone(x.networks)
	for l := range lines {
		for _, word := range l.Networks {
			if n, err := network.ParseWord(word); err == nil {
				left = slices.DeleteFunc(left, func(p netip.Prefix) bool { return p == n.Prefix })
			}
		}
	}
	var notes []string
	for _, p := range left {
		notes = append(notes, "no line names "+wordOf(p))
	}
	return notes
}

// notesOf says what a change does not do, because of other lines of the file that it makes: a smaller network wins over a larger
// one, so one that is released may still be forced by a larger one, and in one that is forced, others may have another state. The
// change is made all the same: that is how the file works, and a person may want just that.
func notesOf(lines iter.Seq[acting.Line], x change) []string {
	var notes []string
	for l := range lines {
		for _, word := range l.Networks {
			n, err := network.ParseWord(word)
			if err != nil || l.Ended {
				continue
			}
			for _, p := range x.networks {
				// Networks that are the same are not in other lines any more: edit has taken them out.
				inner, outer := n.Bits() > p.Bits() && p.Contains(n.Addr()), n.Bits() < p.Bits() && n.Contains(p.Addr())
				switch {
				case outer && x.State == None:
					notes = append(notes, fmt.Sprintf("%s is still %s, by line %d about %s", wordOf(p), forcedWord(l.State), l.Line, word))
				case inner && x.State == None:
					notes = append(notes, fmt.Sprintf("%s is still %s, by line %d", word, forcedWord(l.State), l.Line))
				case inner && l.State != x.State.String():
					notes = append(notes, fmt.Sprintf("%s stays %s, by line %d: the smaller network wins", word, forcedWord(l.State), l.Line))
				}
			}
		}
		if len(notes) > maxNotes {
			break
		}
	}
	return fewNotes(notes)
}

// fewNotes bounds how many notes are told.
func fewNotes(notes []string) []string {
	if len(notes) > maxNotes {
		return append(notes[:maxNotes:maxNotes], "and more")
	}
	return notes
}

// forcedWord is the state of an address that a line of the file forces, in a sentence.
func forcedWord(state string) string {
	if state == "drain" {
		return "drained"
	}
	return "forced " + state
}
