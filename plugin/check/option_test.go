package check_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// triedElsewhere are options of several schemes that a single probe does not show, and one that
// needs its own network.
var triedElsewhere = map[string]string{
	"hold": "TestProbeKeeping", "reuse_for": "TestKeptLasts", "host": "TestOwner", "icmp invert good": "TestICMP",
}

// Each option that several protocols have is tried with each of their schemes, once with a good
// result and once with a bad one.
func TestEveryOptionOfEveryScheme(t *testing.T) {
	m := newMatrix(t)
	for _, w := range ways(t) {
		m.tryEverywhere(w)
		m.tryInTime(w)
		m.tryProxied(w)
		m.tryReused(w)
		if w.tls {
			m.tryOverTLS(w)
		}
	}
	takers := make(map[string]int)
	for scheme := range strings.SplitSeq(everyScheme, ", ") {
		for _, option := range check.Options(scheme) {
			takers[option]++
		}
	}
	for scheme := range strings.SplitSeq(everyScheme, ", ") {
		for _, option := range check.Options(scheme) {
			for _, how := range []string{" good", " bad"} {
				one := scheme + " " + option + how
				own := takers[option] <= 2 // of a protocol and the same over TLS
				if !own && !m.tried[one] && triedElsewhere[option] == "" && triedElsewhere[one] == "" {
					t.Errorf("not tried: %s", one)
				}
			}
		}
	}
}

// A matrix is made of schemes and options.
type matrix struct {
	*testing.T
	good, strict          *tls.Config // strict wants a certificate of the client
	trust, stranger       []string    // options
	client, strangeClient [][]string
	ends                  string          // when the certificate of good does
	tried                 map[string]bool // scheme, option, and how it was to come out
}

const day = 24 * time.Hour

func newMatrix(t *testing.T) *matrix {
	authority := func() *authority {
		cert := lasting("test authority", 100*day)
		cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign
		_, a := sign(t, cert, nil)
		return a
	}
	ca, stranger := authority(), authority()
	cert := lasting(www, 20*day)
	pair, _ := sign(t, cert, ca)
	good := &tls.Config{Certificates: []tls.Certificate{pair}}
	strict := good.Clone()
	strict.ClientAuth, strict.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	strict.ClientCAs.AddCert(ca.cert)
	trust := opt("ca", ca.file(t))
	return &matrix{
		T: t, good: good, strict: strict, trust: trust, stranger: opt("ca", stranger.file(t)), ends: date(cert.NotAfter),
		client: append(clientPair(t, ca), trust), strangeClient: append(clientPair(t, stranger), trust), tried: make(map[string]bool),
	}
}

// clientPair are options with a client certificate and its key.
func clientPair(t *testing.T, by *authority) [][]string {
	t.Helper()
	client, _ := sign(t, template("client"), by)
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return [][]string{opt("cert", file(t, "CERTIFICATE", client.Certificate...)), opt("key", file(t, "EC PRIVATE KEY", key))}
}

// try probes with an option. The reason must match want, a regular expression; "" is a good answer.
func (m *matrix) try(w way, option string, c *check.Check, at netip.AddrPort, want string) {
	m.Helper()
	m.judge(w, option, c, probe(c, at), want)
}

// tryFor is try with an hour for the probe, so that only a bound of its own ends it in time.
func (m *matrix) tryFor(w way, option string, c *check.Check, at netip.AddrPort, want string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), time.Hour)
	defer cancel()
	defer time.AfterFunc(patient, cancel).Stop()
	m.judge(w, option, c, c.Probe(ctx, at), want)
}

func (m *matrix) judge(w way, option string, c *check.Check, err error, want string) {
	m.Helper()
	how := " bad"
	if want == "" {
		how = " good"
	}
	m.tried[w.scheme()+" "+option+how] = true
	if !regexp.MustCompile("^(step 4, starttls: )?(?:"+want+")$").MatchString(reason(err)) || (want == "") != (err == nil) {
		m.Errorf("option %s%s, %s: %q, want %q", option, how, c, reason(err), want)
	}
	if abstains := strings.HasPrefix(want, "could not ask"); errors.Is(err, check.ErrAbstain) != abstains {
		m.Errorf("option %s%s, %s: %v abstains, or does not", option, how, c, err)
	}
}

// tryEverywhere tries the options that have nothing to do with TLS.
func (m *matrix) tryEverywhere(w way) {
	m.Helper()
	var base [][]string
	if w.tls {
		base = append(base, m.trust)
	}
	with := func(lines ...[]string) *check.Check { return w.check(m, www, append(lines, base...)...) }
	p := w.peer(m, m.good)
	if err := probe(with(), p.addr); err != nil && w.scheme() == "icmp" {
		lacking(m.T, err.Error())
	} else if err != nil {
		m.Errorf("%s: %v", with(), err)
	}
	dead := w.dead
	if !dead.IsValid() {
		dead = refusing(m.T)
	}
	if inverts := slices.Contains(check.Options(w.scheme()), "invert"); inverts && w.scheme() != "icmp" {
		m.try(w, "invert", with(opt("invert")), dead, "")
		m.try(w, "invert", with(opt("invert")), p.addr, "answered, but invert is set")
	} else if inverts {
		m.try(w, "invert", with(opt("invert")), p.addr, "answered, but invert is set")
	}
	if w.scheme() == "exec" {
		return
	}
	source := "127.0.0.2"
	if !ports.Has(m, source) {
		source = "127.0.0.1"
	}
	m.try(w, "from", with(opt("from", source)), p.addr, "")
	came := func(conn net.Conn) bool {
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		return host == source
	}
	if len(p.accepted()) > 0 && !wait(func() bool { return slices.ContainsFunc(p.accepted(), came) }) { // tcp ends before that
		m.Errorf("%s: no connection came from there", with(opt("from", source)))
	}
	m.try(w, "from", with(opt("from", "192.0.2.1")), p.addr, "could not ask: from 192.0.2.1 is not an address of this host")
}

// tryInTime tries the bounds of the phases of a probe (B39).
func (m *matrix) tryInTime(w way) {
	m.Helper()
	with := func(lines ...[]string) *check.Check {
		if w.tls {
			lines = append(lines, m.trust)
		}
		return w.check(m, www, lines...)
	}
	good, black := w.peer(m, m.good).addr, full(m.T)
	silent, deaf := listen(m, "127.0.0.1", w.serve(m.good, hold)).addr, listen(m, "127.0.0.1", w.first(hold)).addr
	for _, tt := range []struct {
		option  string
		applies bool
		bad     netip.AddrPort
		want    string
	}{
		{"connect_timeout", true, black, "connect: timed out"},
		{"tls_timeout", w.tls, deaf, "tls handshake: timed out"},
		{"first_byte_timeout", w.tls || w.scheme() != "tcp", silent, `(no response|step 5, expect "250"): timed out`},
	} {
		if tt.applies && slices.Contains(check.Options(w.scheme()), tt.option) {
			m.tryFor(w, tt.option, with(opt(tt.option, "1m")), good, "")
			m.tryFor(w, tt.option, with(opt(tt.option, "200ms")), tt.bad, tt.want)
		}
	}
}

// tryProxied tries the PROXY protocol with a peer that wants its header before anything else, and
// with one that does not know it.
func (m *matrix) tryProxied(w way) {
	m.Helper()
	if w.addr.IsValid() { // not over TCP
		return
	}
	with := func(lines ...[]string) *check.Check {
		if w.tls {
			lines = append(lines, m.trust)
		}
		return w.check(m, www, lines...)
	}
	wants := listen(m, "127.0.0.1", behindHeader(w.serve(m.good, w.good))).addr
	m.try(w, "proxy_protocol", with(opt("proxy_protocol")), wants, "")
	if w.scheme() == "tcp" && !w.tls {
		return // asks for a connection, and nothing more
	}
	if err := probeFor(with(), wants, brief); err == nil {
		m.Errorf("%s: good without the header", with())
	}
	unaware := listen(m, "127.0.0.1", func(conn net.Conn) { io.ReadFull(conn, make([]byte, len(proxyHeader))) }).addr
	m.try(w, "proxy_protocol", with(opt("proxy_protocol")), unaware, ".+")
}

// proxyHeader is what the specification of the PROXY protocol demands of a health check (2.2):
// version 2, LOCAL, AF_UNSPEC, and a length of 0.
const proxyHeader = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00"

// behindHeader serves connections that start with the header, and closes others.
func behindHeader(serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		head := make([]byte, len(proxyHeader))
		if n, _ := io.ReadFull(conn, head); string(head[:n]) == proxyHeader {
			serve(conn)
		}
	}
}

// tryOverTLS tries the options about TLS.
func (m *matrix) tryOverTLS(w way) {
	m.Helper()
	const other, unknown = "other.example.org", "tls handshake: certificate signed by an unknown authority"
	lenient, strict := w.peer(m, m.good).addr, w.peer(m, m.strict).addr
	for _, tt := range []struct {
		option, host string
		lines        [][]string
		at           netip.AddrPort
		want         string
	}{
		{"ca", www, [][]string{m.trust}, lenient, ""},
		{"ca", www, [][]string{m.stranger}, lenient, unknown},
		{"server_name", other, [][]string{m.trust, opt("server_name", www)}, lenient, ""},
		{"server_name", www, [][]string{m.trust, opt("server_name", other)}, lenient, `tls handshake: certificate is for "www.example.org", not "other.example.org"`},
		{"insecure", other, [][]string{opt("insecure")}, lenient, ""},
		{"insecure", other, [][]string{opt("insecure"), opt("expires", "30d")}, lenient, "tls handshake: certificate expires on " + m.ends + ", within 30d"},
		{"expires", www, [][]string{m.trust, opt("expires", "14d")}, lenient, ""},
		{"expires", www, [][]string{m.trust, opt("expires", "30d")}, lenient, "tls handshake: certificate expires on " + m.ends + ", within 30d"},
		{"cert", www, m.client, strict, ""},
		{"cert", www, [][]string{m.trust}, strict, clientRefused},
		{"key", www, m.client, strict, ""},
		{"key", www, m.strangeClient, strict, clientRefused},
	} {
		m.try(w, tt.option, w.check(m, tt.host, tt.lines...), tt.at, tt.want)
	}
	if w.noTLS != "" {
		m.try(w, "starttls", w.check(m, www, m.trust), lenient, "")
		m.try(w, "starttls", w.check(m, www, m.trust), listen(m, "127.0.0.1", say(w.noTLS)).addr, "server does not offer tls|tls handshake: peer does not speak tls")
	}
}

// clientRefused is how a server ends a connection because it does not accept our client
// certificate. The alert may be lost to a reset.
const clientRefused = `(tls handshake|no response|request not sent|connection reset while waiting for the response|step 5, expect "250")(: ` +
	`(peer sent the tls alert "[a-z ]+"|connection reset))?`
