// Package force has the states that the people who run the servers give to addresses, whatever is measured.
//
// States is the main type: what a file says of addresses and networks. File is such a file, which internal/follow reads again
// and again while a Corefile that names it runs; Watcher knows all of them. The rules ask what is in force about each address
// of an answer; the life cycle in the root opens, watches and releases the files.
package force

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// State is what an address counts as by a file, whatever its checks say.
type State uint8

const (
	// None is the state of an address that no line is about.
	None State = iota
	// Up makes an address fit.
	Up
	// Down makes an address count as down.
	Down
	// Drain makes an address the last resort of its set while it is fit.
	Drain
)

// stateWords are the words for the states in a file.
var stateWords = map[string]State{"up": Up, "down": Down, "drain": Drain}

// String is the word for the state in a file, empty for None.
func (f State) String() string { return [...]string{"", "up", "down", "drain"}[f] }

// Apply returns what an address counts as whose checks say v. An address that no check covers stays unchecked with Up: it
// is served either way, and there is no verdict to bound its TTL.
func (f State) Apply(v verdict.Brief) verdict.Brief {
	switch {
	case f == Down:
		return verdict.BriefDown
	case f == Drain:
		return v.Drain()
	case f == Up:
		return v.ForceUp()
	}
	return v
}

// States are the forced states in a file, or those of them that count at some time. They never change. The zero value forces nothing.
type States struct {
	four, six []lengthTable // the longest networks first
	count     [Drain + 1]int
	lines     []*Line // of a whole file: those that have an end
	ended     int     // how many of these do not count any more
}

// lengthTable has the forced networks of one length, by their first address.
type lengthTable struct {
	bits   int
	states map[netip.Addr]forced
}

// forced is the state of a network, and the line that says so if there is more to tell of it; otherwise line is nil.
type forced struct {
	State
	line *Line
}

// For returns what is forced for an address: by the smallest network that holds it. It allocates nothing.
func (o *States) For(addr netip.Addr) State { return o.find(addr).State }

// Note returns the line that decides about an address, if it has a reason or an end; nil otherwise.
func (o *States) Note(addr netip.Addr) *Line { return o.find(addr).line }

// find returns what the smallest network that holds an address has: one map look-up for each length that the file has, the
// longest first. An address without any has no state.
func (o *States) find(addr netip.Addr) forced {
	tables := o.six
	if addr.Is4() {
		tables = o.four
	}
	for i := range tables {
		p, _ := addr.Prefix(tables[i].bits)
		if f := tables[i].states[p.Addr()]; f.State != None {
			return f
		}
	}
	return forced{}
}

// Parse reads the text of a file: lines of a state and the addresses and networks that have it, perhaps until a time, with
// comments behind #. An error begins with the number of its line.
func Parse(content []byte) (*States, error) {
	now := time.Now() // a line that has ended does not contradict another one
	networks := make(map[netip.Prefix]forcedAt)
	number := 0
	for line := range bytes.Lines(content) {
		number++
		if err := readLine(networks, number, line, now); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
	}
	return statesOf(networks), nil
}

// forcedAt is the state of a network, and the line that says so.
type forcedAt struct {
	forced
	number int
}

// readLine reads a line: a state, the networks that have it, until when, and why.
func readLine(networks map[netip.Prefix]forcedAt, number int, text []byte, now time.Time) error {
	before, comment, _ := bytes.Cut(text, []byte("#"))
	words := strings.Fields(string(before))
	if len(words) == 0 {
		return nil
	}
	state, err := readState(words[0])
	if err != nil {
		return err
	}
	args, until, err := cutUntil(words)
	if err != nil {
		return err
	}
	l := &Line{Number: number, State: state, Until: until, Reason: reason(comment)}
	switch {
	case !until.IsZero():
		l.Networks = strings.Join(args, " ")
	case l.Reason == "":
		l = nil
	}
	for _, arg := range args {
		n, err := network.ParseWord(truncate(arg))
		if err != nil {
			return err
		}
		if err := force(networks, n.Prefix, forcedAt{forced{state, l}, number}, now); err != nil {
			return err
		}
	}
	return nil
}

// readState reads the first word of a line.
func readState(word string) (State, error) {
	state, ok := stateWords[word]
	if !ok {
		return None, fmt.Errorf("unknown state %q%s", truncate(word), text.Suggest(truncate(word), slices.Sorted(maps.Keys(stateWords))))
	}
	return state, nil
}

// force adds a network, unless another line that has not ended gives it another state. Of two lines with the same state, the one
// that holds for longer counts.
func force(networks map[netip.Prefix]forcedAt, p netip.Prefix, f forcedAt, now time.Time) error {
	before, twice := networks[p]
	switch {
	case twice && before.State != f.State && before.line.over(now):
		networks[p] = f
	case twice && before.State != f.State && f.line.over(now):
	case !twice || before.State == f.State && before.line.endsBefore(f.line):
		networks[p] = f
	case before.State != f.State:
		return fmt.Errorf("%s is %s here, and %s on line %d: remove one of the two", p, f.State, before.State, before.number)
	}
	return nil
}

// longestNetwork is longer than the text of any network.
const longestNetwork = 64

// truncate cuts a word that is too long to be valid, so that no log line is as long as a file.
func truncate(word string) string {
	if len(word) > longestNetwork {
		return word[:longestNetwork] + "…"
	}
	return word
}

// statesOf makes the tables.
func statesOf(networks map[netip.Prefix]forcedAt) *States {
	o := new(States)
	timed := make(map[*Line]bool)
	for p, at := range networks {
		tables := &o.six
		if p.Addr().Is4() {
			tables = &o.four
		}
		i, found := slices.BinarySearchFunc(*tables, p.Bits(), func(t lengthTable, bits int) int { return cmp.Compare(bits, t.bits) })
		if !found {
			*tables = slices.Insert(*tables, i, lengthTable{p.Bits(), make(map[netip.Addr]forced)})
		}
		(*tables)[i].states[p.Addr()] = at.forced
		o.count[at.State]++
		if at.line != nil && !at.line.Until.IsZero() {
			timed[at.line] = true
		}
	}
	o.lines = slices.SortedFunc(maps.Keys(timed), func(a, b *Line) int { return cmp.Compare(a.Number, b.Number) })
	return o
}
