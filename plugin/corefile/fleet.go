package corefile

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/coredns/caddy"
)

// Here is how the property fleet is read, and what its fleets have to be alike in. Package fleet says what the values do. Which of
// them a share or a count may have is for that package, too, so that all who make a fleet are told the same.

// Defaults of a fleet. Those of vantage and quorum are in package fleet, because members have to have the same ones.
const (
	defaultFleetName   = "multivalue"
	defaultFleetListen = ":9254" // next to the port of the status
	// maxFleetText is the longest name or site, in bytes: each member tells it the others.
	maxFleetText = 63
	// keyBytes is how long a key is, as in package gossip.
	keyBytes = 32
)

// Fleet is how a stanza shares its targets with other servers. Peers, endpoints and Advertise have a port, names of files are as in
// the Corefile, and Version is empty.
type Fleet struct {
	membership.Config               // what this process is as a member, the same in all stanzas but for the peers or endpoints
	Vantage           int           // how many members probe a target
	Quorum            answer.Quorum // of the votes that find it up
}

// fleetProperty is how one property in the block of a fleet is read. None may repeat.
type fleetProperty struct {
	usage    string // what follows its name
	min, max int    // values on the line
	over     carrier
	parse    func(f *Fleet, values []string) error
}

// carrier is what carries the words of a fleet: its members themselves, or an etcd.
type carrier int

const (
	overAny carrier = iota
	overPeers
	overStore
)

// fleetProperties are all of them. A new one is a row here, a parser, a field of Fleet, a place in the manual, and a row in
// difference if it is the same for the whole process. Those of an etcd are parsed in store.go.
var fleetProperties = map[string]fleetProperty{
	"key":         {"FILE", 1, 1, overPeers, one(parseFleetKey)},
	"vantage":     {"COUNT", 1, 1, overAny, one(parseVantage)},
	"quorum":      {"COUNT|PERCENT%", 1, 1, overAny, one(parseQuorum)},
	"site":        {"TEXT", 1, 1, overAny, one(func(f *Fleet, value string) error { return parseFleetText("site", value, &f.Site) })},
	"listen":      {"[ADDRESS]:PORT", 1, 1, overPeers, one(parseListen)},
	"advertise":   {"ADDRESS[:PORT]", 1, 1, overPeers, one(parseAdvertise)},
	"name":        {"TEXT", 1, 1, overAny, one(func(f *Fleet, value string) error { return parseFleetText("name", value, &f.Name) })},
	"tls":         {"[CERT KEY] [CA]", 0, 3, overStore, parseStoreTLS},
	"credentials": {"FILE", 1, 1, overStore, one(parseStoreCredentials)},
	"prefix":      {"PATH", 1, 1, overStore, one(parseStorePrefix)},
}

// one is the parser of a property with one value.
func one(parse func(f *Fleet, value string) error) func(*Fleet, []string) error {
	return func(f *Fleet, values []string) error { return parse(f, values[0]) }
}

// parseFleet reads the members to begin with, or the endpoints of an etcd, and the block. What depends on other lines of the block
// waits until it is read, in whatever order they are. What depends on the checks waits for checkShared.
func parseFleet(s *Config, c *caddy.Controller, args []string) error {
	f := &Fleet{Config: membership.Config{Name: defaultFleetName}, Vantage: fleet.Defaults().Vantage, Quorum: fleet.Defaults().Quorum}
	peers, err := f.parseMembers(args)
	if err != nil {
		return c.Errf("fleet: %v", err)
	}
	s.Fleet = f
	if c.NextArg() { // it can only be the brace that RemainingArgs stopped at
		if err := s.parseFleetBlock(c, f); err != nil {
			return err
		}
	}
	// Over etcd, nothing listens and nothing is sealed, so neither a port nor a key is missing.
	if !f.UsesStore() {
		if err := s.completePeers(f, peers); err != nil {
			return err
		}
	}
	return s.checkTerms(f)
}

// parseMembers reads what follows the word fleet. A member without a port has that of listen, which the block may name, so members
// are returned as they are.
func (f *Fleet) parseMembers(args []string) (peers []place, err error) {
	// One word is enough to mean an etcd: what stands beside it is then a mistake that its parser explains.
	if slices.ContainsFunc(args, namesStore) {
		f.Store.Prefix = defaultPrefix
		f.Store.Endpoints, err = parseEndpoints(args)
		return nil, err
	}
	f.Listen = defaultFleetListen
	for _, arg := range args {
		peer, err := parsePeer(arg)
		if err != nil {
			return nil, err
		}
		peers = append(peers, peer)
	}
	return peers, nil
}

// parseFleetBlock reads the properties in the block. The controller is at the opening brace.
func (s *Config) parseFleetBlock(c *caddy.Controller, f *Fleet) error {
	// The lines are noted as "fleet key", which no property of a stanza is called. A stanza has one fleet, so that is enough.
	isKnown := func(word string) bool { _, ok := fleetProperties[word]; return ok }
	return s.readBlock(c, "fleet", "a property", isKnown, func(line int, name string, values []string) error {
		p, ok := fleetProperties[name]
		switch inner := "fleet " + name; {
		case name == "{": // also one that RemainingArgs stopped at, in the line before
			return c.Errf("fleet: unexpected { in its block: no property of fleet has a block of its own")
		case !ok:
			return c.Errf("fleet: unknown property %q%s", name, text.Suggest(name, slices.Sorted(maps.Keys(fleetProperties))))
		case s.lines[inner] != 0:
			return c.Errf("fleet: duplicate %s, first on line %d", name, s.lines[inner])
		case p.over == overPeers && f.UsesStore():
			return c.Errf("fleet: %s is for members that talk to each other, and these meet in an etcd: remove it; tls and credentials say how to use the etcd", name)
		case p.over == overStore && !f.UsesStore():
			return c.Errf("fleet: %s is for a fleet over etcd, and this one names members: remove it, or write etcd://HOST:PORT in place of the members", name)
		case len(values) < p.min || len(values) > p.max:
			return c.Errf("fleet: %s takes %s, not %d: use %s %s", name, property{min: p.min, max: p.max}.arity(), len(values), name, p.usage)
		default:
			s.lines[inner], s.files[inner] = line, c.File()
		}
		if err := p.parse(f, values); err != nil {
			return c.Errf("fleet: %v", err)
		}
		return nil
	})
}

// completePeers fills in the ports that are those of listen, and looks for what a fleet without an etcd needs. It is called when all
// of the block has been read, as is checkTerms.
func (s *Config) completePeers(f *Fleet, peers []place) error {
	_, port, _ := net.SplitHostPort(f.Listen)
	for _, p := range peers {
		peer := net.JoinHostPort(p.host, cmp.Or(p.port, port))
		if slices.Contains(f.Peers, peer) {
			return s.ErrorAt("fleet", "fleet: duplicate member %s", peer)
		}
		f.Peers = append(f.Peers, peer)
	}
	// The port of advertise is empty if none was written.
	if host, own, _ := net.SplitHostPort(f.Advertise); host != "" {
		f.Advertise = net.JoinHostPort(host, cmp.Or(own, port))
	}
	if f.Key == "" {
		return s.ErrorAt("fleet", "fleet needs a key: add key FILE to its block, with a line of `openssl rand -base64 32` in that file, the same one for all members")
	}
	return nil
}

// checkTerms looks for a vantage and a quorum that cannot be.
func (s *Config) checkTerms(f *Fleet) error {
	// Which of the two is wrong decides the line. The default quorum is right for every vantage, so with it only vantage can be wrong.
	if err := (fleet.Terms{Vantage: f.Vantage, Quorum: fleet.Defaults().Quorum}).Valid(); err != nil {
		return s.ErrorAt("fleet vantage", "fleet: %w", err)
	}
	if err := (fleet.Terms{Vantage: f.Vantage, Quorum: f.Quorum}).Valid(); err != nil {
		return s.ErrorAt("fleet quorum", "fleet: %w", err)
	}
	return nil
}

// parseFleetKey notes the file, as the Corefile names it. Its content is not part of the Corefile: the engine reads it, again when
// it changes.
func parseFleetKey(f *Fleet, value string) error {
	switch f.Key = value; {
	case value == "":
		return errors.New("key without a file: name its path")
	case isKey(value):
		return errors.New("key names a file, and this looks like the key itself: write it into a file that only the user of this process can read, and name that; " +
			"if others could read this Corefile, make another key with: openssl rand -base64 32")
	}
	return nil
}

// isKey reports whether a value is a key in place of the name of its file. An error with it would put the key into the log.
func isKey(value string) bool {
	// Without its padding, a key could be the path of a file as well. With it, no file is called so.
	value = strings.NewReplacer("-", "+", "_", "/").Replace(value)
	raw, err := base64.StdEncoding.DecodeString(value)
	return err == nil && len(raw) == keyBytes && strings.HasSuffix(value, "=")
}

// parseVantage reads how many members probe a target. Whether so many may is for package fleet to say.
func parseVantage(f *Fleet, value string) (err error) {
	if f.Vantage, err = strconv.Atoi(value); err != nil {
		return fmt.Errorf("invalid vantage %q: use a count from 1 to %d", value, fleet.MaxVantage)
	}
	return nil
}

// parseQuorum reads how many votes find a target up, or what share of them. Whether so many are possible is for package fleet to say,
// which takes a share of 0 for a count of 0.
func parseQuorum(f *Fleet, value string) error {
	number, share := strings.CutSuffix(value, "%")
	n, err := strconv.Atoi(number)
	switch {
	case share && (err != nil || n < 1):
		return fmt.Errorf("invalid quorum %q: use a share from 1%% to 100%%", value)
	case err != nil:
		return fmt.Errorf("invalid quorum %q: use a count from 1, or a share, such as %s", value, fleet.Defaults().Quorum)
	case share:
		f.Quorum = answer.Quorum{Percent: n}
	default:
		f.Quorum = answer.Quorum{Count: n}
	}
	return nil
}

// parseFleetText reads a word that members tell each other. It may come from the environment, which a mistake leaves empty: in
// Kubernetes, for one, the site may be the zone of the node.
func parseFleetText(what, value string, into *string) error {
	// What people cannot see would make two words differ that look the same. The lexer puts RuneError for what is not UTF-8.
	switch unprintable := func(r rune) bool { return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r) }; {
	case value == "":
		return fmt.Errorf("%s is empty: leave it out, or write a word; if it is a variable of the environment, set it", what)
	case len(value) > maxFleetText:
		return fmt.Errorf("%s %q has %d bytes: use at most %d", what, value, len(value), maxFleetText)
	case strings.ContainsFunc(value, unprintable):
		return fmt.Errorf("invalid %s %q: use one word of printable characters", what, value)
	}
	*into = value
	return nil
}

// checkShared looks for a fleet in which nothing is shared, and notes checks that are not. It is called when all checks are known.
// That each member has the program or the address, too, would not help: the programs may differ, and the addresses do.
func (s *Config) checkShared() error {
	if s.Fleet == nil {
		return nil
	}
	shared := s.Annotations != nil // those of Services can be
	for _, c := range s.Checks {
		shared = shared || !c.OfThisHost()
	}
	if !shared {
		return s.ErrorAt("fleet", "fleet: exec and from are never shared, and this stanza has no check without them: add one, or remove fleet")
	}
	for _, c := range s.Checks {
		if c.OfThisHost() {
			s.Notices = append(s.Notices, fmt.Sprintf("%s - fleet does not share check %s: exec and from belong to one server, so each member asks this one for itself", s.Where("fleet"), c))
		}
	}
	return nil
}

// Fleets are the fleets of all stanzas of a Corefile, which are one: a process is one member. Its zero value is none.
type Fleets struct {
	Config membership.Config // with the peers, or the endpoints, of all stanzas
	first  *Config           // the stanza that said it
}

// Include adds the fleet of a stanza, if it has one, and refuses one that cannot be the same. A path in the Corefile is relative to
// something that is not in the stanza, so a function says what file it means. What is refused leaves everything as it was.
func (f *Fleets) Include(s *Config, path func(string) string) error {
	if s.Fleet == nil {
		return nil
	}
	own := s.Fleet.Config
	// What follows may quote the names of files.
	if own.Store.Credentials != "" && isPassword(own.Store.Credentials, path) {
		return s.ErrorAt("fleet credentials", "fleet: %w", errPassword)
	}
	// Files are compared as what they mean, because the roots of two server blocks may differ.
	for _, file := range []*string{&own.Key, &own.Store.Cert, &own.Store.Key, &own.Store.CA, &own.Store.Credentials} {
		if *file != "" {
			*file = path(*file)
		}
	}
	// The sum is changed by later stanzas, and what a stanza says is not.
	if f.first == nil {
		f.Config, f.first = own, s
		f.Config.Peers, f.Config.Store.Endpoints = slices.Clone(own.Peers), slices.Clone(own.Store.Endpoints)
		return nil
	}
	// The error is at the line of the second stanza, and names that of the first.
	// Of two engines, all that belongs to one would differ: so this is told before what differs.
	if own.UsesStore() != f.Config.UsesStore() {
		says := map[bool]string{false: "names members", true: "names an etcd"}
		return s.ErrorAt("fleet", "fleet: this stanza %s, and the stanza at %s %s: a process is a member of one fleet, so write the same",
			says[own.UsesStore()], f.first.Where("fleet"), says[f.Config.UsesStore()])
	}
	if property, has, had := difference(own, f.Config); property != "" {
		// Another place, or other keys, are another fleet. The rest is what one member says of itself.
		why := "they are one member, so write the same"
		if property == "listen" || property == "prefix" {
			why = "a process is a member of one fleet, so write the same"
		}
		return s.ErrorAt(s.inFleet(property), "fleet: %s, and the stanza at %s has %s: %s", has, f.first.Where(f.first.inFleet(property)), had, why)
	}
	// More members to begin with do no harm, and neither do more endpoints of the same etcd.
	f.Config.Peers = union(f.Config.Peers, own.Peers)
	f.Config.Store.Endpoints = union(f.Config.Store.Endpoints, own.Store.Endpoints)
	return nil
}

// union adds those places to some that are not among them.
func union(all, more []string) []string {
	for _, place := range more {
		if !slices.Contains(all, place) {
			all = append(all, place)
		}
	}
	return all
}

// Failed is an error of the fleet that is found when it is opened, at the line of the stanza that said it first.
func (f *Fleets) Failed(err error) error { return f.first.ErrorAt("fleet", "fleet: %w", err) }

// inFleet is where to look for the line of a property in the block of the fleet: at fleet itself if it has none.
func (s *Config) inFleet(property string) string {
	if _, ok := s.lines["fleet "+property]; ok {
		return "fleet " + property
	}
	return "fleet"
}

// difference is the first property that two fleets of one process must not differ in and do, and what either says of it. Places are
// compared as they are written: ":9254" and "0.0.0.0:9254" are not the same where there is IPv6. Peers and endpoints may differ.
func difference(a, b membership.Config) (property, ofA, ofB string) {
	say := func(value string) string {
		if value == "" {
			return "no " + property
		}
		return strings.TrimRight(property+" "+value, " ")
	}
	for _, x := range []struct{ property, a, b string }{
		{"listen", a.Listen, b.Listen}, {"key", a.Key, b.Key}, {"name", a.Name, b.Name},
		{"advertise", a.Advertise, b.Advertise}, {"site", a.Site, b.Site},
		{"prefix", a.Store.Prefix, b.Store.Prefix}, {"tls", tlsWords(a.Store), tlsWords(b.Store)}, {"credentials", a.Store.Credentials, b.Store.Credentials},
	} {
		if x.a != x.b {
			property = x.property
			return property, say(x.a), say(x.b)
		}
	}
	return "", "", ""
}
