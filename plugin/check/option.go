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

// An Option is one setting of a check: its name, and as many values as [Takes] says.
type Option struct {
	Name   string
	Values []string
}

// An OptionError tells which option is wrong. A caller that knows the line of each option can so
// name the line.
type OptionError struct {
	Index int   // in the arguments of New, from 0
	Err   error // what is wrong; it names the option
}

// Error is the text of Err.
func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *OptionError) Unwrap() error { return e.Err }

// An option is a row of the table of options.
type option struct {
	name string
	args string // the names of its values, as in the manual
	many bool   // may be given more than once
	rest bool   // takes all values that follow, at least one
	step bool   // a step of a dialogue; the order of steps is kept

	// set stores the values. It returns them in canonical form: those that may be shown, and those
	// that must not, nil if nothing is hidden.
	set func(s *settings, v []string) (shown []string, hidden []byte, err error)
}

// options lists every option, in the order of the canonical text. Which scheme takes which is in
// the table of schemes.
var options = []option{
	{name: "host", args: "owner", set: setHost},
	{name: "method", args: "NAME", set: setMethod},
	{name: "header", args: "NAME VALUE", many: true, set: setHeader},
	{name: "basic_auth", args: "FILE", set: setBasicAuth},
	{name: "bearer", args: "FILE", set: setBearer},
	{name: "status", args: "LIST", set: setStatus},
	{name: "expect_header", args: "NAME REGEXP", many: true, set: setExpectHeader},
	{name: "no_header", args: "NAME REGEXP", many: true, set: setNoHeader},
	{name: "weight_header", args: "NAME", set: setWeightHeader},
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
	{name: "reuse", set: setReuse},
	{name: "reuse_for", args: "DURATION", set: setReuseFor},
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
	{name: "proxy_protocol", set: setProxyProtocol},
	{name: "from", args: "ADDRESS", many: true, set: setFrom},
	{name: "invert", set: setInvert},
	{name: "command", args: "PROGRAM [ARG...]", rest: true, set: setCommand}, // must be last: nothing tells where its values end
}

// settings are the values of all options of one check. Each option writes only its own fields.
type settings struct {
	http     httpSettings
	tls      tlsSettings
	dialer   dialer
	steps    []step // of a dialogue, in order
	reset    bool
	hold     bool
	reuse    bool
	reuseFor time.Duration // how long a connection is used; 0 for the default
	invert   bool
	askOwner bool          // the host to ask for is the owner of the record
	given    []givenOption // in the order of the canonical text

	firstByteTimeout time.Duration // until the answer starts; 0 for no bound of its own

	dns  dnsSettings
	role string // demanded of a Redis; "" for any

	command []string // a program and its arguments
}

// A givenOption is an option as it was given.
type givenOption struct {
	option *option
	index  int      // in the arguments of New
	shown  []string // in canonical form, for String
	hidden []byte   // for Secret; nil if nothing is hidden
}

// Takes returns how many values the option takes, so that a caller can split a line into options: 0
// for a flag such as insecure, -1 for an option that takes all values that follow. It is not ok if
// no scheme has such an option.
func Takes(name string) (n int, ok bool) {
	o, ok := findOption(name)
	if !ok {
		return 0, false
	}
	return o.valueCount(), true
}

// Options lists the names of the options of the scheme, sorted; none for an unknown scheme. Upper
// and lower case are the same.
func Options(scheme string) []string {
	s, ok := findScheme(strings.ToLower(scheme))
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(s.optionNames()))
}

// findOption looks an option up by name.
func findOption(name string) (*option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return nil, false
	}
	return &options[i], true
}

// valueCount is what Takes returns.
func (o *option) valueCount() int {
	if o.rest {
		return -1
	}
	return len(strings.Fields(o.args))
}

// addOption validates what is the same for every option, then stores it. What only all options
// together show is left to the builder.
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

// insert puts g in its place in the canonical text: by the row in the table, then by value, then as
// given. The last keeps the order of steps, and of headers with one name, whose order has a meaning
// (RFC 9110, 5.3).
func (s *settings) insert(g givenOption) {
	s.given = append(s.given, g)
	slices.SortStableFunc(s.given, func(a, b givenOption) int {
		// Steps keep their order, whatever their names are.
		if a.option.step && b.option.step {
			return 0
		}
		return cmp.Or(cmp.Compare(a.option.row(), b.option.row()), slices.Compare(a.shown, b.shown))
	})
}

// row is the index in the table. All steps of a dialogue count as one row.
func (o *option) row() int {
	return slices.IndexFunc(options, func(other option) bool { return other.name == o.name || other.step && o.step })
}

// has reports whether the option was given.
func (s *settings) has(name string) bool {
	return slices.ContainsFunc(s.given, func(g givenOption) bool { return g.option.name == name })
}

// optionError blames the option of that name, which must have been given, for a mistake that only
// all options together show.
func (s *settings) optionError(name string, err error) error {
	i := slices.IndexFunc(s.given, func(g givenOption) bool { return g.option.name == name })
	return &OptionError{Index: s.given[i].index, Err: fmt.Errorf("option %s: %w", name, err)}
}

// optionNames lists every option of the scheme. An agent says itself what is good, so there is nothing to invert.
func (s *scheme) optionNames() []string {
	if s.name == "agent" {
		return s.options
	}
	return slices.Concat(s.options, commonOptions)
}

// allowedOptions is the second half of an error message: what can be used instead.
func (s *scheme) allowedOptions() string {
	return s.name + " takes " + strings.Join(Options(s.name), ", ")
}

// schemesTaking lists the schemes that have the option, for an error message.
func schemesTaking(name string) string {
	return schemeNames(func(s *scheme) bool { return slices.Contains(s.optionNames(), name) })
}

// quoteWord quotes a value unless it can be read as one word without quotes.
func quoteWord(v string) string {
	// A quote at the start would read as a quoted word.
	plain := v != "" && v[0] != '"' && utf8.ValidString(v) &&
		!strings.ContainsFunc(v, func(r rune) bool { return r == ' ' || !strconv.IsPrint(r) })
	if plain {
		return v
	}
	return strconv.Quote(v)
}
