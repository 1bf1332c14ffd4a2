// Package topology says which site an address is in, and which site a client is near.
//
// Table is the main type: networks and their sites, as a file lists them (Parse) or as a cluster has them (FromZones). The
// rules locate the client of a query in it (Table.Locate); the policy then asks the Client how near each address of an
// answer is (Client.Place). A Table does not change, so that queries read it without a lock.
package topology

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// Site is the number of a site in a Table. The zero value is no site.
type Site uint32

// Table knows the sites of addresses and clients. The zero value knows none.
type Table struct {
	sites []siteInfo // by Site; the first one is no site, whose order is that of clients of no site

	members bart.Table[Site] // addresses that a site has
	clients bart.Table[Site] // clients of a site: its members, and more
	labels  []*label         // each with all its values; the first line that fits a query decides, for clients that no network holds
	bounds  bounds           // the networks of clients, for the scope of an answer
}

// siteInfo is what a Table knows of a site.
type siteInfo struct {
	name  string
	hash  uint64          // of the name, the same in every process
	order map[Site]uint32 // where its clients go next: places from 1; nil if no line says so
}

// label is a piece of metadata of the query by which its client is in a site.
type label struct {
	name  string
	lines map[string]labelLine // by the value of the label; the first line of each

	// Many clients may be without a label that is right, such as those that *geoip* does not know. These tell it from one that
	// is misspelt, or that no plugin sets.
	found  atomic.Bool
	missed atomic.Uint32
}

// labelLine is what a line says of a value.
type labelLine struct {
	number int // of all that have labels, in the order of the file
	site   Site
}

// tellAfter is how many queries without a label, of none with it, are worth a line in the log.
const tellAfter = 1000

// isMissed counts a query without the label, and reports once that no query has it.
func (l *label) isMissed() bool {
	return !l.found.Load() && l.missed.Load() < tellAfter && l.missed.Add(1) == tellAfter
}

// Labels reports whether metadata of the query may decide about clients.
func (t *Table) Labels() bool { return len(t.labels) > 0 }

// Networks is how many networks the table has, of sites and of clients.
func (t *Table) Networks() int { return t.clients.Size() }

// Sites is how many sites the table has.
func (t *Table) Sites() int { return max(0, len(t.sites)-1) }

// Name returns the name of a site, and an empty one for no site.
func (t *Table) Name(s Site) string {
	if int(s) < len(t.sites) {
		return t.sites[s].name
	}
	return ""
}

// Of returns the site that has an address. It allocates nothing.
func (t *Table) Of(addr netip.Addr) Site {
	s, _ := t.members.Lookup(addr)
	return s
}

// Client is where the client of one query is. The zero value is a client of no site.
type Client struct {
	table *Table
	Site  Site
	// By is the network that decided, or a label if that did; both are empty for a client of no site.
	By    netip.Prefix
	label *label
	value string // of the label
	// Missing is a label that no query has had so far, and Asked is set if any was looked for.
	Missing string
	Asked   bool
	// Scope is the length of the network of clients who get the same site (RFC 7871, section 7.2.1). It may be longer than
	// that of the client's own network: then other clients in that get another site, or would if more of it were known.
	Scope int
}

// Lookup returns the value of a label in the metadata of a query, and whether it has one.
type Lookup func(label string) (value string, found bool)

// Locate finds the site of the client with this network: of the full length of an address if the client itself asks, or as
// long as a resolver sends it. The smallest network that holds all of it decides. If there is none, labels do, whose values
// lookup returns; it may be nil. Locate allocates nothing.
func (t *Table) Locate(client netip.Prefix, lookup Lookup) Client {
	c := Client{table: t}
	if !client.IsValid() {
		return c
	}
	client = netip.PrefixFrom(client.Addr(), client.Bits()).Masked()
	by, site, found := t.clients.LookupPrefixLPM(client)
	// A longer network than the client's may hold its address. It does not decide, but other clients are in it.
	longest, _, _ := t.clients.LookupPrefixLPM(netip.PrefixFrom(client.Addr(), client.Addr().BitLen()))
	c.Scope = t.bounds.scope(client.Addr(), max(0, longest.Bits()))
	if found {
		c.By, c.Site = by, site
		return c
	}
	if len(t.labels) > 0 {
		c.Scope = max(c.Scope, client.Bits()) // nothing tells which other clients have the same label
		if lookup != nil {
			c.locateBy(lookup)
		}
	}
	return c
}

// locateBy finds the site by the first line with a label that the query has. It looks up each label once.
func (c *Client) locateBy(lookup Lookup) {
	c.Asked = true
	first := 0
	for _, l := range c.table.labels {
		value, found := lookup(l.name)
		if !found {
			if l.isMissed() {
				c.Missing = l.name
			}
			continue
		}
		if !l.found.Load() { // to write only once
			l.found.Store(true)
		}
		if line, fits := l.lines[value]; fits && (c.label == nil || line.number < first) {
			c.label, c.value, c.Site, first = l, value, line.site, line.number
		}
	}
}

// Prefers reports whether the client has sites that it goes to first. A client of no site without an order has none.
func (c *Client) Prefers() bool {
	return c.table != nil && (c.Site != 0 || len(c.table.sites) > 0 && c.table.sites[0].order != nil)
}

// Name is the name of the client's site, and empty for a client of no site.
func (c *Client) Name() string {
	if c.table == nil {
		return ""
	}
	return c.table.Name(c.Site)
}

// Reason says what decided about the client's site: a network or a label, in the words of the file.
func (c *Client) Reason() string {
	switch {
	case c.label != nil:
		return c.label.name + "=" + c.value
	case c.By.IsValid():
		return c.By.String()
	}
	return "no network and no label"
}

const (
	// unordered is added to the places of sites that the order does not name. They follow those that it names.
	unordered = uint64(1) << 62
	// nowhere is the place of addresses in no site. They come last.
	nowhere = uint64(1) << 63
)

// Place returns how near an address is to the client: 0 in the client's own site, then by the order of sites. Addresses of one
// site have the same place. The seed draws the places of sites that the order does not name; with the same seed they are the
// same in every process. Place allocates nothing.
func (c *Client) Place(addr netip.Addr, seed uint64) uint64 {
	site := c.table.Of(addr)
	switch {
	case site == 0:
		return nowhere
	case site == c.Site:
		return 0
	}
	if place, named := c.table.sites[c.Site].order[site]; named {
		return uint64(place)
	}
	return unordered | mix(seed^c.table.sites[site].hash)>>2
}

// hashName hashes the name of a site by FNV-1a. It must never change: replicas of different versions have to agree.
func hashName(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Order lists the sites that the clients of a site go to after their own one, as far as a line of the file names them, for the
// status page.
func (t *Table) Order(s Site) string {
	if int(s) >= len(t.sites) {
		return ""
	}
	order := t.sites[s].order
	names := make([]string, len(order))
	for next, place := range order {
		names[place-1] = t.Name(next)
	}
	return strings.Join(names, " ")
}
