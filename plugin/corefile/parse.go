// Package corefile reads the stanzas of a server block into plain values.
//
// Config is the main type: one stanza, complete and without contradictions. Parse is called by the setup of the plugin,
// which builds what runs from it. Every mistake that the text of a stanza alone shows is found here, and its error names
// the line and what would be right. What depends on other plugins is checked later, with the same kind of error: see
// Config.ErrorAt.
package corefile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/network"
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
	defaultStatus   = "localhost:9253"
)

// Readiness waits for the first verdicts on the names that a stanza watches or preloads: firstSlack for answers and first
// probes, then as long as a dead address may take to fail, but maxFirst at most.
const (
	firstSlack = 2 * time.Second
	maxFirst   = 30 * time.Second
)

// Config is one stanza.
type Config struct {
	At      string   // file and line where it begins
	Zones   []string // whose answers are judged; sorted, each once
	Except  []string // names that are not, with all names below them
	Watch   []string // names to learn before the first query
	Preload bool     // learn all names of the zones

	Checks     []*check.Check // at least one, each once
	Require    answer.Quorum  // of the checks that an address has to pass; the zero value is all of them
	Pace       verdict.Pace
	Within     network.List // where may be probed; nil for anywhere but the special ranges
	MaxTargets int

	Types  answer.Types
	Policy answer.Policy

	Force       string       // the file of forced states, as the Corefile names it; empty for none
	Topology    string       // the file of sites, as the Corefile names it; empty for none
	Zoned       *Cluster     // whose zones are the sites; nil for none
	State       string       // the file that keeps verdicts over a restart, as the Corefile names it; empty for none
	Annotations *Cluster     // whose annotations name checks; nil for none
	Fleet       *Fleet       // the servers that share the targets; nil for none
	Status      string       // the address to show the status at; empty if this stanza does not ask for it
	StatusBlock *StatusBlock // what the page at that address may do besides; nil without a block

	Notices []string // what is valid and may not be meant, each with its file and line; logged at the start

	origins []string          // of the server block, if all_down has a name
	lines   map[string]int    // of each property, also "fleet key" for one in that block; of the last one, if it may repeat
	files   map[string]string // the same; a property may come from another file by import
	named   []string          // the zones as written; none for those of the server block
	written []written         // the lines of the stanza, in order, to be shown

	known map[string]property // all properties, which the parsers in that table cannot name themselves
}

// Cluster is how a stanza names a Kubernetes cluster, in the words of the plugin *kubernetes*. Empty words mean the cluster of
// the Pod that CoreDNS runs in.
type Cluster struct{ Kubeconfig, Context string }

// Need is how many of the checks an address has to pass: 0 for all, else less than there are.
func (s *Config) Need() int {
	if need := s.needed(); need < len(s.Checks) {
		return need
	}
	return 0
}

// needed is Need as a count of checks, which may be more than there are until checkRequire has refused that.
func (s *Config) needed() int {
	if s.Require == (answer.Quorum{}) {
		return len(s.Checks)
	}
	return s.Require.Of(len(s.Checks))
}

// FirstVerdicts is the longest that readiness waits for the first verdicts of the stanza's names.
func (s *Config) FirstVerdicts() time.Duration {
	return min(time.Duration(s.Pace.Fall)*s.Pace.Timeout+firstSlack, maxFirst)
}

// Parse reads all stanzas of a server block, whose controller has not been read yet. It returns the first error. Nothing
// outside the result changes, so that a caller may drop it.
func Parse(c *caddy.Controller) ([]*Config, error) {
	var configs []*Config
	taken := make(map[string]string) // names of the block's zones and exemptions, and where they stand
	for c.Next() {
		s, err := parseStanza(c)
		if err != nil {
			return nil, err
		}
		for i, n := range slices.Concat(s.Zones, s.Except) {
			property := ""
			if i >= len(s.Zones) {
				property = "except"
			}
			if at, ok := taken[n]; ok {
				return nil, s.ErrorAt(property, "duplicate zone or exempt name %s, first at %s: name each once in a server block", n, at)
			}
			taken[n] = s.Where(property)
		}
		configs = append(configs, s)
	}
	return configs, nil
}

// parseStanza reads one stanza. The controller is at the word multivalue.
func parseStanza(c *caddy.Controller) (*Config, error) {
	s := &Config{
		At:         fmt.Sprintf("%s:%d", c.File(), c.Line()),
		Pace:       verdict.Pace{Interval: defaultInterval, Rise: defaultRise, Fall: defaultFall},
		MaxTargets: defaultTargets,
		Types:      answer.DefaultTypes,
		Policy:     answer.Policy{Limit: defaultLimit, MinUp: answer.Quorum{Count: 1}, TTL: answer.TTL{Min: defaultMinTTL}},
		lines:      make(map[string]int),
		files:      make(map[string]string),
		known:      properties,
	}
	if err := s.parseZones(c); err != nil {
		return nil, err
	}
	if err := s.parseBlock(c); err != nil {
		return nil, err
	}
	return s, s.complete()
}

// parseZones reads the zones after the word multivalue. Without any they are the server block's. They may be narrower than
// those, so that a block can have stanzas for parts of it, but not wider: such a query would never come.
func (s *Config) parseZones(c *caddy.Controller) error {
	blockZones := plugin.Zones(plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys))
	args := c.RemainingArgs()
	s.named = args
	if len(args) == 0 {
		s.Zones = slices.Clone(blockZones)
		if err := checkInherited(c, s.Zones); err != nil {
			return err
		}
	} else {
		for _, arg := range args {
			names, err := parseZone(arg)
			if err != nil {
				return c.Errf("invalid zone %q: %v", arg, err)
			}
			if blockZones.Matches(names[0]) == "" {
				return c.Errf("zone %s is outside this server block: use a name in %s", names[0], strings.Join(blockZones, " "))
			}
			s.Zones = append(s.Zones, names...)
		}
	}
	slices.Sort(s.Zones) // so that a stanza is the same one after a reload, whatever the order in which it names them
	s.Zones = slices.Compact(s.Zones)
	return nil
}

// parseBlock reads the properties in the stanza's braces. How many values a property takes, and whether it may repeat, is
// checked here by its row in properties; what the values mean is up to its own parser.
func (s *Config) parseBlock(c *caddy.Controller) error {
	for c.NextBlock() { // once a line, until the closing brace
		word := c.Val()
		p, ok := properties[word]
		if !ok {
			return unknownProperty(c, word)
		}
		if line, again := s.lines[word]; again && !p.repeats {
			return c.Errf("duplicate %s, first on line %d", word, line)
		}
		s.lines[word], s.files[word] = c.Line(), c.File()
		args := c.RemainingArgs()
		if slices.Contains(args, "}") {
			return c.Errf("unexpected } after %s: put it on a line of its own", word)
		}
		if len(args) < p.min || (p.max >= 0 && len(args) > p.max) {
			return c.Errf("%s takes %s, not %d: use %s", word, p.arity(), len(args), strings.TrimSpace(word+" "+p.usage))
		}
		s.noteLine(word, s.Where(word), 1, append([]string{word}, args...))
		if err := p.parse(s, c, args); err != nil {
			return err
		}
		if !p.block && c.NextArg() { // it can only be the brace that RemainingArgs stopped at
			return c.Errf("unexpected { after %s: only check, fleet and status have a block of their own", word)
		}
	}
	return nil
}

// complete fills in defaults that depend on other properties, and looks for contradictions. It is called when all properties
// have been read, in whatever order they are in the Corefile.
func (s *Config) complete() error {
	if s.Pace.Fast == 0 { // not set, because a parsed one is never zero
		s.Pace.Fast = min(defaultFast, s.Pace.Interval)
	}
	if s.Pace.Timeout == 0 {
		s.Pace.Timeout = min(defaultTimeout, s.Pace.Interval)
	}
	if err := s.Pace.Check(); err != nil {
		return s.ErrorAt("timeout", "%w", err)
	}
	if len(s.Checks) == 0 { // there is no check to assume: a port alone may be anything
		return s.ErrorAt("", "check is missing: add at least one, such as check http://:80/healthz")
	}
	if slices.Contains(s.Zones, ".") && len(s.Within) == 0 { // what plugins below require is checked when they are known
		return s.ErrorAt("", "within is missing, and required for the zone \".\": without it, the owner of any name chooses what is probed; name the networks of your servers, such as within 192.0.2.0/24")
	}
	if s.Annotations != nil && len(s.Within) == 0 {
		return s.ErrorAt("annotations", "annotations needs within: without it, the owner of a Service chooses what is probed; name the networks of your Pods, such as within 10.244.0.0/16")
	}
	if err := s.checkNames(); err != nil {
		return err
	}
	if err := s.checkTopology(); err != nil {
		return err
	}
	if err := s.checkAnother(); err != nil {
		return err
	}
	s.placeAgents()
	if err := s.checkShared(); err != nil {
		return err
	}
	s.noticeMinUp()
	s.noticeReuse()
	if err := s.checkRequire(); err != nil {
		return err
	}
	return s.checkPorts()
}

// checkNames looks for exempt and watched names that this stanza does not judge.
func (s *Config) checkNames() error {
	for _, n := range s.Except {
		if plugin.Zones(s.Zones).Matches(n) == "" {
			return s.ErrorAt("except", "except %s is outside the zones %s%s", n, strings.Join(s.Zones, " "), s.suggestFull(n))
		}
	}
	for _, n := range s.Watch {
		if plugin.Zones(s.Zones).Matches(n) == "" || plugin.Zones(s.Except).Matches(n) != "" {
			return s.ErrorAt("watch", "watch %s is outside what this stanza judges, the zones %s without the names under except%s", n, strings.Join(s.Zones, " "), s.suggestFull(n))
		}
	}
	return nil
}

// ownerless are the types whose owner is not the name of a host, but one that begins with that of a service.
var ownerless = answer.TypesOf(dns.TypeSRV, dns.TypeMX, dns.TypeSVCB)

// checkPorts looks for a check without a port for records that name none either, or without a host for records whose owner
// is not one.
func (s *Config) checkPorts() error {
	for _, c := range s.Checks {
		if c.AsksOwner() && s.lines["types"] == 0 {
			s.Types &^= ownerless
		}
		if c.AsksOwner() && s.Types&ownerless != 0 {
			return s.ErrorAt("types", "check %s asks for the owner of a record, which is not a host name for SRV, MX and SVCB: use other types, or a host in the URL", c)
		}
		if c.Port() == 0 && !c.PortNamed() && s.Types != answer.TypesOf(dns.TypeSRV) {
			url, _, _ := strings.Cut(c.String(), " ")
			return s.ErrorAt("check", "check %s names no port, and only SRV records do: add one, as in %s:80, or use types SRV alone", c, url)
		}
	}
	return nil
}

// ErrorAt is an error at the line of a property, or where the stanza begins if it has none of that name. It has the form of
// Caddy's own errors, so that tools find the line in both alike.
func (s *Config) ErrorAt(property, format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %w", s.Where(property), fmt.Errorf(format, args...))
}

// Where is the file and line of a property, or where the stanza begins.
func (s *Config) Where(property string) string {
	if line, ok := s.lines[property]; ok {
		return fmt.Sprintf("%s:%d", s.files[property], line)
	}
	return s.At
}
