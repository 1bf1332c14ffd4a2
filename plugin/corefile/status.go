package corefile

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/status/web"

	"github.com/coredns/caddy"
)

// Here is how the block of status is read, and what the stanzas of a Corefile that show the same page have to be alike in.

const (
	// maxPeers is how many other pages a page links to, and maxPeerURL the longest address of one, in bytes.
	maxPeers   = 32
	maxPeerURL = 512
)

// StatusBlock is what the block of a status has. Files are as in the Corefile.
type StatusBlock struct {
	Admin string   // the file of forced states that the page may change; empty if it may change nothing
	Token string   // the file with the token that such a change needs; empty if it needs none
	Peers []string // URLs of the pages of other replicas
	Hosts []string // names by which clients may ask for the page, besides the host in the address
}

// statusProperties are the properties in the block. None may repeat.
var statusProperties = map[string]struct {
	usage    string
	min, max int
	parse    func(b *StatusBlock, values []string) error
}{
	"admin": {"FILE", 1, 1, func(b *StatusBlock, v []string) error { return parseStatusFile("admin", v[0], &b.Admin) }},
	"token": {"FILE", 1, 1, func(b *StatusBlock, v []string) error { return parseStatusFile("token", v[0], &b.Token) }},
	"peers": {"URL...", 1, -1, parsePeerPages},
	"host":  {"NAME...", 1, -1, func(b *StatusBlock, v []string) (err error) { b.Hosts, err = parseStatusHosts(v); return err }},
}

// parseStatus notes where the stanza wants the status to be shown, and reads the block. Whether the place is an address is for
// package web to say, and whether its port is free shows when it is opened. What depends on the stanzas of other server blocks, as
// the file of admin does, waits for Pages.
func parseStatus(s *Config, c *caddy.Controller, args []string) error {
	s.Status = defaultStatus
	if len(args) > 0 {
		if s.Status = args[0]; args[0] == "" {
			return c.Errf("status with an empty address: use HOST:PORT, such as %s, or unix:PATH", defaultStatus)
		}
	}
	if _, _, err := web.Split(s.Status); err != nil {
		return c.Errf("status: %v", err)
	}
	if !c.NextArg() { // else it can only be the brace that RemainingArgs stopped at
		return nil
	}
	s.StatusBlock = new(StatusBlock)
	return s.parseStatusBlock(c)
}

// parseStatusBlock reads the properties in the block. The controller is at the opening brace. Their lines are noted as "status admin",
// which no property of a stanza is called.
func (s *Config) parseStatusBlock(c *caddy.Controller) error {
	isKnown := func(word string) bool { _, ok := statusProperties[word]; return ok }
	return s.readBlock(c, "status", "a property", isKnown, func(line int, name string, values []string) error {
		p, ok := statusProperties[name]
		switch inner := "status " + name; {
		case name == "{": // also one that RemainingArgs stopped at, in the line before
			return c.Errf("status: unexpected { in its block: no property of status has a block of its own")
		case !ok:
			return c.Errf("status: unknown property %q%s", name, text.Suggest(name, slices.Sorted(maps.Keys(statusProperties))))
		case s.lines[inner] != 0:
			return c.Errf("status: duplicate %s, first on line %d", name, s.lines[inner])
		case len(values) < p.min || p.max >= 0 && len(values) > p.max:
			return c.Errf("status: %s takes %s, not %d: use %s %s", name, property{min: p.min, max: p.max}.arity(), len(values), name, p.usage)
		default:
			s.lines[inner], s.files[inner] = line, c.File()
		}
		if err := p.parse(s.StatusBlock, values); err != nil {
			return c.Errf("status: %v", err)
		}
		return nil
	})
}

// parseStatusFile notes a file, as the Corefile names it.
func parseStatusFile(what, value string, into *string) error {
	if *into = value; value == "" {
		return fmt.Errorf("%s without a file: name its path", what)
	}
	return nil
}

// parsePeerPages reads the URLs of other pages. They are shown to all who read the page, so a password in one is refused. What is
// wrong is not quoted if it may hold one.
func parsePeerPages(b *StatusBlock, values []string) error {
	for _, value := range values {
		u, err := url.Parse(value)
		switch {
		case len(value) > maxPeerURL:
			return fmt.Errorf("a URL in peers has %d bytes: use at most %d", len(value), maxPeerURL)
		case err == nil && u.User != nil, err != nil && strings.Contains(value, "@"):
			return fmt.Errorf("a URL in peers has a user name or a password, which the page would show: leave it out")
		case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
			return fmt.Errorf("invalid URL %q in peers: use the address of another page, such as http://192.0.2.17:9253/", value)
		case slices.Contains(b.Peers, u.String()):
			return fmt.Errorf("duplicate URL %s in peers", u)
		}
		b.Peers = append(b.Peers, u.String())
	}
	if len(b.Peers) > maxPeers {
		return fmt.Errorf("peers has %d URLs: use at most %d", len(b.Peers), maxPeers)
	}
	return nil
}

// A file is compared as what it means, because the roots of two server blocks may differ, and an address as what is listened on:
// localhost and 127.0.0.1 are one. So the same words may differ, and different ones may be the same.

// page is an address at which a Corefile shows the status, and the stanza that its block is from; without a block, the first stanza
// that asks for it.
type page struct {
	web.Address
	place string // by which two addresses are the same
	from  *Config
}

// Pages are where the stanzas of one Corefile show the status. Those with the same address share a page. Its zero value is none.
type Pages struct {
	all    []*page
	forced map[string]bool // files that a force names
}

// Include adds what a stanza says of status and force. Only the caller knows what file a path in the Corefile means.
func (p *Pages) Include(s *Config, file func(string) string) error {
	if s.Force != "" {
		if p.forced == nil {
			p.forced = make(map[string]bool)
		}
		p.forced[file(s.Force)] = true
	}
	if s.Status == "" {
		return nil
	}
	own := &page{web.Address{Address: s.Status, At: s.Where("status")}, web.Place(s.Status), s}
	if err := s.checkActing(own.place); err != nil {
		return err
	}
	if b := s.StatusBlock; b != nil {
		own.Peers, own.Hosts, own.TokenAt = b.Peers, b.Hosts, s.Where("status token")
		if b.Admin != "" {
			own.Admin = file(b.Admin)
		}
		if b.Token != "" {
			own.Token = file(b.Token)
		}
	}
	return p.merge(own)
}

// checkActing looks for a page that would let others act than those who are meant to.
func (s *Config) checkActing(place string) error {
	// Who may open a socket in the file system is what its owner and mode say. A port is open to all that reach the address, and on
	// loopback that is every program of the machine, and every web site in a browser there.
	b := s.StatusBlock
	switch {
	case b == nil:
		return nil
	case len(b.Hosts) > 0 && strings.HasPrefix(place, "unix:"):
		return s.ErrorAt("status host", "status: host has no effect on a socket, which accepts any: leave it out")
	case b.Admin == "" && b.Token != "":
		return s.ErrorAt("status token", "status: token has no effect without admin: add admin FILE, or remove token")
	case b.Admin == "" || strings.HasPrefix(place, "unix:"):
		return nil
	case !isLoopback(s.Status) || !isLoopback(place):
		return s.ErrorAt("status admin", "status: admin on %s, which other hosts may reach: use localhost or a loopback address, such as %s, or unix:PATH", s.Status, defaultStatus)
	case b.Token == "":
		return s.ErrorAt("status admin", "status: admin on %s needs a token, because any program of this machine can connect there: add token FILE, made with: openssl rand -hex 32; or use unix:PATH", s.Status)
	}
	return nil
}

// merge adds a page, or its block to the page of another stanza. Two blocks must say the same.
func (p *Pages) merge(own *page) error {
	i := slices.IndexFunc(p.all, func(x *page) bool { return x.place == own.place })
	if i < 0 { // the first stanza that asks for it
		p.all = append(p.all, own)
		return nil
	}
	first := p.all[i]
	switch {
	// One of them without a block asks for the page as it is.
	case own.from.StatusBlock == nil:
	case first.from.StatusBlock == nil:
		p.all[i] = own
	case own.Admin != first.Admin || own.Token != first.Token || !slices.Equal(own.Peers, first.Peers) || !slices.Equal(own.Hosts, first.Hosts):
		return own.from.ErrorAt("status", "status: the block differs from that of the same page at %s: write the same, or leave one of the two blocks out", first.At)
	}
	return nil
}

// Shown returns the pages, when all stanzas are known. It refuses one that may change a file which no force names: what it
// writes there would have no effect.
func (p *Pages) Shown() ([]web.Address, error) {
	var pages []web.Address
	for _, x := range p.all {
		if x.Admin != "" && !p.forced[x.Admin] {
			return nil, x.from.ErrorAt("status admin", "status: admin %s, and no force of this Corefile names that file: %s", x.Admin, p.suggestForce(x.Admin))
		}
		pages = append(pages, x.Address)
	}
	return pages, nil
}

// suggestForce says which file would be right.
func (p *Pages) suggestForce(file string) string {
	if len(p.forced) == 0 {
		return "add force " + file + " to a stanza"
	}
	return "use " + strings.Join(slices.Sorted(maps.Keys(p.forced)), " or ") + ", or add force " + file + " to a stanza"
}
