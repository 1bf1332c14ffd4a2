package force

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin("multivalue")

// Line is a line of a file that has a reason, an end, or both. It does not change.
type Line struct {
	Number   int // in the file, from 1
	State    State
	Networks string    // as written, if there is an end, which the log tells; empty otherwise
	Until    time.Time // from then on it does not count; zero if it has no end. The wall clock decides
	Reason   string    // the comment behind it, printable and at most maxReason bytes long; empty if there is none

	warned atomic.Bool // the log has said that it will end
}

const (
	// until is the word before the end of a line.
	until = "until"
	// maxReason is how many bytes of a comment are kept.
	maxReason = 200
	// warnBefore is how long before the end of a line the log says so.
	warnBefore = 5 * time.Minute
)

// cutUntil splits the words of a line behind its state into networks and the time at the end.
func cutUntil(words []string) (networks []string, end time.Time, err error) {
	word, args := words[0], words[1:]
	for i, w := range args {
		if w != until {
			continue
		}
		if len(args) != i+2 {
			return nil, end, fmt.Errorf("use one time behind until, at the end of the line, such as until 2026-11-30T08:00:00+01:00")
		}
		if end, err = time.Parse(time.RFC3339, args[i+1]); err != nil {
			return nil, end, fmt.Errorf("invalid time %q: use a date, a time and its zone, such as 2026-11-30T08:00:00+01:00 or 2026-11-30T07:00:00Z", truncate(args[i+1]))
		}
		args = args[:i]
		break
	}
	if len(args) == 0 {
		return nil, end, fmt.Errorf("%s without an address: use %s ADDRESS|NETWORK..., such as %s 192.0.2.1", word, word, word)
	}
	return args, end, nil
}

// reason makes a comment fit for a page and a log line: without what is not printable, and not too long.
func reason(comment []byte) string {
	text := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, string(comment))
	text = strings.TrimSpace(text)
	if len(text) > maxReason {
		text = text[:maxReason]
		for !utf8.ValidString(text) { // a character may have been cut
			text = text[:len(text)-1]
		}
	}
	return text
}

// endsBefore reports whether another line, which may be nil, holds for longer.
func (l *Line) endsBefore(other *Line) bool {
	if l == nil || l.Until.IsZero() {
		return false
	}
	return other == nil || other.Until.IsZero() || other.Until.After(l.Until)
}

// over reports whether the line does not count any more. Until has no monotonic reading, so the wall clock is compared.
func (l *Line) over(now time.Time) bool {
	return l != nil && !l.Until.IsZero() && !now.Before(l.Until)
}

// String is the line for the log: state, networks, and the reason in quotes.
func (l *Line) String() string {
	text := l.State.String() + " " + truncate(l.Networks)
	if l.Reason != "" {
		text += fmt.Sprintf(" (%q)", l.Reason)
	}
	return text
}

// at returns what counts of a whole file at a time: last, if that is the same as then.
func (o *States) at(last *States, now time.Time) *States {
	ended := 0
	for _, l := range o.lines {
		if l.over(now) {
			ended++
		}
	}
	switch {
	case last != nil && last.ended == ended:
		return last
	case ended == 0:
		return o
	}
	part := &States{ended: ended, count: o.count}
	part.four, part.six = part.without(o.four, now), part.without(o.six, now)
	return part
}

// without copies tables, but for what does not count any more.
func (o *States) without(tables []lengthTable, now time.Time) []lengthTable {
	var left []lengthTable
	for _, t := range tables {
		states := maps.Clone(t.states)
		maps.DeleteFunc(states, func(_ netip.Addr, f forced) bool {
			if f.line.over(now) {
				o.count[f.State]--
				return true
			}
			return false
		})
		if len(states) > 0 {
			left = append(left, lengthTable{t.bits, states})
		}
	}
	return left
}

// tellEnds logs which lines of a file have ended since before, and which will soon.
func tellEnds(path string, o *States, before, now time.Time) {
	for _, l := range o.lines {
		left := l.Until.Sub(now)
		switch {
		case left <= 0 && l.Until.After(before):
			log.Infof("force: %s:%d: %s has ended, at %s", path, l.Number, l, l.Until.Format(time.RFC3339))
		case left > 0 && left <= warnBefore && !l.warned.Swap(true):
			log.Infof("force: %s:%d: %s ends at %s", path, l.Number, l, l.Until.Format(time.RFC3339))
		}
	}
}
