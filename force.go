package multivalue

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

	"github.com/coredns/caddy"
)

// force is what an address counts as by the word of whoever runs the servers, whatever its checks say.
type force uint8

const (
	forceNone  force = iota
	forceUp          // fit
	forceDown        // down
	forceDrain       // while it is fit, the last resort of its set
)

// forceWords are the words for them in a file.
var forceWords = map[string]force{"up": forceUp, "down": forceDown, "drain": forceDrain}

// String is the word for it in a file, empty for none.
func (f force) String() string { return [...]string{"", "up", "down", "drain"}[f] }

// on is what an address counts as that is believed to be v.
func (f force) on(v verdict.Brief) verdict.Brief {
	switch {
	case f == forceDown:
		return verdict.BriefDown
	case f == forceDrain:
		return v.Drain()
	case f == forceUp && v.State() == verdict.Up:
		return verdict.Verdict{State: verdict.Up, Holds: time.Duration(v.Holds()) * time.Second}.Brief() // since ever
	case f == forceUp && v.State() != verdict.Unchecked:
		return verdict.Verdict{State: verdict.Up}.Brief()
	}
	return v
}

// orders are the forced states in a file. They are never changed. The zero value forces nothing.
type orders struct {
	four, six []orderTable // the longest networks first
	count     [forceDrain + 1]int
	content   string // stands for the text that they were read from
}

// orderTable are the forced networks of one length, by their first address.
type orderTable struct {
	bits   int
	states map[netip.Addr]force
}

// of is what is forced for an address: by the smallest network that holds it.
func (o *orders) of(addr netip.Addr) force {
	tables := o.six
	if addr.Is4() {
		tables = o.four
	}
	for i := range tables {
		p, _ := addr.Prefix(tables[i].bits)
		if f := tables[i].states[p.Addr()]; f != forceNone {
			return f
		}
	}
	return forceNone
}

// parseForce takes note of the file. What is in it is no part of the Corefile: a mistake there stops no server.
func parseForce(s *parsedStanza, c *caddy.Controller, args []string) error {
	if s.force = args[0]; s.force == "" {
		return c.Errf("force names no file: want the path of one")
	}
	return nil
}

// parseOrders reads the text of a file. An error begins with the line that it is on.
func parseOrders(text []byte) (*orders, error) {
	networks := make(map[netip.Prefix]forcedAt)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if err := readOrder(networks, number, strings.Fields(string(line))); err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
	}
	return ordersOf(networks), nil
}

// forcedAt is the state of a network, and the line that says so.
type forcedAt struct {
	force
	word string
	line int
}

// readOrder reads a line: a word, and the networks that it is about.
func readOrder(networks map[netip.Prefix]forcedAt, number int, words []string) error {
	if len(words) == 0 {
		return nil
	}
	word := words[0]
	state, ok := forceWords[word]
	if !ok {
		return fmt.Errorf("unknown state %q%s", clip(word), text.Suggest(clip(word), slices.Sorted(maps.Keys(forceWords))))
	}
	if len(words) == 1 {
		return fmt.Errorf("%s is said of no address: want %s ADDRESS|NETWORK..., such as %s 192.0.2.1", word, word, word)
	}
	for _, text := range words[1:] {
		p, err := parseForced(clip(text))
		if err != nil {
			return err
		}
		if before, twice := networks[p]; twice && before.force != state {
			return fmt.Errorf("%s is %s here, and %s on line %d: want one of the two", p, word, before.word, before.line)
		} else if !twice {
			networks[p] = forcedAt{state, word, number}
		}
	}
	return nil
}

// longestNetwork is more than the text of any network has.
const longestNetwork = 64

// clip cuts a word that is too long to be anything, so that no log line is as long as a file.
func clip(word string) string {
	if len(word) > longestNetwork {
		return word[:longestNetwork] + "…"
	}
	return word
}

// parseForced reads a network, or an address, which is the network that holds nothing else.
func parseForced(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, and no record does: want it without one", text)
		}
		if addr.Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%q is an IPv4 address in the form of IPv6: want %s", text, addr.Unmap())
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if _, err := netip.ParsePrefix(text); err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network: want one such as 192.0.2.1 or 2001:db8::/32", text)
	}
	n, err := network.Parse(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr := n.Addr(); addr.Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in the form of IPv6: want %s", text, netip.PrefixFrom(addr.Unmap(), n.Bits()-96))
	}
	return n.Prefix, nil
}

// ordersOf makes the tables.
func ordersOf(networks map[netip.Prefix]forcedAt) *orders {
	o := new(orders)
	for p, at := range networks {
		tables := &o.six
		if p.Addr().Is4() {
			tables = &o.four
		}
		i, found := slices.BinarySearchFunc(*tables, p.Bits(), func(t orderTable, bits int) int { return cmp.Compare(bits, t.bits) })
		if !found {
			*tables = slices.Insert(*tables, i, orderTable{p.Bits(), make(map[netip.Addr]force)})
		}
		(*tables)[i].states[p.Addr()] = at.force
		o.count[at.force]++
	}
	return o
}
