package corefile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
)

// property is how one property of a stanza is read.
type property struct {
	usage    string // what follows its name
	min, max int    // values on the line; a max of -1 means no limit
	repeats  bool   // it may stand on several lines
	block    bool   // it may have a block of its own, in braces
	parse    func(s *Config, c *caddy.Controller, args []string) error
}

// properties are all of them. Each has a parser of its own, and none is read anywhere else. A new property is a row here, a
// parser, a field of Config or of a value in it, and a place in the manual, which a test compares with this table. Parsers of
// the policy are in policy.go, those of the check and of require in checkline.go, that of the fleet in fleet.go and store.go,
// that of the status in status.go, the others below.
var properties = map[string]property{
	"check":       {usage: "URL [OPTION VALUE...]...", min: 1, max: -1, repeats: true, block: true, parse: parseCheck},
	"require":     {usage: "all|any|COUNT|PERCENT%", min: 1, max: 1, parse: parseRequire},
	"interval":    {usage: "DURATION [FAST]", min: 1, max: 2, parse: parseInterval},
	"timeout":     {usage: "DURATION", min: 1, max: 1, parse: parseTimeout},
	"rise":        {usage: "COUNT", min: 1, max: 1, parse: parseRise},
	"fall":        {usage: "COUNT", min: 1, max: 1, parse: parseFall},
	"limit":       {usage: "COUNT|off", min: 1, max: 1, parse: parseLimit},
	"min_up":      {usage: "COUNT|PERCENT%", min: 1, max: 1, parse: parseMinUp},
	"all_down":    {usage: "serve|nodata|servfail|ADDRESS...|NAME", min: 1, max: -1, parse: parseAllDown},
	"ttl":         {usage: "MAX [MIN]|off", min: 1, max: 2, parse: parseTTL},
	"within":      {usage: "NETWORK...", min: 1, max: -1, repeats: true, parse: parseWithin},
	"except":      {usage: "NAME...", min: 1, max: -1, repeats: true, parse: parseExcept},
	"max_targets": {usage: "COUNT", min: 1, max: 1, parse: parseMaxTargets},
	"force":       {usage: "FILE", min: 1, max: 1, parse: parseForce},
	"state":       {usage: "FILE", min: 1, max: 1, parse: parseState},
	"dry_run":     {parse: parseDryRun},
	"types":       {usage: "TYPE...", min: 1, max: -1, parse: parseTypes},
	"select":      {usage: "random|client|nearest [client]", min: 1, max: 2, parse: parseSelect},
	"topology":    {usage: "FILE|kubernetes [KUBECONFIG [CONTEXT]]", min: 1, max: 3, parse: parseTopology},
	"weight":      {usage: "WEIGHT NETWORK...", min: 2, max: -1, repeats: true, parse: parseWeight},
	"backup":      {usage: "[RANK] NETWORK...", min: 1, max: -1, repeats: true, parse: parseBackup},
	"warmup":      {usage: "DURATION", min: 1, max: 1, parse: parseWarmup},
	"watch":       {usage: "NAME...", min: 1, max: -1, repeats: true, parse: parseWatch},
	"preload":     {parse: parsePreload},
	"fleet":       {usage: "NAME|ADDRESS[:PORT]...|etcd://HOST:PORT[,HOST:PORT...]", min: 1, max: -1, block: true, parse: parseFleet},
	"annotations": {usage: "[KUBECONFIG [CONTEXT]]", max: 2, parse: parseAnnotations},
	"status":      {usage: "[ADDRESS]", max: 1, block: true, parse: parseStatus},
}

// unknownProperty is the error about a word that is no property, at which the controller is. It may be an option of a check,
// or come after a block that was not closed.
func unknownProperty(c *caddy.Controller, word string) error {
	names := slices.Sorted(maps.Keys(properties))
	_, ok := check.Takes(word)
	if _, both := fleetProperties[word]; both && ok {
		return c.Errf("%s is an option of check and a property of fleet: write it in the block of one of them", word)
	} else if both {
		return c.Errf("%s is a property of fleet: write it in its block", word)
	}
	if _, inside := statusProperties[word]; inside && ok { // as host is
		return c.Errf("%s is an option of check and a property of status: write it in the block of one of them", word)
	} else if inside {
		return c.Errf("%s is a property of status: write it in its block", word)
	}
	if ok {
		return c.Errf("%s is an option of check: write it on the line of check, or in its block", word)
	}
	c.RemainingArgs()
	if nearest := text.DidYouMean(word, names); nearest != "" {
		return c.Errf("unknown property %q%s", word, nearest)
	}
	if isPlugin(word) || c.NextArg() { // it can only be a brace
		return c.Errf("unexpected %q in the block of multivalue: close the block before it, with a } on a line of its own", word)
	}
	return c.Errf("unknown property %q%s", word, text.Suggest(word, names))
}

// isPlugin reports whether the word begins a plugin's part of a server block.
func isPlugin(word string) bool {
	return slices.Contains(caddy.ValidDirectives("dns"), word)
}

// Syntax is how each property is written, by its first word. A test holds the manual to it.
func Syntax() map[string]string {
	all := make(map[string]string, len(properties))
	for word, p := range properties {
		all[word] = strings.TrimSpace(word + " " + p.usage)
	}
	return all
}

// arity says how many values the property takes.
func (p property) arity() string {
	switch {
	case p.max == 0:
		return "no value"
	case p.max < 0:
		return "at least " + text.Count(p.min, "value")
	case p.min == p.max:
		return text.Count(p.min, "value")
	case p.max-p.min > 1:
		return fmt.Sprintf("%d to %s", p.min, text.Count(p.max, "value"))
	default:
		return fmt.Sprintf("%d or %s", p.min, text.Count(p.max, "value"))
	}
}

// parseInterval reads the time between the starts of two probes, and the shorter one while a state may be about to change.
// Without the second value, complete fills it in, because its default depends on the first.
func parseInterval(s *Config, c *caddy.Controller, args []string) (err error) {
	if s.Pace.Interval, err = parseDuration(args[0], verdict.MinInterval, verdict.MaxInterval); err != nil {
		return c.Errf("interval: %v", err)
	}
	if len(args) == 1 {
		return nil
	}
	// It cannot be above the interval: nothing would be fast about it.
	if s.Pace.Fast, err = parseDuration(args[1], verdict.MinInterval, s.Pace.Interval); err != nil {
		return c.Errf("fast interval: %v", err)
	}
	return nil
}

// parseTimeout reads the bound on a whole probe. That it is at most the interval is checked when both are known.
func parseTimeout(s *Config, c *caddy.Controller, args []string) (err error) {
	if s.Pace.Timeout, err = parseDuration(args[0], verdict.MinTimeout, verdict.MaxInterval); err != nil {
		return c.Errf("timeout: %v", err)
	}
	return nil
}

// parseRise reads how many successes in a row take a target up that is down.
func parseRise(s *Config, c *caddy.Controller, args []string) error {
	return parseCount(c, "rise", args[0], verdict.MaxCount, &s.Pace.Rise)
}

// parseFall reads how many failures take a target down that is up.
func parseFall(s *Config, c *caddy.Controller, args []string) error {
	return parseCount(c, "fall", args[0], verdict.MaxCount, &s.Pace.Fall)
}

// maxWatched is how many names a stanza may watch, because each is asked for again and again.
const maxWatched = 1024

// parseWatch reads names to learn before the first query. A wildcard is none: each name below it would have to be asked for.
func parseWatch(s *Config, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		if strings.Contains(arg, "*") {
			return c.Errf("invalid name %q in watch: clients do not query a wildcard; use the names below it, or preload", arg)
		}
		watched, err := parseName(arg) // without a port, which the check has
		if err != nil {
			return c.Errf("invalid name %q in watch: %v", arg, err)
		}
		if slices.Contains(s.Watch, watched) {
			return c.Errf("duplicate name %s in watch", watched)
		}
		s.Watch = append(s.Watch, watched)
	}
	if len(s.Watch) > maxWatched {
		return c.Errf("watch has %d names: use at most %d, or preload", len(s.Watch), maxWatched)
	}
	return nil
}

// parsePreload notes that all names of the zones are learned. Whether a plugin can list them is checked when the server starts.
func parsePreload(s *Config, _ *caddy.Controller, _ []string) error {
	s.Preload = true
	return nil
}

// parseWithin reads the networks in which addresses may be probed. See package network for the special ranges.
func parseWithin(s *Config, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		n, err := network.Parse(arg)
		if err != nil {
			return c.Errf("within: %v", err)
		}
		s.Within = append(s.Within, n)
	}
	return nil
}

// parseExcept reads names that are not judged, with all names below them.
func parseExcept(s *Config, c *caddy.Controller, args []string) error {
	for _, arg := range args {
		exempt, err := parseName(arg)
		if err != nil {
			return c.Errf("invalid name %q in except: %v", arg, err)
		}
		s.Except = append(s.Except, exempt)
	}
	return nil
}

// maxTargets is how many targets a stanza may have: as many as the pool watches in all (pool.MaxTargets).
const maxTargets = 1 << 18

// parseMaxTargets reads the limit on the targets of the stanza.
func parseMaxTargets(s *Config, c *caddy.Controller, args []string) error {
	return parseCount(c, "max_targets", args[0], maxTargets, &s.MaxTargets)
}

// parseState notes the file. There is one for the whole process, which the plugin sees to.
func parseState(s *Config, c *caddy.Controller, args []string) error {
	if s.State = args[0]; s.State == "" {
		return c.Errf("state without a file: name its path")
	}
	return nil
}

// parseForce notes the file. Its content is not part of the Corefile: a mistake there does not stop a server.
func parseForce(s *Config, c *caddy.Controller, args []string) error {
	if s.Force = args[0]; s.Force == "" {
		return c.Errf("force without a file: name its path")
	}
	return nil
}

// parseAnnotations notes the cluster. The words are those of the plugin *kubernetes*.
func parseAnnotations(s *Config, c *caddy.Controller, args []string) error {
	s.Annotations = new(Cluster)
	if len(args) > 0 {
		if s.Annotations.Kubeconfig = args[0]; args[0] == "" {
			return c.Errf("annotations without a file: name the path of a kubeconfig")
		}
	}
	if len(args) > 1 {
		s.Annotations.Context = args[1]
	}
	return nil
}

// inCluster is the word for a topology that a cluster has and no file.
const inCluster = "kubernetes"

// parseTopology notes the file, or the cluster. What is in the file is not part of the Corefile: a mistake there does not stop a
// server.
func parseTopology(s *Config, c *caddy.Controller, args []string) error {
	switch {
	case args[0] == "":
		return c.Errf("topology without a file: name its path, or use topology kubernetes")
	case args[0] == inCluster:
		s.Zoned = new(Cluster)
		if len(args) > 1 {
			if s.Zoned.Kubeconfig = args[1]; args[1] == "" {
				return c.Errf("topology kubernetes without a file: name the path of a kubeconfig")
			}
		}
		if len(args) > 2 {
			s.Zoned.Context = args[2]
		}
	case len(args) > 1:
		return c.Errf("unexpected %q after topology %s: a stanza has one file", args[1], args[0])
	default:
		s.Topology = args[0]
	}
	return nil
}

// checkTopology looks for a choice by sites without sites, and for sites that nothing goes by.
func (s *Config) checkTopology() error {
	named := s.Topology != "" || s.Zoned != nil
	switch {
	case s.Policy.Nearest && !named:
		return s.ErrorAt("select", "select nearest needs sites: add topology FILE, or topology kubernetes")
	case named && !s.Policy.Nearest:
		return s.ErrorAt("topology", "topology has no effect without select nearest: add that, or remove topology")
	}
	return nil
}
