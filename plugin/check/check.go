// Package check knows what to ask an address and what counts as a good answer.
//
// A [Check] is made once, from a URL and options, and is never changed after that; every mistake in them is found
// by [New]. The URL says whom to ask for and what; the address that is dialled is always the argument of
// [Check.Probe], whatever names or redirects say. A probe starts nothing that outlives it, keeps nothing for the next
// but credentials out of a file, until that changes, and answers with nil, with the reason of the failure, or with
// [ErrAbstain].
//
// To add a protocol: one file with a builder, one row in the table of schemes, and a row for each new option.
package check

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
)

// ErrAbstain means that the probe could not be made: no free descriptor, no local port, or the caller is shutting
// down. It is evidence of nothing, so it must move no state (B49). What [Check.Probe] returns wraps it.
var ErrAbstain = errors.New("could not ask")

// A Check is one question and the answers to it that count as healthy. It is immutable, and valid because only
// [New] makes one; any number of goroutines may use it at once.
type Check struct {
	text      string
	secret    uint64
	port      uint16
	prober    prober
	holder    holdingProber // nil if there is nothing to keep, or a talk does it
	talk      *Talk
	hold      bool
	invert    bool
	ownerSpec *spec // nil unless a record's owner is to be asked for

	portNamed bool
}

// A probe asks the address once and returns before ctx has been over for long. It need not tell a cancelled ctx
// from a failure: [Check.Probe] does that for all of them.
type prober interface {
	probe(ctx context.Context, addr netip.AddrPort) error
}

// A proberFunc is a function that is a prober.
type proberFunc func(ctx context.Context, addr netip.AddrPort) error

func (f proberFunc) probe(ctx context.Context, addr netip.AddrPort) error { return f(ctx, addr) }

// A scheme is one way to ask. The builder gets a spec whose URL is well formed and whose options are all allowed;
// it judges what only its protocol can judge, may complete the spec, and returns the probe.
type scheme struct {
	name    string
	port    uint16 // where neither the URL nor the record names one; 0 for none
	example string // what error messages hold up as right
	options []string
	build   func(*spec) (prober, error)
}

// schemes is all there is to choose from, sorted by name.
var schemes = []scheme{
	{"dns", 53, "dns://:53/example.org", slices.Concat(dnsOptions, []string{"tcp"}, socketOptions), newDNS},
	{"dot", 853, "dot://ns1.example.org/example.org", slices.Concat(dnsOptions, tlsOptions, answerOptions, socketOptions), newDOT},
	{"exec", 0, "exec://:5432", execOptions, newExec},
	{"grpc", 0, "grpc://:50051", slices.Concat(answerOptions, socketOptions), newGRPC},
	{"grpcs", 0, "grpcs://api.example.org:50051", slices.Concat(tlsOptions, answerOptions, socketOptions), newGRPCS},
	{"http", 80, "http://:8080/healthz", slices.Concat(ownerOptions, httpOptions, holdOptions, answerOptions, socketOptions), newHTTP},
	{"https", 443, "https://www.example.org/healthz", slices.Concat(ownerOptions, httpOptions, []string{"alpn"}, tlsOptions, holdOptions, answerOptions, socketOptions), newHTTPS},
	{"icmp", 0, "icmp://", socketOptions, newICMP},
	{"mysql", 3306, "mysql://:3306", slices.Concat(upgradeOptions, tlsOptions, answerOptions, socketOptions), newMySQL},
	{"postgres", 5432, "postgres://:5432", slices.Concat(upgradeOptions, tlsOptions, answerOptions, socketOptions), newPostgres},
	{"redis", 6379, "redis://:6379", slices.Concat(redisOptions, answerOptions, socketOptions), newRedis},
	{"rediss", 6379, "rediss://cache.example.org:6379", slices.Concat(redisOptions, tlsOptions, answerOptions, socketOptions), newRediss},
	{"tcp", 0, "tcp://:5432", tcpOptions, newTCP},
	{"tls", 0, "tls://db.example.org:5432", slices.Concat(ownerOptions, []string{"alpn"}, tlsOptions, connectOptions, socketOptions), newTLS},
}

// everyOptions are the options of every scheme.
var commonOptions = []string{"invert"}

// A spec is a check being made.
type spec struct {
	scheme *scheme
	host   string // whom to ask for, in lower case; "" is the address itself
	port   uint16 // the port to dial; 0 if only the record can name it
	path   string // as it is written on the wire
	query  string // without the question mark

	portNamed bool // the URL has it, or there are none
	talk      *Talk
	holder    holdingProber
	settings
}

// New makes the check that the URL and its options describe. The URL is SCHEME://[HOST][:PORT][/PATH][?QUERY]; its
// host is whom to ask for (Host header, server name, name in the certificate) and is never dialled or looked up.
// Files that options name are read here, and only here, but for those of basic_auth and bearer, which are read again
// when they have changed.
//
// An error about one option is an [*OptionError]; any other is about the URL. No error repeats the value of a
// header, a text to send, or credentials out of a URL.
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
	if s.invert || s.askOwner || s.dialer.bound() || s.hasPhaseTimeout() {
		s.talk = nil // a conversation knows of none of these, for few checks have them: a goroutine asks
	}
	if err := s.checkHold(); err != nil {
		return nil, err
	}
	c := &Check{
		text: s.canonicalText(), secret: s.hiddenHash(), port: s.port, portNamed: s.portNamed,
		prober: prober, talk: s.talk, holder: s.holder, hold: s.hold, invert: s.invert,
	}
	if s.askOwner {
		c.ownerSpec = s
	}
	return c, nil
}

// String is the canonical text of the check, its identity together with [Check.Secret]: the URL, of which a
// default port is left out behind a host, then the options in the order of their table, for example
//
//	https://www.example.org:8443/healthz status 200-299,404 body ok
//
// A value with spaces, or with characters that do not print, is quoted as in Go; of a header only the name is shown, and of a text to send that there is one.
func (c *Check) String() string { return c.text }

// Secret is a hash of what [Check.String] does not show: the values of headers, the texts to send, and what the files of
// ca, cert and key held when [New] read them. Two checks with one text but different secrets are different checks. It is 0 if
// nothing is hidden, and means nothing outside this process.
func (c *Check) Secret() uint64 { return c.secret }

// Port is the port to dial where the record names none: the URL's, else the default of its scheme, 0 if it has none.
func (c *Check) Port() uint16 { return c.port }

// PortNamed reports whether the port that a record names does not matter: the URL names one, or its scheme has none, and
// then Port is 0.
func (c *Check) PortNamed() bool { return c.portNamed }

// Probe asks addr once. It returns nil if the answer was good, else the reason in a few words (at most about 200
// bytes, printable, without the address). [ErrAbstain] is in the chain of the error if the question could not be
// put at all, or ctx was cancelled.
//
// The deadline of ctx bounds everything together, connecting, handshake and exchange; without one a silent peer is
// waited for until ctx is cancelled. A deadline that passes is a failure. When Probe returns, the connection is
// closed and no goroutine is left.
func (c *Check) Probe(ctx context.Context, addr netip.AddrPort) error {
	return c.result(ctx, c.prober.probe(ctx, addr))
}

// result is what a probe comes to that ended so.
func (c *Check) result(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%w: cancelled", ErrAbstain)
	}
	if c.invert {
		return invertResult(err)
	}
	return err
}

var errInverted = errors.New("answered, but invert is set")

// inverted is the result of a question that is meant to fail (B46). One that could not be put has not failed.
func invertResult(err error) error {
	switch {
	case err == nil:
		return errInverted
	case errors.Is(err, ErrAbstain):
		return err
	}
	return nil
}

func setInvert(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.invert = true
	return nil, nil, nil
}

// findScheme finds a row of the table.
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

// text is what [Check.String] promises.
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

// seed makes the hashes worthless to whoever reads them outside this process.
var seed = maphash.MakeSeed()

// secret is what [Check.Secret] promises. The names go into the hash too, so that two headers that swap their
// values are seen.
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
	return max(h.Sum64(), 1)
}
