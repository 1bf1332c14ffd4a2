package corefile

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
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
	options, err := s.splitOptions(args[0], args[1:])
	if err != nil {
		return c.Errf("check: %v", err)
	}
	line := c.Line()
	// One line for each option, because an error names the index of the option that is wrong.
	lines := slices.Repeat([]int{line}, len(options))
	if c.NextArg() { // it can only be the brace that RemainingArgs stopped at
		more, at, err := s.parseCheckBlock(c)
		if err != nil {
			return err
		}
		options, lines = append(options, more...), append(lines, at...)
	}
	question, err := check.New(args[0], options...)
	if err == nil {
		err = refuseHold(options, wire.Supported)
	}
	var wrong *check.OptionError
	if errors.As(err, &wrong) {
		line = lines[wrong.Index]
		err = fmt.Errorf("%w%s", err, suggestNear(args[0], options[wrong.Index].Name))
	}
	if err != nil { // in Caddy's form, but at the line of the option
		return fmt.Errorf("%s:%d - Error during parsing: check: %w", c.File(), line, err) // the URL may hold a password
	}
	if slices.ContainsFunc(s.Checks, func(x *check.Check) bool { return x.String() == question.String() && x.Secret() == question.Secret() }) {
		return c.Errf("duplicate check %s in this stanza", question)
	}
	s.Checks = append(s.Checks, question)
	s.noteCheck()
	s.noticeHost(fmt.Sprintf("%s:%d", c.File(), line), question)
	return nil
}

// placeAgents tells agents whether checks of another kind are beside them that can take an address out. If not, because there are
// none or because agents are enough for require, their silence is a failure: nothing else would notice that a backend is gone.
func (s *Config) placeAgents() {
	agents := 0
	for _, c := range s.Checks {
		if c.IsAgent() {
			agents++
		}
	}
	alone := agents >= s.needed()
	for i, c := range s.Checks {
		if alone {
			s.Checks[i] = c.Alone()
		}
		s.Policy.Reports = s.Policy.Reports || c.Reports()
	}
}

// parseCheckBlock reads the options in the block of a check, and the line of each. The controller is at the opening brace.
func (s *Config) parseCheckBlock(c *caddy.Controller) (options []check.Option, lines []int, err error) {
	isOption := func(word string) bool { _, ok := check.Takes(word); return ok }
	err = s.readBlock(c, "check", "an option", isOption, func(line int, name string, values []string) error {
		lines = append(lines, line)
		options = append(options, check.Option{Name: name, Values: values})
		return nil
	})
	return options, lines, err
}

// readBlock reads the block of a property, and hands over each line of it. The controller is at the opening brace. kind is what the
// block has on its lines. What begins with other words is handed over, too, unless it cannot be meant for this block. A block on one
// line, or one that is not closed, is told by the brace, since the lines would be blamed for it.
func (s *Config) readBlock(c *caddy.Controller, of, kind string, isKnown func(string) bool, read func(line int, name string, values []string) error) error {
	brace := c.Line()
	for c.Next() && c.Val() != "}" { // NextBlock would take the stanza's brace for the end
		name, line := c.Val(), c.Line()
		if line == brace {
			return c.Errf("%s: unexpected %q after {: begin a new line after it", of, name)
		}
		values := c.RemainingArgs()
		if _, isProperty := s.known[name]; !isKnown(name) && isProperty {
			return c.Errf("%s: %s is a property of multivalue, not %s of %s: close the block of %s before it, with a } on a line of its own", of, name, kind, of, of)
		}
		if !isKnown(name) && isPlugin(name) {
			return c.Errf("%s: unexpected %q in the block of %s: close the block before it, with a } on a line of its own", of, name, of)
		}
		if slices.Contains(values, "}") {
			return c.Errf("%s: unexpected } after %s: put it on a line of its own", of, name)
		}
		if of != "check" { // whose options may be secrets
			s.noteLine(of+" "+name, fmt.Sprintf("%s:%d", c.File(), line), 2, append([]string{name}, values...))
		}
		if err := read(line, name, values); err != nil {
			return err
		}
	}
	return nil
}

// noticeHost notes a URL whose host is an address or localhost, which a reader may take for what is dialled.
func (s *Config) noticeHost(at string, question *check.Check) {
	text, _, _ := strings.Cut(question.String(), " ")
	u, err := url.Parse(text)
	if err != nil {
		return
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Hostname() != "localhost" {
		return
	}
	s.Notices = append(s.Notices, fmt.Sprintf("%s - check %s dials the address of each record, not %s, which is only the host that it names: leave the host out, unless that is meant", at, text, u.Hostname()))
}

// suggestNear is the end of an error about a mistyped option. The error itself lists those of the scheme.
func suggestNear(url, option string) string {
	if _, ok := check.Takes(option); ok {
		return ""
	}
	scheme, _, _ := strings.Cut(url, ":")
	return text.DidYouMean(option, check.Options(scheme))
}

// unknownOption is the error about a word on the line of a check that no scheme has.
func (s *Config) unknownOption(url, option string) error {
	if _, ok := s.known[option]; ok {
		return fmt.Errorf("%s is a property of multivalue, not an option of check: write it on a line of its own", option)
	}
	scheme, _, _ := strings.Cut(url, ":")
	known := check.Options(scheme)
	if len(known) == 0 {
		return fmt.Errorf("unknown option %q", option)
	}
	return fmt.Errorf("unknown option %q%s", option, text.Suggest(option, known))
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
func (s *Config) splitOptions(url string, words []string) ([]check.Option, error) {
	var options []check.Option
	for len(words) > 0 {
		option := words[0]
		n, ok := check.Takes(option)
		if !ok { // without knowing it, the rest of the line cannot be split either
			return nil, s.unknownOption(url, option)
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
	switch {
	case args[0] == "all":
		return nil
	case args[0] == "any":
		s.Require.Count = 1
		return nil
	case strings.HasSuffix(args[0], "%"):
		return parseShare(c, "require", args[0], &s.Require.Percent)
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
