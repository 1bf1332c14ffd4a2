package multivalue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// Defaults of a stanza. Those of the pace and the limit are in the spirit of Route 53's health checks and multivalue
// answers: ten seconds, three failures, eight addresses.
const (
	defaultInterval = 10 * time.Second
	defaultFast     = 2 * time.Second // or the interval, if that is less
	defaultTimeout  = 2 * time.Second // or the interval, if that is less
	defaultRise     = 2
	defaultFall     = 3
	defaultLimit    = 8
	defaultMinTTL   = 30 // seconds
	defaultTargets  = 65536
)

// parsedStanza is a stanza with what the Corefile says of its place.
type parsedStanza struct {
	stanza
	zones   []string
	except  []string
	watch   []string // names to learn before the first query
	preload bool
	quorum  answer.Quorum // how many checks must pass; the zero value is all of them
	force   string        // the file of forced states, as the Corefile names it; empty for none
	cluster *clusterAt    // whose annotations are heeded; nil for none
	show    *showAt       // nil if the stanza does not want the status to be shown
	pace    verdict.Pace
	at      string         // file and line where it begins
	lines   map[string]int // where each property stands
}

// parse reads all stanzas of a server block. Every mistake in them is found here, with its line.
func parse(c *caddy.Controller) ([]*parsedStanza, error) {
	var stanzas []*parsedStanza
	taken := make(map[string]string) // names in the block's table, and where they came from
	for c.Next() {
		s, err := parseStanza(c)
		if err != nil {
			return nil, err
		}
		for i, n := range slices.Concat(s.zones, s.except) {
			property := ""
			if i >= len(s.zones) {
				property = "except"
			}
			if at, ok := taken[n]; ok {
				return nil, s.errorAt(property, "%s stands in two places, here and at %s: want each zone or exempt name once in a server block", n, at)
			}
			taken[n] = s.where(property)
		}
		stanzas = append(stanzas, s)
	}
	return stanzas, nil
}

// parseStanza reads one stanza. The controller stands on its first word.
func parseStanza(c *caddy.Controller) (*parsedStanza, error) {
	s := &parsedStanza{
		at:    fmt.Sprintf("%s:%d", c.File(), c.Line()),
		lines: make(map[string]int),
		pace:  verdict.Pace{Interval: defaultInterval, Rise: defaultRise, Fall: defaultFall},
	}
	s.account = &Group{Max: defaultTargets}
	s.rule.Types = answer.DefaultTypes
	s.rule.Policy = answer.Policy{Limit: defaultLimit, MinUp: answer.Quorum{Count: 1}, TTL: answer.TTL{Min: defaultMinTTL}}
	if err := s.parseZones(c); err != nil {
		return nil, err
	}
	if err := s.parseBlock(c); err != nil {
		return nil, err
	}
	return s, s.complete()
}

// parseZones reads the zones, which are the block's if none are named.
func (s *parsedStanza) parseZones(c *caddy.Controller) error {
	blockZones := plugin.Zones(plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys))
	s.zones = slices.Clone(blockZones)
	if args := c.RemainingArgs(); len(args) > 0 {
		s.zones = nil
		for _, arg := range args {
			names := plugin.Host(arg).NormalizeExact()
			if len(names) == 0 {
				return c.Errf("%q is no zone: want a domain name", arg)
			}
			if blockZones.Matches(names[0]) == "" {
				return c.Errf("zone %s lies outside this server block: want a name in %s", names[0], strings.Join(blockZones, " "))
			}
			s.zones = append(s.zones, names...)
		}
	}
	slices.Sort(s.zones)
	s.zones = slices.Compact(s.zones)
	return nil
}

// parseBlock reads the properties in the stanza's braces.
func (s *parsedStanza) parseBlock(c *caddy.Controller) error {
	for c.NextBlock() {
		word := c.Val()
		p, ok := properties[word]
		if !ok {
			return c.Errf("unknown property %q%s", word, text.Suggest(word, propertyNames()))
		}
		if line, again := s.lines[word]; again && !p.repeats {
			return c.Errf("%s stands twice, first on line %d", word, line)
		}
		s.lines[word] = c.Line()
		args := c.RemainingArgs()
		if len(args) < p.min || (p.max >= 0 && len(args) > p.max) {
			return c.Errf("%s takes %s, not %d values: want %s", word, p.count(), len(args), strings.TrimSpace(word+" "+p.usage))
		}
		if err := p.parse(s, c, args); err != nil {
			return err
		}
		if !p.block && c.NextArg() { // it can only be the brace that RemainingArgs stopped at
			return c.Errf("unexpected { behind %s: only check has a block of its own", word)
		}
	}
	return nil
}

// complete fills in defaults that depend on other properties, and looks for what does not go together.
func (s *parsedStanza) complete() error {
	if s.pace.Fast == 0 {
		s.pace.Fast = min(defaultFast, s.pace.Interval)
	}
	if s.pace.Timeout == 0 {
		s.pace.Timeout = min(defaultTimeout, s.pace.Interval)
	}
	if err := s.pace.Check(); err != nil {
		return s.errorAt("timeout", "%w", err)
	}
	if len(s.checks) == 0 {
		return s.errorAt("", "check is missing: want at least one, such as check http://:80/healthz")
	}
	if slices.Contains(s.zones, ".") && len(s.within) == 0 {
		return s.errorAt("", "within is missing, and required for the zone \".\": without it, whoever owns any name chooses what is probed; name the networks of your servers, such as within 192.0.2.0/24")
	}
	for _, n := range s.except {
		if plugin.Zones(s.zones).Matches(n) == "" {
			return s.errorAt("except", "except %s lies outside the zones %s", n, strings.Join(s.zones, " "))
		}
	}
	if err := s.checkWatched(); err != nil {
		return err
	}
	if err := s.checkRequired(); err != nil {
		return err
	}
	if err := s.checkPorts(); err != nil {
		return err
	}
	if err := s.checkAnnotations(); err != nil {
		return err
	}
	for i := range s.checks {
		s.checks[i].SetPace(s.pace)
	}
	s.seal(s.pace)
	s.account.Zones = strings.Join(s.zones, " ")
	s.account.At, s.account.DryRun = s.at, s.rule.Policy.DryRun
	return nil
}

// checkWatched looks for watched names that this stanza does not judge.
func (s *parsedStanza) checkWatched() error {
	for _, n := range s.watch {
		if plugin.Zones(s.zones).Matches(n) == "" || plugin.Zones(s.except).Matches(n) != "" {
			return s.errorAt("watch", "watch %s lies outside what this stanza judges, the zones %s without the names under except", n, strings.Join(s.zones, " "))
		}
	}
	return nil
}

// ownerless are the types whose owner is no host's name, but one that begins with that of a service.
var ownerless = answer.TypesOf(dns.TypeSRV, dns.TypeMX, dns.TypeSVCB)

// checkPorts looks for a check without a port for records that name none either, or without a host for records whose
// owner is none.
func (s *parsedStanza) checkPorts() error {
	for _, c := range s.checks {
		if c.forOwner != nil && s.lines["types"] == 0 {
			s.rule.Types &^= ownerless
		}
		if c.forOwner != nil && s.rule.Types&ownerless != 0 {
			return s.errorAt("types", "check %s asks for the owner of a record, which is no host's name for SRV, MX and SVCB: want other types, or a host in the url", c.Name)
		}
		if c.port == 0 && !c.portNamed && s.rule.Types != answer.TypesOf(dns.TypeSRV) {
			url, _, _ := strings.Cut(c.Name, " ")
			return s.errorAt("check", "check %s names no port, and only SRV records do: want one, as in %s:80, or types SRV alone", c.Name, url)
		}
	}
	return nil
}

// questions are those that teach the addresses of the watched names.
func (s *parsedStanza) questions() []question {
	var all []question
	for _, n := range s.watch {
		for _, rrtype := range s.rule.Types.Each() {
			all = append(all, question{n, rrtype})
		}
	}
	return all
}

// errorAt is an error at the line of a property, or of the stanza.
func (s *parsedStanza) errorAt(property, format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %w", s.where(property), fmt.Errorf(format, args...))
}

// where is the file and line of a property, or those where the stanza begins.
func (s *parsedStanza) where(property string) string {
	if line, ok := s.lines[property]; ok {
		return fmt.Sprintf("%s:%d", s.at[:strings.LastIndexByte(s.at, ':')], line)
	}
	return s.at
}
