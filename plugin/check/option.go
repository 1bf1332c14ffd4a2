package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An Option is one setting of a check, by its name and as many values as [Takes] says.
type Option struct {
	Name   string
	Values []string
}

// An OptionError says which option was wrong: the one at Index (from 0) in the call of [New].
type OptionError struct {
	Index int
	Err   error
}

// Error is the text of the cause, which names the option.
func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// An option is a row of the table of options.
type option struct {
	name string
	args string // the names of its values, as the manual writes them
	many bool   // may stand more than once
	rest bool   // takes as many values as there are, and at least one
	step bool   // of a dialogue: those keep their order, among all of them

	// set stores the values and returns them in canonical form: those that may be shown, and what must not be,
	// which is nil if nothing is hidden.
	set func(s *settings, v []string) (shown []string, hidden []byte, err error)
}

// options holds all there are, in the order of the canonical text. Which scheme takes which stands in the table of
// schemes.
var options = []option{
	{name: "host", args: "owner", set: setHost},
	{name: "method", args: "NAME", set: setMethod},
	{name: "header", args: "NAME VALUE", many: true, set: setHeader},
	{name: "basic_auth", args: "FILE", set: setBasicAuth},
	{name: "bearer", args: "FILE", set: setBearer},
	{name: "status", args: "LIST", set: setStatus},
	{name: "expect_header", args: "NAME REGEXP", many: true, set: setExpectHeader},
	{name: "no_header", args: "NAME REGEXP", many: true, set: setNoHeader},
	{name: "body", args: "TEXT", set: setBody},
	{name: "body_regex", args: "REGEXP", set: setBodyRegex},
	{name: "no_body", args: "TEXT", set: setNoBody},
	{name: "no_body_regex", args: "REGEXP", set: setNoBodyRegex},
	{name: "send", args: "TEXT", many: true, step: true, set: setSend},
	{name: "expect", args: "TEXT", many: true, step: true, set: setExpect},
	{name: "expect_regex", args: "REGEXP", many: true, step: true, set: setExpectRegex},
	{name: "starttls", many: true, step: true, set: setStartTLS},
	{name: "reset", set: setReset},
	{name: "hold", set: setHold},
	{name: "rcode", args: "LIST", set: setRcode},
	{name: "answer", args: "REGEXP", set: setAnswer},
	{name: "authoritative", set: setAuthoritative},
	{name: "tcp", set: setTCP},
	{name: "role", args: "master|replica", set: setRole},
	{name: "server_name", args: "NAME", set: setServerName},
	{name: "insecure", set: setInsecure},
	{name: "ca", args: "FILE", set: setCA},
	{name: "cert", args: "FILE", set: setCert},
	{name: "key", args: "FILE", set: setKey},
	{name: "alpn", args: "NAME[,NAME]", set: setALPN},
	{name: "expires", args: "DURATION", set: setExpires},
	{name: "connect_timeout", args: "DURATION", set: setConnectTimeout},
	{name: "tls_timeout", args: "DURATION", set: setTLSTimeout},
	{name: "first_byte_timeout", args: "DURATION", set: setFirstByteTimeout},
	{name: "from", args: "ADDRESS", many: true, set: setFrom},
	{name: "invert", set: setInvert},
	{name: "command", args: "PROGRAM [ARG...]", rest: true, set: setCommand}, // the last, for nothing tells where its values end
}

// settings is what the options of one check come to.
type settings struct {
	http     httpSettings
	tls      tlsSettings
	dialer   dialer
	steps    []step // of a dialogue
	reset    bool
	hold     bool
	invert   bool
	askOwner bool          // the host is the record's owner
	given    []givenOption // in the order of the canonical text

	firstByteTimeout time.Duration // how long a peer may take to begin to answer; 0 for no bound of its own

	dns  dnsSettings
	role string // of a Redis; "" for any

	command []string // a program and its arguments
}

// A given is an option as it was given: where in the call of New, what may be shown of it, and what must not be.
type givenOption struct {
	option *option
	index  int
	shown  []string
	hidden []byte
}

// Takes tells how many values the option takes (0 for a flag such as insecure), for a caller that splits a line
// into options; -1 for one that takes all there are, and is best given a line of its own. It is not ok if no scheme has
// such an option.
func Takes(name string) (n int, ok bool) {
	o, ok := findOption(name)
	if !ok {
		return 0, false
	}
	return o.valueCount(), true
}

// Options lists the names of the options that the scheme allows, sorted; none for an unknown scheme. Letter case
// does not matter.
func Options(scheme string) []string {
	s, ok := findScheme(strings.ToLower(scheme))
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(s.optionNames()))
}

func findOption(name string) (*option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return nil, false
	}
	return &options[i], true
}

func (o *option) valueCount() int {
	if o.rest {
		return -1
	}
	return len(strings.Fields(o.args))
}

// add judges one option by what holds for all of them, and stores it.
func (s *settings) addOption(index int, in Option, at *scheme) error {
	o, ok := findOption(in.Name)
	switch {
	case !ok:
		return fmt.Errorf("unknown option %s: %s", quote(in.Name), at.allowedOptions())
	case !slices.Contains(at.optionNames(), o.name):
		return fmt.Errorf("option %s is for %s: %s", o.name, schemesTaking(o.name), at.allowedOptions())
	case len(in.Values) != o.valueCount() && !(o.rest && len(in.Values) > 0):
		return fmt.Errorf("option %s has %d values: write %s", o.name, len(in.Values),
			strings.TrimSpace(o.name+" "+o.args))
	case !o.many && s.has(o.name):
		return fmt.Errorf("duplicate option %s: keep one", o.name)
	}
	shown, hidden, err := o.set(s, in.Values)
	if err != nil {
		return fmt.Errorf("option %s: %w", o.name, err)
	}
	s.insert(givenOption{o, index, shown, hidden})
	return nil
}

// keep inserts g at its place in the canonical text: by the table, then by name, then as written. The last keeps
// the order of headers of one name, which is the only order that HTTP gives a meaning to (RFC 9110, 5.3), and of the
// steps of a dialogue.
func (s *settings) insert(g givenOption) {
	s.given = append(s.given, g)
	slices.SortStableFunc(s.given, func(a, b givenOption) int {
		if a.option.step && b.option.step {
			return 0
		}
		return cmp.Or(cmp.Compare(a.option.row(), b.option.row()), slices.Compare(a.shown, b.shown))
	})
}

// rank is the option's row in the table. All steps of a dialogue rank alike.
func (o *option) row() int {
	return slices.IndexFunc(options, func(other option) bool { return other.name == o.name || other.step && o.step })
}

func (s *settings) has(name string) bool {
	return slices.ContainsFunc(s.given, func(g givenOption) bool { return g.option.name == name })
}

// wrong blames the option of that name for an error that only all options together show.
func (s *settings) optionError(name string, err error) error {
	i := slices.IndexFunc(s.given, func(g givenOption) bool { return g.option.name == name })
	return &OptionError{Index: s.given[i].index, Err: fmt.Errorf("option %s: %w", name, err)}
}

// takes lists the options of the scheme.
func (s *scheme) optionNames() []string { return slices.Concat(s.options, commonOptions) }

// allows says what would be right where an option is wrong.
func (s *scheme) allowedOptions() string {
	return s.name + " takes " + strings.Join(Options(s.name), ", ")
}

// takenBy lists the schemes that take the option.
func schemesTaking(name string) string {
	return schemeNames(func(s *scheme) bool { return slices.Contains(s.optionNames(), name) })
}

// word quotes a value unless it reads as one word without quotes.
func quoteWord(v string) string {
	plain := v != "" && v[0] != '"' && utf8.ValidString(v) &&
		!strings.ContainsFunc(v, func(r rune) bool { return r == ' ' || !strconv.IsPrint(r) })
	if plain {
		return v
	}
	return strconv.Quote(v)
}
