package multivalue

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// property is one word of a stanza.
type property struct {
	usage    string // what follows the word
	min, max int    // values on the line; a max of -1 is none
	repeats  bool
	block    bool // it may have a block of its own
	parse    func(s *parsedStanza, c *caddy.Controller, args []string) error
}

// properties are all of them. Each has a parser of its own; none has another place where it is read.
var properties = map[string]property{
	"check":       {usage: "URL [OPTION VALUE...]...", min: 1, max: -1, repeats: true, block: true, parse: parseCheck},
	"require":     {usage: "all|any|COUNT|PERCENT%", min: 1, max: 1, parse: parseRequire},
	"interval":    {usage: "DURATION [FAST]", min: 1, max: 2, parse: parseInterval},
	"timeout":     {usage: "DURATION", min: 1, max: 1, parse: parseTimeout},
	"rise":        {usage: "COUNT", min: 1, max: 1, parse: parseRise},
	"fall":        {usage: "COUNT", min: 1, max: 1, parse: parseFall},
	"limit":       {usage: "COUNT|off", min: 1, max: 1, parse: parseLimit},
	"min_up":      {usage: "COUNT|PERCENT%", min: 1, max: 1, parse: parseMinUp},
	"all_down":    {usage: "serve|nodata|servfail|ADDRESS...", min: 1, max: -1, parse: parseAllDown},
	"ttl":         {usage: "MAX [MIN]|off", min: 1, max: 2, parse: parseTTL},
	"within":      {usage: "NETWORK...", min: 1, max: -1, repeats: true, parse: parseWithin},
	"except":      {usage: "NAME...", min: 1, max: -1, repeats: true, parse: parseExcept},
	"max_targets": {usage: "COUNT", min: 1, max: 1, parse: parseMaxTargets},
	"force":       {usage: "FILE", min: 1, max: 1, parse: parseForce},
	"dry_run":     {parse: parseDryRun},
	"types":       {usage: "TYPE...", min: 1, max: -1, parse: parseTypes},
	"select":      {usage: "random|client", min: 1, max: 1, parse: parseSelect},
	"weight":      {usage: "WEIGHT NETWORK...", min: 2, max: -1, repeats: true, parse: parseWeight},
	"backup":      {usage: "NETWORK...", min: 1, max: -1, repeats: true, parse: parseBackup},
	"warmup":      {usage: "DURATION", min: 1, max: 1, parse: parseWarmup},
	"watch":       {usage: "NAME...", min: 1, max: -1, repeats: true, parse: parseWatch},
	"preload":     {parse: parsePreload},
	"annotations": {usage: "[KUBECONFIG [CONTEXT]]", max: 2, parse: parseAnnotations},
	"status":      {usage: "[ADDRESS]", max: 1, parse: parseStatus},
}

func propertyNames() []string { return slices.Sorted(maps.Keys(properties)) }

// count says how many values the property takes.
func (p property) count() string {
	switch {
	case p.max == 0:
		return "no value"
	case p.max < 0:
		return "at least " + text.Count(p.min, "value")
	case p.min == p.max:
		return text.Count(p.min, "value")
	default:
		return fmt.Sprintf("%d or %s", p.min, text.Count(p.max, "value"))
	}
}

func parseInterval(s *parsedStanza, c *caddy.Controller, args []string) (err error) {
	if s.pace.Interval, err = parseDuration(args[0], verdict.MinInterval, verdict.MaxInterval); err != nil {
		return c.Errf("interval %v", err)
	}
	if len(args) == 1 {
		return nil
	}
	if s.pace.Fast, err = parseDuration(args[1], verdict.MinInterval, s.pace.Interval); err != nil {
		return c.Errf("the fast interval %v", err)
	}
	return nil
}

func parseTimeout(s *parsedStanza, c *caddy.Controller, args []string) (err error) {
	if s.pace.Timeout, err = parseDuration(args[0], verdict.MinTimeout, verdict.MaxInterval); err != nil {
		return c.Errf("timeout %v", err)
	}
	return nil
}

func parseRise(s *parsedStanza, c *caddy.Controller, args []string) error {
	return parseCount(c, "rise", args[0], verdict.MaxCount, &s.pace.Rise)
}

func parseFall(s *parsedStanza, c *caddy.Controller, args []string) error {
	return parseCount(c, "fall", args[0], verdict.MaxCount, &s.pace.Fall)
}

func parseLimit(s *parsedStanza, c *caddy.Controller, args []string) error {
	if args[0] == "off" {
		s.rule.Policy.Limit = 0
		return nil
	}
	return parseCount(c, "limit", args[0], math.MaxUint16, &s.rule.Policy.Limit)
}

func parseMinUp(s *parsedStanza, c *caddy.Controller, args []string) error {
	share, isShare := strings.CutSuffix(args[0], "%")
	if !isShare {
		return parseCount(c, "min_up", args[0], math.MaxUint16, &s.rule.Policy.MinUp.Count)
	}
	return parseCount(c, "the share of min_up", share, 100, &s.rule.Policy.MinUp.Percent)
}

func parseAllDown(s *parsedStanza, c *caddy.Controller, args []string) error {
	policies := map[string]answer.AllDown{"serve": answer.Serve, "nodata": answer.NoData, "servfail": answer.ServFail}
	p := &s.rule.Policy
	if policy, ok := policies[args[0]]; ok && len(args) == 1 {
		p.AllDown = policy
		return nil
	}
	p.AllDown = answer.Fixed
	for _, arg := range args {
		if _, ok := policies[arg]; ok {
			return c.Errf("all_down %s does not go with other values: want one of serve, nodata and servfail alone, or addresses", arg)
		}
		addr, err := netip.ParseAddr(arg)
		if err != nil || addr.Zone() != "" || addr.Is4In6() || !single(addr) {
			return c.Errf("all_down %q: want serve, nodata, servfail or addresses%s", arg, text.Suggest(arg, slices.Sorted(maps.Keys(policies))))
		}
		if slices.Contains(p.Instead, addr) {
			return c.Errf("all_down %s stands twice", addr)
		}
		p.Instead = append(p.Instead, addr)
	}
	return nil
}

func parseTypes(s *parsedStanza, c *caddy.Controller, args []string) error {
	s.rule.Types = 0
	var names []string
	for _, rrtype := range answer.Judged() {
		names = append(names, dns.TypeToString[rrtype])
	}
	for _, arg := range args {
		word := strings.ToUpper(arg)
		if !slices.Contains(names, word) {
			return c.Errf("types %q: want some of %s%s", arg, strings.Join(names, " "), text.Suggest(word, names))
		}
		t := answer.TypesOf(dns.StringToType[word])
		if s.rule.Types&t != 0 {
			return c.Errf("types %s stands twice", word)
		}
		s.rule.Types |= t
	}
	return nil
}

func parseSelect(s *parsedStanza, c *caddy.Controller, args []string) error {
	switch args[0] {
	case "random":
	case "client":
		s.rule.Policy.Client = true
	default:
		return c.Errf("select %q: want random or client%s", args[0], text.Suggest(args[0], []string{"random", "client"}))
	}
	return nil
}

func parseWeight(s *parsedStanza, c *caddy.Controller, args []string) error {
	var weight int
	if err := parseCount(c, "weight", args[0], math.MaxUint16, &weight); err != nil {
		return err
	}
	for _, arg := range args[1:] {
		n, err := network.Parse(arg)
		if err != nil {
			return c.Errf("weight %v", err)
		}
		if i := slices.IndexFunc(s.rule.Policy.Weights, func(w answer.Weight) bool { return w.Network == n.Prefix }); i >= 0 {
			return c.Errf("weight of %s stands twice", n.Prefix)
		}
		if i := slices.IndexFunc(s.rule.Policy.Weights, func(w answer.Weight) bool { return network.Contains(w.Network, n.Prefix) }); i >= 0 {
			return c.Errf("weight of %s never counts, since %s before it holds it: want the narrower network first", n.Prefix, s.rule.Policy.Weights[i].Network)
		}
		s.rule.Policy.Weights = append(s.rule.Policy.Weights, answer.Weight{Network: n.Prefix, Weight: weight})
	}
	return nil
}

// single reports whether an address is one host's.
func single(addr netip.Addr) bool {
	return !addr.IsUnspecified() && !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func parseBackup(s *parsedStanza, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		n, err := network.Parse(arg)
		if err != nil {
			return c.Errf("backup %v", err)
		}
		if slices.Contains(s.rule.Policy.Backup, n.Prefix) {
			return c.Errf("backup %s stands twice", n.Prefix)
		}
		s.rule.Policy.Backup = append(s.rule.Policy.Backup, n.Prefix)
	}
	return nil
}

func parseWarmup(s *parsedStanza, c *caddy.Controller, args []string) (err error) {
	if s.rule.Policy.Warmup, err = parseDuration(args[0], time.Second, time.Hour); err != nil {
		return c.Errf("warmup %v", err)
	}
	return nil
}

// plainName is the canonical form of a domain name that has nothing with it, neither a scheme nor a port.
func plainName(text string) (string, bool) {
	names := plugin.Host(text).NormalizeExact()
	if _, ok := dns.IsDomainName(text); !ok || len(names) != 1 || names[0] != dns.Fqdn(strings.ToLower(text)) {
		return "", false
	}
	return names[0], true
}

// maxWatched is how many names a stanza may watch: each is asked for again and again.
const maxWatched = 1024

func parseWatch(s *parsedStanza, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		watched, ok := plainName(arg)
		if !ok || strings.HasPrefix(arg, "*") {
			return c.Errf("watch %q: want a domain name", arg)
		}
		if slices.Contains(s.watch, watched) {
			return c.Errf("watch %s stands twice", watched)
		}
		s.watch = append(s.watch, watched)
	}
	if len(s.watch) > maxWatched {
		return c.Errf("watch has %d names: want %d at most, or preload", len(s.watch), maxWatched)
	}
	return nil
}

func parsePreload(s *parsedStanza, _ *caddy.Controller, _ []string) error {
	s.preload = true
	return nil
}

func parseTTL(s *parsedStanza, c *caddy.Controller, args []string) error {
	ttl := &s.rule.Policy.TTL
	if args[0] == "off" {
		if len(args) > 1 {
			return c.Errf("ttl off takes nothing behind it, not %q", args[1])
		}
		*ttl = answer.TTL{Off: true}
		return nil
	}
	var bounds [2]uint32
	for i, arg := range args {
		d, err := parseDuration(arg, time.Second, math.MaxInt32*time.Second)
		if err != nil {
			return c.Errf("ttl %v", err)
		}
		bounds[i] = uint32(d / time.Second)
	}
	ttl.Max = bounds[0]
	ttl.Min = min(ttl.Min, ttl.Max)
	if len(args) == 2 {
		ttl.Min = bounds[1]
	}
	if ttl.Min > ttl.Max {
		return c.Errf("ttl %s %s: the second value, the least, is at most the first", args[0], args[1])
	}
	return nil
}

func parseWithin(s *parsedStanza, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		n, err := network.Parse(arg)
		if err != nil {
			return c.Errf("within %v", err)
		}
		s.within = append(s.within, n)
	}
	return nil
}

func parseExcept(s *parsedStanza, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		exempt, ok := plainName(arg)
		if !ok {
			return c.Errf("except %q: want a domain name", arg)
		}
		s.except = append(s.except, exempt)
	}
	return nil
}

func parseMaxTargets(s *parsedStanza, c *caddy.Controller, args []string) error {
	return parseCount(c, "max_targets", args[0], maxTargets, &s.account.Max)
}

func parseDryRun(s *parsedStanza, _ *caddy.Controller, _ []string) error {
	s.rule.Policy.DryRun = true
	return nil
}

// parseForce takes note of the file. What is in it is no part of the Corefile: a mistake there stops no server.
func parseForce(s *parsedStanza, c *caddy.Controller, args []string) error {
	if s.force = args[0]; s.force == "" {
		return c.Errf("force names no file: want the path of one")
	}
	return nil
}

// parseCheck reads a check: its URL and options on the line, and more options, one a line, in a block.
func parseCheck(s *parsedStanza, c *caddy.Controller, args []string) error {
	options, err := splitOptions(args[0], args[1:])
	if err != nil {
		return c.Errf("check: %v", err)
	}
	line := c.Line()
	lines := slices.Repeat([]int{line}, len(options))
	if c.NextArg() { // it can only be the brace that RemainingArgs stopped at
		for c.Next() && c.Val() != "}" {
			lines = append(lines, c.Line())
			options = append(options, check.Option{Name: c.Val(), Values: c.RemainingArgs()})
		}
	}
	question, err := check.New(args[0], options...)
	if err == nil {
		err = refuseHold(options, wire.Supported)
	}
	var wrong *check.OptionError
	if errors.As(err, &wrong) {
		line = lines[wrong.Index]
		err = fmt.Errorf("%w%s", err, suggestOption(args[0], options[wrong.Index].Name))
	}
	if err != nil {
		return fmt.Errorf("%s:%d - Error during parsing: check: %w", c.File(), line, err) // the URL may hold a password
	}
	spec := NewCheckSpec(question)
	if slices.ContainsFunc(s.checks, func(other CheckSpec) bool { return other.withoutPace == spec.withoutPace }) {
		return c.Errf("check %s stands twice in this stanza", spec.Name)
	}
	s.checks = append(s.checks, spec)
	return nil
}

// splitOptions takes apart the options on a check's line. Each has a fixed number of values.
func splitOptions(url string, words []string) ([]check.Option, error) {
	var options []check.Option
	for len(words) > 0 {
		option := words[0]
		n, ok := check.Takes(option)
		if !ok {
			return nil, fmt.Errorf("unknown option %q%s", option, suggestOption(url, option))
		}
		if n < 0 {
			return nil, fmt.Errorf("option %s takes all that follows: want it in a block, on a line of its own", option)
		}
		if len(words)-1 < n {
			return nil, fmt.Errorf("option %s takes %s, not %d", option, text.Count(n, "value"), len(words)-1)
		}
		options = append(options, check.Option{Name: option, Values: words[1 : 1+n]})
		words = words[1+n:]
	}
	return options, nil
}
