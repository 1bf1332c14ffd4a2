package corefile

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
)

// allDownWords are the values of all_down that stand alone, besides a name.
var allDownWords = []string{"nodata", "serve", "servfail"}

// parseAllDown reads what to answer if no address is healthy: one of three words alone, addresses to answer with instead, or
// another name alone, whose addresses take over. Addresses are answered by A and AAAA records, so they must belong to one host.
func parseAllDown(s *Config, c *caddy.Controller, args []string) error {
	p := &s.Policy
	if len(args) == 1 && p.AllDown.Set(args[0]) {
		return nil
	}
	if name, err := parseAnother(args[0]); err == nil {
		if len(args) > 1 {
			return c.Errf("all_down %s cannot be combined with other values: use one name alone, or addresses", args[0])
		}
		p.AllDown, p.Another = answer.Named, name
		s.origins = plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys)
		return nil
	}
	p.AllDown = answer.Fixed // unless an argument turns out to be something else
	for _, arg := range args {
		if slices.Contains(allDownWords, arg) {
			return c.Errf("all_down %s cannot be combined with other values: use serve, nodata or servfail alone, or addresses", arg)
		}
		if _, err := parseAnother(arg); err == nil {
			return c.Errf("all_down %s cannot be combined with other values: use one name alone, or addresses", arg)
		}
		addr, err := netip.ParseAddr(arg)
		// An IPv4 address in IPv6 form would be answered as an AAAA record, which is hardly what was meant.
		if err != nil || addr.Zone() != "" || addr.Is4In6() || !single(addr) {
			return c.Errf("invalid all_down %q: use serve, nodata, servfail or addresses, or one domain name with a dot in it%s", arg, text.DidYouMean(strings.ToLower(strings.Trim(arg, ".")), allDownWords))
		}
		if slices.Contains(p.Instead, addr) {
			return c.Errf("duplicate address %s in all_down", addr)
		}
		p.Instead = append(p.Instead, addr)
	}
	return nil
}

// parseAnother reads the name that takes over. It needs a dot, so that a mistyped word is not taken for a name, and may not be
// close to one of the words. An address is refused, also a mistyped one: no top-level domain begins with a digit.
func parseAnother(arg string) (string, error) {
	name, err := parseName(arg)
	if err != nil {
		return "", err
	}
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	last := labels[len(labels)-1]
	if len(labels) < 2 || last[0] >= '0' && last[0] <= '9' || text.DidYouMean(strings.Join(labels, ""), allDownWords) != "" {
		return "", errors.New("not the name of another host")
	}
	return name, nil
}

// checkAnother looks for a name in all_down that the owner of another zone gives its addresses.
func (s *Config) checkAnother() error {
	name := s.Policy.Another
	if name == "" || len(s.Within) > 0 || plugin.Zones(s.origins).Matches(name) != "" {
		return nil
	}
	return s.ErrorAt("all_down", "all_down %s is outside this server block, and needs within: without it, the owner of that name chooses what is probed; use a name in %s, or name the networks of your servers, such as within 192.0.2.0/24", name, strings.Join(s.origins, " "))
}
