package topology

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/network"
)

const (
	// MaxSize is the largest size of a file in bytes.
	MaxSize = 16 << 20
	// maxNetworks is how many networks a table may have, of sites and of clients together.
	maxNetworks = 100_000
	// maxLabels is how many labels a file may have: a query looks for each of them.
	maxLabels = 256
	// anywhere stands in an order for the clients of no site.
	anywhere = "*"
)

// words are the first words of lines, with their parsers.
var words = map[string]func(b *builder, args []string) error{
	"site":    (*builder).addSite,
	"clients": (*builder).addClients,
	"order":   (*builder).addOrder,
}

// Parse reads the text of a file:
//
//	site NAME NETWORK...                    the addresses and clients of a site
//	clients NAME NETWORK...|LABEL=VALUE...  more clients of a site
//	order NAME|*: SITE...                   where the clients of a site, or of none, go next
//
// A word that begins with # begins a comment. An error begins with the number of its line.
func Parse(content []byte) (*Table, error) {
	b := newBuilder()
	for line := range bytes.Lines(content) {
		b.number++
		args := strings.Fields(string(line))
		if i := slices.IndexFunc(args, func(word string) bool { return word[0] == '#' }); i >= 0 {
			args = args[:i]
		}
		if len(args) == 0 {
			continue
		}
		parse, ok := words[args[0]]
		if !ok {
			return nil, b.errorf("unknown word %q%s", truncate(args[0]), text.Suggest(truncate(args[0]), []string{"clients", "order", "site"}))
		}
		if err := parse(b, args[1:]); err != nil {
			return nil, b.errorf("%w", err)
		}
	}
	return b.table()
}

// FromZones returns the table of a cluster, whose sites are its zones: for addresses and clients alike. Of two entries with one
// network the first one counts. The cluster bounds their number.
func FromZones(entries []Entry) *Table {
	b := newBuilder()
	for _, e := range entries {
		if _, twice := b.members[e.Network]; !twice {
			b.members[e.Network] = claim{site: b.site(e.Site)}
		}
	}
	t, _ := b.table() // there is no line that could be wrong
	return t
}

// claim is a line's claim that a network is of a site.
type claim struct {
	site Site
	line int
}

// builder collects what lines say until all of them are known.
type builder struct {
	*Table
	numbers  map[string]Site
	number   int // of the line
	members  map[netip.Prefix]claim
	clients  map[netip.Prefix]claim
	orders   []order
	ordered  map[string]int // the lines of orders, by site
	labelled int            // lines with labels so far
	owned    map[Site]bool  // sites that a site line names
	named    []claim        // sites that other lines name, which have to be owned
}

// order is a line that says where the clients of a site go next.
type order struct {
	line  int
	of    string
	sites []string
}

func newBuilder() *builder {
	b := &builder{Table: new(Table), ordered: make(map[string]int), members: make(map[netip.Prefix]claim), clients: make(map[netip.Prefix]claim), owned: make(map[Site]bool)}
	b.sites, b.numbers = []siteInfo{{}}, make(map[string]Site)
	return b
}

// errorf is an error at the line.
func (b *builder) errorf(format string, args ...any) error {
	return fmt.Errorf("%d: %w", b.number, fmt.Errorf(format, args...))
}

// site returns the number of a site, which it adds if it is new.
func (b *builder) site(name string) Site {
	s, known := b.numbers[name]
	if !known {
		s = Site(len(b.sites))
		b.sites, b.numbers[name] = append(b.sites, siteInfo{name: name, hash: hashName(name)}), s
	}
	return s
}

// addSite reads networks whose addresses, and clients, are in a site.
func (b *builder) addSite(args []string) error {
	if len(args) < 2 {
		return errors.New("use site NAME NETWORK..., such as site ams 192.0.2.0/24")
	}
	if err := checkName(args[0]); err != nil {
		return err
	}
	s := b.site(args[0])
	b.owned[s] = true
	for _, arg := range args[1:] {
		if err := b.claim(b.members, s, arg); err != nil {
			return err
		}
	}
	return nil
}

// addClients reads networks and labels whose clients are in a site.
func (b *builder) addClients(args []string) error {
	if len(args) < 2 {
		return errors.New("use clients NAME NETWORK...|LABEL=VALUE..., such as clients ams 198.51.100.0/24")
	}
	if err := checkName(args[0]); err != nil {
		return err
	}
	s := b.site(args[0])
	b.named = append(b.named, claim{s, b.number})
	for _, arg := range args[1:] {
		name, value, isLabel := strings.Cut(arg, "=")
		if !isLabel {
			if err := b.claim(b.clients, s, arg); err != nil {
				return err
			}
			continue
		}
		if !strings.Contains(name, "/") || value == "" {
			return fmt.Errorf("invalid label %q: use PLUGIN/NAME=VALUE, such as geoip/continent/code=EU", truncate(arg))
		}
		if b.addLabel(name, value, s); b.labelled > maxLabels {
			return fmt.Errorf("more than %d labels: use networks", maxLabels)
		}
	}
	return nil
}

// addLabel notes that clients with a value of a label are of a site. Of two lines with the same value the first one counts.
func (b *builder) addLabel(name, value string, s Site) {
	i := slices.IndexFunc(b.labels, func(l *label) bool { return l.name == name })
	if i < 0 {
		i, b.labels = len(b.labels), append(b.labels, &label{name: name, lines: make(map[string]labelLine)})
	}
	b.labelled++
	if _, twice := b.labels[i].lines[value]; !twice {
		b.labels[i].lines[value] = labelLine{b.labelled, s}
	}
}

// claim notes that a network is of a site, unless another line says that it is of another one.
func (b *builder) claim(claims map[netip.Prefix]claim, s Site, arg string) error {
	n, err := network.ParseWord(truncate(arg))
	if err != nil {
		return err
	}
	if before, twice := claims[n.Prefix]; twice && before.site != s {
		return fmt.Errorf("%s is in site %s here, and in site %s on line %d: remove one of the two", n.Prefix, b.Name(s), b.Name(before.site), before.line)
	} else if twice {
		return nil
	}
	if len(b.members)+len(b.clients) == maxNetworks {
		return fmt.Errorf("more than %d networks: use fewer, larger ones", maxNetworks)
	}
	claims[n.Prefix] = claim{s, b.number}
	return nil
}

// addOrder reads where the clients of a site go next.
func (b *builder) addOrder(args []string) error {
	if len(args) > 1 && args[1] == ":" { // "order ams : fra" is as clear
		args = append([]string{args[0] + ":"}, args[2:]...)
	}
	if len(args) < 2 || !strings.HasSuffix(args[0], ":") {
		return errors.New("use order NAME: SITE..., such as order ams: fra lon, or order *: SITE... for clients of no site")
	}
	o := order{b.number, strings.TrimSuffix(args[0], ":"), args[1:]}
	if before, twice := b.ordered[o.of]; twice {
		return fmt.Errorf("duplicate order of %s, first on line %d", truncate(o.of), before)
	}
	b.ordered[o.of] = b.number
	b.orders = append(b.orders, o)
	return nil
}

// table returns the finished table, once it is known which sites there are.
func (b *builder) table() (*Table, error) {
	for _, c := range b.named {
		if !b.owned[c.site] {
			b.number = c.line
			return nil, b.errorf("site %s has no addresses: add a line such as site %s 192.0.2.0/24", b.Name(c.site), b.Name(c.site))
		}
	}
	for _, o := range b.orders {
		b.number = o.line
		if err := b.apply(o); err != nil {
			return nil, b.errorf("%w", err)
		}
	}
	t := b.Table
	var networks []netip.Prefix
	for p, c := range b.members {
		t.members.Insert(p, c.site)
		t.clients.Insert(p, c.site)
		networks = append(networks, p)
	}
	for p, c := range b.clients { // for clients, they beat what a site has
		t.clients.Insert(p, c.site)
		networks = append(networks, p)
	}
	t.bounds = newBounds(networks)
	return t, nil
}

// apply gives a site its order.
func (b *builder) apply(o order) error {
	var of Site
	if o.of != anywhere {
		s, known := b.numbers[o.of]
		if !known {
			return b.unknown(o.of)
		}
		of = s
	}
	places := make(map[Site]uint32, len(o.sites))
	for _, name := range o.sites {
		s, known := b.numbers[name]
		switch {
		case !known:
			return b.unknown(name)
		case s == of:
			return fmt.Errorf("order of %s names %s itself, which always comes first: leave it out", name, name)
		case places[s] != 0:
			return fmt.Errorf("duplicate site %s in the order of %s", name, o.of)
		}
		places[s] = uint32(len(places) + 1)
	}
	b.sites[of].order = places
	return nil
}

// unknown is the error about a site without a line.
func (b *builder) unknown(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	var names []string
	for known := range b.numbers {
		if len(names) < 100 { // so that an error never takes long
			names = append(names, known)
		}
	}
	if nearest := text.DidYouMean(truncate(name), names); nearest != "" {
		return fmt.Errorf("unknown site %q%s", truncate(name), nearest)
	}
	return fmt.Errorf("unknown site %q: add a line such as site %s 192.0.2.0/24", truncate(name), truncate(name))
}

// checkName refuses names that could not be written elsewhere, such as in an order or a metric.
func checkName(name string) error {
	for _, r := range name {
		if !(r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return fmt.Errorf("invalid site %q: use letters, digits, dots, - and _", truncate(name))
		}
	}
	if len(name) > longestName {
		return fmt.Errorf("site %q is too long: use at most %d letters", truncate(name), longestName)
	}
	return nil
}

const longestName = 63

// truncate cuts a word that is too long to be valid, so that no log line is as long as a file.
func truncate(word string) string {
	if len(word) > 2*longestName {
		return word[:2*longestName] + "…"
	}
	return word
}
