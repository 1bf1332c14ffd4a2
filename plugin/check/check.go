// Package check probes one address and decides whether the answer is good.
//
// Its main type is [Check]: a URL with options, which [New] parses and validates. The pool calls
// [Check.Probe] with the address to dial, or lets the event loop of package wire hold the
// [Check.Talk]. The URL says what to ask and under which name; the address is always an argument.
// No host is looked up, no redirect and no proxy is followed, and a probe leaves nothing behind but the
// connection that [Check.ProbeReusing] returns.
//
// To add a protocol, write one file with a builder, and add a row to the table of schemes and one
// to the table of options for each new option.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
)

// ErrAbstain means that the probe could not be made: there was no free descriptor or local port, no
// permission to send ICMP, a source address that this host does not have, a credential file that
// cannot be read, too many programs running already, or the caller is shutting down. It says nothing
// about the target, so it must not change a state (B49). Which errors of the system count is in
// localErrors (reason.go), what turns on the source address in dial.go. Errors of [Check.Probe]
// wrap it; test with [errors.Is].
var ErrAbstain = errors.New("could not ask")

// A Check is one question to an address and the answers that count as healthy. It is immutable, and
// only [New] makes one, so every Check is valid. Any number of goroutines may use it at once.
type Check struct {
	text       string        // what String returns
	secret     uint64        // what Secret returns
	port       uint16        // what Port returns
	prober     prober        // asks the question
	holder     holdingProber // nil if the connection cannot be held, or if the Talk holds it
	talk       *Talk         // nil if a goroutine has to ask
	repeater   *repeater     // nil unless the option reuse is set
	hold       bool          // the option hold is set
	invert     bool          // the option invert is set
	ownerSpec  *spec         // what ForOwner builds from; nil unless the host is the owner of the record
	files      *trustFiles   // of ca, cert and key; nil if there are none
	reports    bool          // what Reports returns
	ofThisHost bool          // what OfThisHost returns

	portNamed bool // what PortNamed returns
}

// A prober asks an address once. It must return soon after ctx ends. It may report a cancelled ctx
// as a failure: [Check.Probe] turns that into ErrAbstain for all of them.
type prober interface {
	probe(ctx context.Context, addr netip.AddrPort) error
}

// A proberFunc is a prober without state of its own.
type proberFunc func(ctx context.Context, addr netip.AddrPort) error

func (f proberFunc) probe(ctx context.Context, addr netip.AddrPort) error { return f(ctx, addr) }

// A scheme is one kind of check, named by the first part of its URL. The builder gets a spec whose
// URL is well formed and whose options are all allowed for the scheme. It validates what only its
// protocol can validate, may complete the spec, and returns the prober.
type scheme struct {
	name    string   // in lower case
	port    uint16   // the default port; 0 if the URL or the record must name one
	example string   // a correct URL for error messages
	options []string // the allowed options, beside commonOptions
	build   func(*spec) (prober, error)
}

// schemes lists every kind of check, sorted by name. Which scheme takes which option is decided
// here and nowhere else.
var schemes = []scheme{
	{"agent", 0, "agent://:9777", agentOptions, newAgent},
	{"dns", 53, "dns://:53/example.org", slices.Concat(dnsOptions, []string{"tcp"}, reuseOptions, proxyOptions, socketOptions), newDNS},
	{"dot", 853, "dot://ns1.example.org/example.org", slices.Concat(dnsOptions, tlsOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newDOT},
	{"exec", 0, "exec://:5432", execOptions, newExec},
	{"grpc", 0, "grpc://:50051", slices.Concat(answerOptions, reuseOptions, proxyOptions, socketOptions), newGRPC},
	{"grpcs", 0, "grpcs://api.example.org:50051", slices.Concat(tlsOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newGRPCS},
	{"http", 80, "http://:8080/healthz", slices.Concat(ownerOptions, httpOptions, holdOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newHTTP},
	{"https", 443, "https://www.example.org/healthz", slices.Concat(ownerOptions, httpOptions, []string{"alpn"}, tlsOptions, holdOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newHTTPS},
	{"icmp", 0, "icmp://", socketOptions, newICMP},
	{"mysql", 3306, "mysql://:3306", slices.Concat(upgradeOptions, tlsOptions, answerOptions, proxyOptions, socketOptions), newMySQL},
	{"postgres", 5432, "postgres://:5432", slices.Concat(upgradeOptions, tlsOptions, answerOptions, proxyOptions, socketOptions), newPostgres},
	{"redis", 6379, "redis://:6379", slices.Concat(redisOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newRedis},
	{"rediss", 6379, "rediss://cache.example.org:6379", slices.Concat(redisOptions, tlsOptions, answerOptions, reuseOptions, proxyOptions, socketOptions), newRediss},
	{"tcp", 0, "tcp://:5432", tcpOptions, newTCP},
	{"tls", 0, "tls://db.example.org:5432", slices.Concat(ownerOptions, []string{"alpn"}, tlsOptions, connectOptions, proxyOptions, socketOptions), newTLS},
}

// commonOptions are the options that every scheme takes, except agent.
var commonOptions = []string{"invert"}

// A spec is a check while it is built: the parts of the URL in canonical form, and the settings
// from its options. [Check.For] keeps it, to build the check again for another host.
type spec struct {
	scheme *scheme
	host   string // the name to ask for, in lower case; "" for the address itself
	port   uint16 // the port to dial; 0 if only the record can name it
	path   string // percent-encoded, as it is sent
	query  string // without the question mark

	portNamed bool          // the URL names a port, or the scheme has none
	talk      *Talk         // set by the builder if the event loop can run the check
	holder    holdingProber // set by the builder if the connection can be held
	repeater  *repeater     // set by the builder with the option reuse
	reports   bool          // answers may say something of the backend
	settings
}

// New makes the check that the URL and its options describe. The URL is
// SCHEME://[HOST][:PORT][/PATH][?QUERY]. Its host is the name to ask for (Host header, server name,
// name in the certificate); it is never dialled or looked up.
//
// Files that options name are read here once, and again when they change: see [Check.Fault].
//
// An error about one option is an [*OptionError]; any other error is about the URL. No error
// repeats the value of a header, a text to send, or credentials from a URL, so all are safe to log.
func New(rawURL string, options ...Option) (*Check, error) {
	s, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	for i, o := range options {
		if err := s.addOption(i, o, s.scheme); err != nil {
			return nil, &OptionError{Index: i, Err: err}
		}
	}
	if err := s.checkOwner(); err != nil {
		return nil, err
	}
	prober, err := s.scheme.build(s)
	if err != nil {
		return nil, err
	}
	if err := s.checkWeightHeader(); err != nil {
		return nil, err
	}
	if s.invert || s.askOwner || s.reports || s.dialer.bound() || s.dialer.proxyProtocol || s.hasPhaseTimeout() {
		s.talk = nil // the event loop knows none of these; few checks have them, so a goroutine asks
	}
	if err := cmp.Or(s.checkHold(), s.checkReuse()); err != nil {
		return nil, err
	}
	c := &Check{
		text: s.canonicalText(), secret: s.hiddenHash(), port: s.port, portNamed: s.portNamed,
		prober: prober, talk: s.talk, repeater: s.repeater, holder: s.holder, hold: s.hold, invert: s.invert, reports: s.reports,
	}
	c.files = s.tls.files
	c.ofThisHost = s.scheme.name == "exec" || s.dialer.bound()
	if s.askOwner {
		c.ownerSpec = s
	}
	return c, nil
}

// String is the canonical text of the check: the URL, without a default port if there is a host,
// then the options in the order of their table. Together with [Check.Secret] it is the identity of
// the check. For example:
//
//	https://www.example.org:8443/healthz status 200-299,404 body ok
//
// A value with spaces or unprintable characters is quoted as in Go. Values of headers and texts to
// send are shown as "…".
func (c *Check) String() string { return c.text }

// Secret is a hash of what [Check.String] hides: values of headers and texts to send, not the
// content of files. Two checks with equal texts but different secrets are different checks. It is 0
// if nothing is hidden. The hash is keyed with a random seed and means nothing outside this process.
func (c *Check) Secret() uint64 { return c.secret }

// Port is the port to dial if the record names none: that of the URL, else the default of the
// scheme, else 0.
func (c *Check) Port() uint16 { return c.port }

// PortNamed reports whether the port of a record is ignored: the URL names a port, or the scheme
// has no ports. In the second case Port is 0.
func (c *Check) PortNamed() bool { return c.portNamed }

// OfThisHost reports whether the question belongs to this host, so that another one cannot ask it in its place: it is asked by a
// program of this host (exec), or from an address of it (from).
func (c *Check) OfThisHost() bool { return c.ofThisHost }

// Probe asks addr once. It returns nil if the answer is good, else the reason in a few words: at
// most about 200 bytes, printable, without the address. The error wraps [ErrAbstain] if the
// question could not be asked, or if ctx was cancelled.
//
// The deadline of ctx bounds connecting, handshake and exchange together. Without a deadline, a
// silent peer is waited for until ctx is cancelled. A deadline that passes is a failure. When Probe
// returns, the connection is closed and no goroutine is left, except for one that reads a file with
// credentials and hangs: a check has at most one of those.
func (c *Check) Probe(ctx context.Context, addr netip.AddrPort) error {
	return c.result(ctx, c.prober.probe(ctx, addr))
}

// Fault says why the files of ca, cert and key are not used as they are now, so that what they said
// before is; empty if they are.
func (c *Check) Fault() string { return c.files.Fault() }

// result turns the outcome of a prober into the outcome of the check: cancelled means abstained,
// and invert is applied last.
func (c *Check) result(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%w: cancelled", ErrAbstain)
	}
	if c.invert {
		return invertResult(err)
	}
	return err
}

// errInverted is the reason of a failed check with the option invert.
var errInverted = errors.New("answered, but invert is set")

// invertResult swaps success and failure (B46). A question that could not be asked has neither
// succeeded nor failed.
func invertResult(err error) error {
	switch {
	case err == nil:
		return errInverted
	case errors.Is(err, ErrAbstain):
		return err
	}
	return nil
}

// setInvert parses the option invert.
func setInvert(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.invert = true
	return nil, nil, nil
}

// findScheme looks a scheme up by name, which must be in lower case.
func findScheme(name string) (*scheme, bool) {
	i := slices.IndexFunc(schemes, func(s scheme) bool { return s.name == name })
	if i < 0 {
		return nil, false
	}
	return &schemes[i], true
}

// schemeNames lists the schemes that satisfy want, for an error message.
func schemeNames(want func(*scheme) bool) string {
	var names []string
	for i := range schemes {
		if want(&schemes[i]) {
			names = append(names, schemes[i].name)
		}
	}
	return strings.Join(names, ", ")
}

// canonicalText makes the text for [Check.String]. Two spellings of one check must give the same
// text.
func (s *spec) canonicalText() string {
	words := []string{s.url()}
	for _, o := range s.given {
		words = append(words, o.option.name)
		for _, v := range o.shown {
			words = append(words, quoteWord(v))
		}
	}
	return strings.Join(words, " ")
}

// seed keys the hash of secrets, so that a hash that leaves this process does not help to guess
// them.
var seed = maphash.MakeSeed()

// hiddenHash makes the hash for [Check.Secret]. The names of the options and headers are part of
// it, so that two headers that swap their values give another hash.
func (s *spec) hiddenHash() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	hidden := false
	for _, o := range s.given {
		if o.hidden == nil {
			continue
		}
		hidden = true
		fmt.Fprintf(&h, "%s %q %d ", o.option.name, o.shown, len(o.hidden))
		h.Write(o.hidden)
	}
	if !hidden {
		return 0
	}
	return max(h.Sum64(), 1) // 0 means that nothing is hidden
}
