// Package force has the states that the people who run the servers give to addresses, whatever is measured.
//
// States is the main type: what a file says of addresses and networks. File is such a file, read again and again while a
// Corefile that names it runs; Watcher knows all of them, so that a reload begins with what is in force. The rules ask a
// File about each address of an answer; the life cycle in the root opens, watches and releases the files.
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
	case f == Up && v.State() == verdict.Up:
		return verdict.Verdict{State: verdict.Up, Holds: time.Duration(v.Holds()) * time.Second}.Brief() // since always, so that it has its full share of samples
	case f == Up && v.State() != verdict.Unchecked:
		return verdict.Verdict{State: verdict.Up}.Brief()
	}
	return v
}

// States are the forced states in a file. They never change. The zero value forces nothing.
type States struct {
	four, six []lengthTable // the longest networks first
	count     [Drain + 1]int
	content   string // identifies the text that they were read from
}

// lengthTable has the forced networks of one length, by their first address.
type lengthTable struct {
	bits   int
	states map[netip.Addr]State
}

// For returns what is forced for an address: by the smallest network that holds it. It allocates nothing.
func (o *States) For(addr netip.Addr) State {
	tables := o.six
	if addr.Is4() {
		tables = o.four
	}
	for i := range tables {
		p, _ := addr.Prefix(tables[i].bits)
		if f := tables[i].states[p.Addr()]; f != None {
			return f
		}
	}
	return None
}

// Parse reads the text of a file: lines of a state and the addresses and networks that have it, with comments behind #.
// An error begins with the number of its line.
func Parse(content []byte) (*States, error) {
	networks := make(map[netip.Prefix]forcedAt)
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if err := readLine(networks, number, strings.Fields(string(line))); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
	}
	return statesOf(networks), nil
}

// forcedAt is the state of a network, and the line that says so.
type forcedAt struct {
	State
	word string
	line int
}

// readLine reads the words of a line: a state, and the networks that have it.
func readLine(networks map[netip.Prefix]forcedAt, number int, words []string) error {
	if len(words) == 0 {
		return nil
	}
	word := words[0]
	state, ok := stateWords[word]
	if !ok {
		return fmt.Errorf("unknown state %q%s", truncate(word), text.Suggest(truncate(word), slices.Sorted(maps.Keys(stateWords))))
	}
	if len(words) == 1 {
		return fmt.Errorf("%s without an address: use %s ADDRESS|NETWORK..., such as %s 192.0.2.1", word, word, word)
	}
	for _, arg := range words[1:] {
		p, err := parseNetwork(truncate(arg))
		if err != nil {
			return err
		}
		if before, twice := networks[p]; twice && before.State != state {
			return fmt.Errorf("%s is %s here, and %s on line %d: remove one of the two", p, word, before.word, before.line)
		} else if !twice {
			networks[p] = forcedAt{state, word, number}
		}
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

// parseNetwork reads a network, or an address, which is the network that holds nothing else.
func parseNetwork(arg string) (netip.Prefix, error) {
	_, notAddr := netip.ParseAddr(arg)
	if _, err := netip.ParsePrefix(arg); err != nil && notAddr != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network: use one such as 192.0.2.1 or 2001:db8::/32", arg)
	}
	n, err := network.Parse(arg)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr := n.Addr(); addr.Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in IPv6 form: use %s", arg, netip.PrefixFrom(addr.Unmap(), n.Bits()-96))
	}
	return n.Prefix, nil
}

// statesOf makes the tables.
func statesOf(networks map[netip.Prefix]forcedAt) *States {
	o := new(States)
	for p, at := range networks {
		tables := &o.six
		if p.Addr().Is4() {
			tables = &o.four
		}
		i, found := slices.BinarySearchFunc(*tables, p.Bits(), func(t lengthTable, bits int) int { return cmp.Compare(bits, t.bits) })
		if !found {
			*tables = slices.Insert(*tables, i, lengthTable{p.Bits(), make(map[netip.Addr]State)})
		}
		(*tables)[i].states[p.Addr()] = at.State
		o.count[at.State]++
	}
	return o
}
