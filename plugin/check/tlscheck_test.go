package check_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// lasting is a template that is good for so long.
func lasting(name string, d time.Duration) *x509.Certificate {
	cert := template(name)
	cert.NotAfter = time.Now().Add(d)
	return cert
}

func TestExpires(t *testing.T) {
	const days = 24 * time.Hour
	long := lasting("test authority", 100*days)
	long.IsCA, long.BasicConstraintsValid, long.KeyUsage = true, true, x509.KeyUsageCertSign
	_, ca := sign(t, long, nil)
	short := newAuthority(t) // for an hour
	soon := lasting("www.example.org", 10*days)
	trust := func(a *authority) []string { return opt("ca", a.file(t)) }
	for name, tt := range map[string]struct {
		cert  *x509.Certificate
		by    *authority
		lines [][]string
		want  string
	}{
		"long enough":           {lasting("www.example.org", 20*days), ca, [][]string{trust(ca), opt("expires", "14d")}, ""},
		"too soon":              {soon, ca, [][]string{trust(ca), opt("expires", "336h")}, "certificate expires on " + date(soon.NotAfter) + ", within 14d"},
		"not asked":             {lasting("www.example.org", time.Minute), ca, [][]string{trust(ca)}, ""},
		"authority too soon":    {lasting("www.example.org", 20*days), short, [][]string{trust(short), opt("expires", "2h")}, `certificate of the issuer "test authority" expires on ` + date(short.cert.NotAfter) + ", within 2h0m0s"},
		"insecure, too soon":    {soon, nil, [][]string{opt("insecure"), opt("expires", "14d")}, "certificate expires on " + date(soon.NotAfter) + ", within 14d"},
		"insecure, long enough": {lasting("www.example.org", 20*days), nil, [][]string{opt("insecure"), opt("expires", "14d")}, ""},
	} {
		cert, _ := sign(t, tt.cert, tt.by)
		p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, func(conn net.Conn) { answer(ok)(conn) }))
		want := tt.want
		if want != "" {
			want = "tls handshake: " + want
		}
		for _, url := range []string{"tls://www.example.org:1", "https://www.example.org/"} {
			if got := reason(probe(mustNew(t, url, tt.lines...), p.addr)); got != want {
				t.Errorf("%s, %s: %q, want %q", name, url, got, want)
			}
		}
	}
}

func TestTLSPeers(t *testing.T) {
	ca := newAuthority(t)
	cert, _ := sign(t, template("www.example.org"), ca)
	certs := []tls.Certificate{cert}
	within := func(inner func(net.Conn)) func(net.Conn) { return overTLS(&tls.Config{Certificates: certs}, inner) }
	for name, tt := range map[string]struct {
		host  string
		serve func(net.Conn)
		limit time.Duration
		want  string
	}{
		"waits for us":    {"www.example.org", within(hold), patient, ""},
		"speaks first":    {"www.example.org", within(func(conn net.Conn) { io.WriteString(conn, "220 hello\r\n"); hold(conn) }), patient, ""},
		"hangs up":        {"www.example.org", within(func(net.Conn) {}), patient, ""},
		"keeps us":        {"www.example.org", within(func(conn net.Conn) { io.Copy(io.Discard, conn); hold(conn.(*tls.Conn).NetConn()) }), brief, ""},
		"wrong name":      {"other.example.org", within(hold), patient, `certificate is for "www.example.org", not "other.example.org"`},
		"not tls":         {"www.example.org", func(conn net.Conn) { fmt.Fprint(conn, "220 hello\r\n"); hold(conn) }, patient, "peer does not speak tls"},
		"silent":          {"www.example.org", hold, brief, "timed out"},
		"reset":           {"www.example.org", func(conn net.Conn) { conn.Read(make([]byte, 4096)); reset(conn) }, patient, "connection reset"},
		"bytewise":        {"www.example.org", trickle(string(make([]byte, 4096))), brief, "timed out|peer does not speak tls"},
		"reset afterward": {"www.example.org", func(conn net.Conn) { within(func(net.Conn) { reset(conn) })(conn) }, patient, ""},
		"reset, 1.2":      {"www.example.org", resetAfter(&tls.Config{Certificates: certs, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}), patient, ""},
		"reset, asked":    {"www.example.org", resetAfter(&tls.Config{Certificates: certs, ClientAuth: tls.RequestClientCert}), patient, "connection reset"},
		"keeps us, 1.2":   {"www.example.org", silentAfter(&tls.Config{Certificates: certs, MaxVersion: tls.VersionTLS12}), 24 * time.Hour, ""},
	} {
		p := listen(t, "127.0.0.1", tt.serve)
		c := mustNew(t, "tls://"+tt.host+":1", opt("ca", ca.file(t)))
		want := ""
		if tt.want != "" {
			want = "tls handshake: (?:" + tt.want + ")"
		}
		t.Run(name, func(t *testing.T) {
			patiently(t, tt.limit, want, func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
		})
	}
}

// Who negotiates nothing speaks HTTP/1.1, so that it is what alpn http/1.1 wants.
func TestALPNOfHTTPS(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, answer(ok)))
	for alpn, want := range map[string]string{"http/1.1": "", "h2,http/1.1": "", "h2": "tls handshake: peer accepts none of the protocols of alpn"} {
		if got := reason(probe(mustNew(t, "https://", opt("insecure"), opt("alpn", alpn)), p.addr)); got != want {
			t.Errorf("%s: %q, want %q", alpn, got, want)
		}
	}
}

// resetAfter ends a connection by a reset when the handshake is done.
func resetAfter(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) { overTLS(config, func(net.Conn) { reset(conn) })(conn) }
}

// silentAfter says nothing when the handshake is done, to whatever it hears.
func silentAfter(config *tls.Config) func(net.Conn) {
	return overTLS(config, func(conn net.Conn) { io.Copy(io.Discard, conn); hold(conn.(*tls.Conn).NetConn()) })
}

// A server refuses a client behind the client's back in TLS 1.3, and a check must notice.
func TestTLSClientIsRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server, _ := sign(t, template("www.example.org"), ca)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	pair := func(by *authority) [][]string {
		client, _ := sign(t, template("client"), by)
		key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		return [][]string{opt("ca", ca.file(t)), opt("cert", file(t, "CERTIFICATE", client.Certificate...)), opt("key", file(t, "EC PRIVATE KEY", key))}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: version}
		p := listen(t, "127.0.0.1", overTLS(config, hold))
		if err := probe(mustNew(t, "tls://www.example.org:1", pair(ca)...), p.addr); err != nil {
			t.Errorf("tls %x: %v", version, err)
		}
		for _, lines := range [][][]string{pair(other), {opt("ca", ca.file(t))}} {
			got := reason(probe(mustNew(t, "tls://www.example.org:1", lines...), p.addr))
			if !strings.HasPrefix(got, `tls handshake: peer sent the tls alert "`) && got != "tls handshake: connection reset" {
				t.Errorf("tls %x: the reason that a server refuses us is %q", version, got)
			}
		}
	}
}

func TestALPN(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	for _, tt := range []struct {
		peer []string
		line []string
		want string
	}{
		{[]string{"imap"}, opt("alpn", "imap,pop3"), ""},
		{[]string{"pop3"}, opt("alpn", "imap,pop3"), ""},
		{nil, opt("alpn", "imap"), "tls handshake: peer accepts none of the protocols of alpn"},
		{[]string{"pop3"}, opt("alpn", "imap"), `tls handshake: peer sent the tls alert "no application protocol"`},
	} {
		p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: tt.peer}, hold))
		if got := reason(probe(mustNew(t, "tls://:1", opt("insecure"), tt.line), p.addr)); got != tt.want {
			t.Errorf("%v at %v: %q, want %q", tt.line, tt.peer, got, tt.want)
		}
	}
}
