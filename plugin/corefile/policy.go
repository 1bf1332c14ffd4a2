package corefile

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/network"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
)

// Here are the parsers of the properties that say how a set is filtered: of answer.Policy, and of the types. They only set
// values; package answer says what the values do, and how they combine.

// parseLimit reads the most addresses in an answer. In the policy 0 means no limit; a user writes off, so that a typing error
// cannot turn the limit off.
func parseLimit(s *Config, c *caddy.Controller, args []string) error {
	if args[0] == "off" {
		s.Policy.Limit = 0
		return nil
	}
	if err := parseCount(c, "limit", args[0], math.MaxUint16, &s.Policy.Limit); err != nil {
		return fmt.Errorf("%w, or off for no limit", err)
	}
	return nil
}

// parseMinUp reads how many addresses must be healthy, or what share of the set, or the answer is filled up with others.
func parseMinUp(s *Config, c *caddy.Controller, args []string) error {
	if strings.HasSuffix(args[0], "%") {
		return parseShare(c, "min_up", args[0], &s.Policy.MinUp.Percent)
	}
	return parseCount(c, "min_up", args[0], math.MaxUint16, &s.Policy.MinUp.Count)
}

// noticeMinUp notes a count that no answer can reach, because the limit is less: it may have been meant as a share.
func (s *Config) noticeMinUp() {
	count, limit := s.Policy.MinUp.Count, s.Policy.Limit
	if s.Policy.MinUp.Percent > 0 || limit == 0 || count <= limit {
		return
	}
	notice := fmt.Sprintf("%s - min_up %d is above the limit of %d, so unhealthy addresses fill up every answer that has fewer than %d healthy ones", s.Where("min_up"), count, limit, limit)
	if count <= 100 {
		notice += fmt.Sprintf(": did you mean %d%%?", count)
	}
	s.Notices = append(s.Notices, notice)
}

// noticeReuse notes a check whose connections are never asked again, because they are too old by the next probe.
func (s *Config) noticeReuse() {
	for _, c := range s.Checks {
		if life := c.ReusedFor(); life > 0 && life <= s.Pace.Interval {
			s.Notices = append(s.Notices, fmt.Sprintf("%s - the interval of %s is not shorter than the %s for which check %s uses a connection, so none is asked again, and each is kept in vain: use a longer reuse_for, or leave reuse out", s.Where("interval"), s.Pace.Interval, life, c))
		}
	}
}

// parseTypes reads the types of the record sets that are judged. They replace the default.
func parseTypes(s *Config, c *caddy.Controller, args []string) error {
	s.Types = 0
	var names []string
	for _, rrtype := range answer.Judged() {
		names = append(names, dns.TypeToString[rrtype])
	}
	for _, arg := range args {
		word := strings.ToUpper(arg) // types are written in either case, as in zone files
		if !slices.Contains(names, word) {
			return c.Errf("unknown type %q in types: use some of %s%s", arg, strings.Join(names, " "), text.DidYouMean(word, names))
		}
		t := answer.TypesOf(dns.StringToType[word])
		if s.Types&t != 0 {
			return c.Errf("duplicate type %s in types", word)
		}
		s.Types |= t
	}
	return nil
}

// parseSelect reads what decides which addresses a sample has. Random is the default, and can be written. Nearest chooses sites, and
// client may then draw inside a site.
func parseSelect(s *Config, c *caddy.Controller, args []string) error {
	words := []string{"random", "client", "nearest"}
	switch args[0] {
	case "random": // the default
	case "client":
		s.Policy.Client = true
	case "nearest":
		s.Policy.Nearest = true
		if len(args) == 1 {
			return nil
		}
		if args[1] != "client" {
			return c.Errf("unexpected %q after select nearest: use select nearest or select nearest client", args[1])
		}
		s.Policy.Client = true
		return nil
	default:
		return c.Errf("invalid select %q: use random, client or nearest%s", args[0], text.DidYouMean(args[0], words))
	}
	if len(args) > 1 {
		if args[1] == "nearest" && s.Policy.Client {
			return c.Errf("unexpected \"nearest\" after select client: use select nearest client")
		}
		return c.Errf("unexpected %q after select %s", args[1], args[0])
	}
	return nil
}

// parseWeight reads a weight and the networks that have it. The first network that contains an address counts, so a network
// inside an earlier one would have no effect, and is refused.
func parseWeight(s *Config, c *caddy.Controller, args []string) error {
	var weight int
	if err := parseCount(c, "weight", args[0], math.MaxUint16, &weight); err != nil {
		return err
	}
	for _, arg := range args[1:] {
		n, err := network.Parse(arg)
		if err != nil {
			return c.Errf("weight: %v", err)
		}
		if i := slices.IndexFunc(s.Policy.Weights, func(w answer.Weight) bool { return w.Network == n.Prefix }); i >= 0 {
			return c.Errf("duplicate network %s in weight", n.Prefix)
		}
		if i := slices.IndexFunc(s.Policy.Weights, func(w answer.Weight) bool { return network.Contains(w.Network, n.Prefix) }); i >= 0 {
			return c.Errf("weight of %s has no effect, because %s before it contains it: put the narrower network first", n.Prefix, s.Policy.Weights[i].Network)
		}
		s.Policy.Weights = append(s.Policy.Weights, answer.Weight{Network: n.Prefix, Weight: weight})
	}
	return nil
}

// single reports whether an address belongs to one host, so that a client could connect to it.
func single(addr netip.Addr) bool {
	return !addr.IsUnspecified() && !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// parseBackup reads networks whose addresses are answered only if too few others are healthy, and their rank, which is 1 if none is
// named. A number alone is a rank, since an address has dots or colons.
func parseBackup(s *Config, c *caddy.Controller, args []string) error {
	rank, notNumber := strconv.Atoi(args[0])
	if notNumber != nil {
		rank = 1
	} else if args = args[1:]; len(args) == 0 {
		return c.Errf("backup %d without a network: use backup %d NETWORK..., such as backup %d 192.0.2.0/24", rank, rank, rank)
	}
	for _, arg := range args {
		n, err := network.Parse(arg)
		if err == nil {
			err = s.Policy.AddBackup(n.Prefix, rank)
		}
		if err != nil {
			return c.Errf("backup: %v", err)
		}
	}
	return nil
}

// parseWarmup reads how long an address that came up takes to gain its full share of samples.
func parseWarmup(s *Config, c *caddy.Controller, args []string) (err error) {
	if s.Policy.Warmup, err = parseDuration(args[0], time.Second, time.Hour); err != nil {
		return c.Errf("warmup: %v", err)
	}
	return nil
}

// parseTTL reads the bounds on the TTL of judged sets. A maximum below the default minimum lowers that too, because a user who
// writes ttl 5 means it.
func parseTTL(s *Config, c *caddy.Controller, args []string) error {
	ttl := &s.Policy.TTL
	if args[0] == "off" {
		if len(args) > 1 {
			return c.Errf("unexpected %q after ttl off", args[1])
		}
		*ttl = answer.TTL{Off: true}
		return nil
	}
	var bounds [2]uint32
	for i, arg := range args {
		d, err := parseDuration(arg, time.Second, math.MaxInt32*time.Second) // the largest TTL (RFC 2181, section 8)
		if err != nil {
			if i == 0 {
				return c.Errf("ttl: %v, or off", err)
			}
			return c.Errf("ttl: %v", err)
		}
		bounds[i] = uint32(d / time.Second)
	}
	ttl.Max = bounds[0] // in seconds, as the other one
	ttl.Min = min(ttl.Min, ttl.Max)
	if len(args) == 2 {
		ttl.Min = bounds[1]
	}
	if ttl.Min > ttl.Max {
		return c.Errf("ttl %s %s: the second value is the minimum, and must not be above the first", args[0], args[1])
	}
	return nil
}

// parseDryRun notes that everything is probed, decided and counted, and every answer goes out unchanged.
func parseDryRun(s *Config, _ *caddy.Controller, _ []string) error {
	s.Policy.DryRun = true
	return nil
}
