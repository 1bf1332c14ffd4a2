package corefile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	"github.com/coredns/caddy"
)

// parseCheck reads a check: its URL and options on the line, and more options, one a line, in a block. Package check knows
// what they mean, and says by their index which option is wrong, so that the error can name its line. The URL is not quoted
// in errors, because it may hold a password by mistake.
func parseCheck(s *Config, c *caddy.Controller, args []string) error {
	options, err := splitOptions(args[0], args[1:])
	if err != nil {
		return c.Errf("check: %v", err)
	}
	line := c.Line()
	// One line for each option, because an error names the index of the option that is wrong.
	lines := slices.Repeat([]int{line}, len(options))
	if c.NextArg() { // it can only be the brace that RemainingArgs stopped at
		for c.Next() && c.Val() != "}" { // NextBlock would take the stanza's brace for the end
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
	if err != nil { // in Caddy's form, but at the line of the option
		return fmt.Errorf("%s:%d - Error during parsing: check: %w", c.File(), line, err) // the URL may hold a password
	}
	if slices.ContainsFunc(s.Checks, func(x *check.Check) bool { return x.String() == question.String() && x.Secret() == question.Secret() }) {
		return c.Errf("duplicate check %s in this stanza", question)
	}
	s.Checks = append(s.Checks, question)
	return nil
}

// refuseHold refuses the option hold where there is no event loop, which alone can keep connections.
func refuseHold(options []check.Option, supported bool) error {
	i := slices.IndexFunc(options, func(o check.Option) bool { return o.Name == "hold" })
	if i < 0 || supported {
		return nil
	}
	return &check.OptionError{Index: i, Err: errors.New("option hold works on Linux only: leave it out")}
}

// splitOptions takes apart the options on a check's line. Each takes a fixed number of values, which package check knows; one
// that takes any number has to stand in a block.
func splitOptions(url string, words []string) ([]check.Option, error) {
	var options []check.Option
	for len(words) > 0 {
		option := words[0]
		n, ok := check.Takes(option)
		if !ok { // without knowing it, the rest of the line cannot be split either
			return nil, fmt.Errorf("unknown option %q%s", option, suggestOption(url, option))
		}
		if n < 0 { // where its values end could only be guessed
			return nil, fmt.Errorf("option %s takes all values that follow: put it in a block, on a line of its own", option)
		}
		if len(words)-1 < n {
			return nil, fmt.Errorf("option %s takes %s, not %d", option, text.Count(n, "value"), len(words)-1)
		}
		options = append(options, check.Option{Name: option, Values: words[1 : 1+n]})
		words = words[1+n:]
	}
	return options, nil
}

// MaxRequire is how many checks a stanza may have of which not all must pass: what they say fits on the stack of a query.
const MaxRequire = 16

// parseRequire reads how many of the checks an address has to pass. The default, all, is the zero value.
func parseRequire(s *Config, c *caddy.Controller, args []string) error {
	switch share, isShare := strings.CutSuffix(args[0], "%"); {
	case args[0] == "all":
		return nil
	case args[0] == "any":
		s.Require.Count = 1
		return nil
	case isShare:
		return parseCount(c, "share in require", share, 100, &s.Require.Percent)
	case strings.Trim(args[0], "0123456789") != "":
		return c.Errf("invalid require %q: use all, any, a count or a share%s", args[0], text.DidYouMean(args[0], []string{"all", "any"}))
	default:
		return parseCount(c, "require", args[0], MaxRequire, &s.Require.Count)
	}
}

// checkRequire looks for a quorum that no address could meet. It is called when all checks are known.
func (s *Config) checkRequire() error {
	need := s.needed()
	if need > len(s.Checks) {
		return s.ErrorAt("require", "require %d with %s: use at most as many as there are", need, text.Count(len(s.Checks), "check"))
	}
	if need < len(s.Checks) && len(s.Checks) > MaxRequire {
		return s.ErrorAt("require", "require with %s: use at most %d, unless all must pass", text.Count(len(s.Checks), "check"), MaxRequire)
	}
	return nil
}
