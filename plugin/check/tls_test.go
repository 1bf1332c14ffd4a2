package check_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// date is how a reason names a day.
func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// sign makes a certificate of the template; without an authority it signs itself.
func sign(t testing.TB, template *x509.Certificate, by *authority) (tls.Certificate, *authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, &authority{cert, key}
}

func newAuthority(t *testing.T) *authority {
	ca := template("test authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	_, a := sign(t, ca, nil)
	return a
}

// file writes PEM blocks of one kind and returns the path.
func file(t *testing.T, kind string, der ...[]byte) string {
	t.Helper()
	var text []byte
	for _, d := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pemOf is a certificate and its key in one file.
func pemOf(t *testing.T, pair tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
}

func (a *authority) file(t *testing.T) string { return file(t, "CERTIFICATE", a.cert.Raw) }

// overTLS serves what inner serves, inside TLS.
func overTLS(config *tls.Config, inner func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		server := tls.Server(conn, config)
		if server.Handshake() != nil {
			return
		}
		inner(server)
		server.Close()
	}
}

func TestCertificates(t *testing.T) {
	trusted, stranger := newAuthority(t), newAuthority(t)
	ca := opt("ca", trusted.file(t))
	const year = 365 * 24 * time.Hour

	expired := template("www.example.org")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*year), time.Now().Add(-year)
	early := template("www.example.org")
	early.NotBefore, early.NotAfter = time.Now().Add(year), time.Now().Add(2*year)
	withIP := template("www.example.org")
	withIP.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1), net.IPv6loopback}
	nameless := template("www.example.org")
	nameless.DNSNames = nil

	forClients := template("www.example.org")
	forClients.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

	const www = "https://www.example.org/"
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		by   *authority
		url  string
		opts [][]string
		want string
	}{
		"right":               {template("www.example.org"), trusted, www, [][]string{ca}, ""},
		"body":                {template("www.example.org"), trusted, www, [][]string{ca, opt("body", "ok")}, ""},
		"server_name":         {template("a.example"), trusted, "https://", [][]string{ca, opt("server_name", "A.example")}, ""},
		"server_name wins":    {template("a.example"), trusted, www, [][]string{ca, opt("server_name", "a.example")}, ""},
		"ip name":             {withIP, trusted, "https://192.0.2.1/", [][]string{ca}, ""},
		"ipv6 name":           {withIP, trusted, "https://[::1]/", [][]string{ca}, ""},
		"other ip":            {withIP, trusted, "https://192.0.2.2/", [][]string{ca}, `certificate is for "www.example.org" and 2 more, not "192.0.2.2"`},
		"wildcard":            {template("*.example.org"), trusted, www, [][]string{ca}, ""},
		"wrong name":          {template("other.example.org"), trusted, www, [][]string{ca}, `certificate is for "other.example.org", not "www.example.org"`},
		"no name":             {nameless, trusted, www, [][]string{ca}, `certificate is for no name, not "www.example.org"`},
		"self-signed":         {template("www.example.org"), nil, www, [][]string{ca}, "certificate signed by an unknown authority"},
		"stranger":            {template("www.example.org"), stranger, www, [][]string{ca}, "certificate signed by an unknown authority"},
		"system roots":        {template("www.example.org"), trusted, www, nil, "certificate signed by an unknown authority"},
		"expired":             {expired, trusted, www, [][]string{ca}, "certificate expired on " + date(expired.NotAfter)},
		"not yet valid":       {early, trusted, www, [][]string{ca}, "certificate is not valid before " + date(early.NotBefore)},
		"for clients":         {forClients, trusted, www, [][]string{ca}, `certificate not accepted: "x509: certificate specifies an incompatible key usage"`},
		"insecure":            {expired, stranger, www, [][]string{opt("insecure")}, ""},
		"insecure, no host":   {expired, nil, "https://", [][]string{opt("insecure")}, ""},
		"insecure and status": {expired, nil, "https://", [][]string{opt("insecure"), opt("status", "500")}, "status 200"},
	} {
		cert, _ := sign(t, tt.cert, tt.by)
		p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, answer(ok)))
		want := tt.want
		if want != "" && want != "status 200" {
			want = "tls handshake: " + want
		}
		if got := reason(probe(mustNew(t, tt.url, tt.opts...), p.addr)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// If it is not the peer's own certificate that has expired, the reason says whose it is.
func TestIssuerExpired(t *testing.T) {
	root := newAuthority(t)
	between := template("between \x1b[31m us")
	between.IsCA, between.BasicConstraintsValid, between.KeyUsage = true, true, x509.KeyUsageCertSign
	between.NotBefore, between.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	above, issuer := sign(t, between, root)
	cert, _ := sign(t, template("www.example.org"), issuer)
	cert.Certificate = append(cert.Certificate, above.Certificate...)
	p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, answer(ok)))
	want := `tls handshake: certificate of the issuer "between \x1b[31m us" expired on ` + date(between.NotAfter)
	if got := reason(probe(mustNew(t, "https://www.example.org/", opt("ca", root.file(t))), p.addr)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	server, _ := sign(t, template("www.example.org"), ca)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	client, _ := sign(t, template("client"), ca)
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]string{opt("ca", ca.file(t))}
	pair := append(lines, opt("cert", file(t, "CERTIFICATE", client.Certificate...)), opt("key", file(t, "EC PRIVATE KEY", key)))
	for version, missing := range map[uint16]string{
		tls.VersionTLS12: `tls handshake: peer sent the tls alert "handshake failure"`,
		tls.VersionTLS13: `no response: peer sent the tls alert "certificate required"`,
	} {
		config := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs: pool, MaxVersion: version}
		p := listen(t, "127.0.0.1", overTLS(config, answer(ok)))
		with, without := mustNew(t, "https://www.example.org/", pair...), mustNew(t, "https://www.example.org/", lines...)
		if err := probe(with, p.addr); err != nil {
			t.Errorf("tls %x with the certificate: %v", version, err)
		}
		if got := reason(probe(without, p.addr)); got != missing {
			t.Errorf("tls %x without a certificate: %q, want %q", version, got, missing)
		}
	}
}

// One session a connection, for a resumed one would not show the certificate.
func TestHandshakeForm(t *testing.T) {
	ca := newAuthority(t)
	cert, _ := sign(t, template("www.example.org"), ca)
	hellos := make(chan *tls.ClientHelloInfo, 4)
	states := make(chan tls.ConnectionState, 4)
	config := &tls.Config{
		Certificates:       []tls.Certificate{cert},
		NextProtos:         []string{"http/1.1"},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { hellos <- h; return nil, nil },
	}
	p := listen(t, "127.0.0.1", overTLS(config, func(conn net.Conn) {
		states <- conn.(*tls.Conn).ConnectionState()
		answer(ok)(conn)
	}))
	c := mustNew(t, "https://www.example.org:8443/", opt("ca", ca.file(t)))
	for range 2 {
		if err := probe(c, p.addr); err != nil {
			t.Fatal(err)
		}
		hello, state := <-hellos, <-states
		if hello.ServerName != "www.example.org" || fmt.Sprint(hello.SupportedProtos) != "[h2 http/1.1]" {
			t.Errorf("asked for %s, %v", hello.ServerName, hello.SupportedProtos)
		}
		if state.DidResume || state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("resumed %t, protocol %s", state.DidResume, state.NegotiatedProtocol)
		}
	}
}

func TestBadTLSPeers(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	old := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	static := &tls.Config{Certificates: []tls.Certificate{rsaPair(t)}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		limit time.Duration
		want  string
	}{
		"plain http": {func(conn net.Conn) { fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n"); hold(conn) }, patient, "peer does not speak tls"},
		"stall":      {hold, brief, "timed out"},
		"end":        {func(conn net.Conn) { conn.Read(make([]byte, 4096)) }, patient, "connection closed"},
		"reset":      {func(conn net.Conn) { conn.Read(make([]byte, 4096)); reset(conn) }, patient, "connection reset"},
		"tls 1.1":    {overTLS(old, answer(ok)), patient, `peer sent the tls alert "protocol version not supported"`},
		"static rsa": {overTLS(static, answer(ok)), patient, `peer sent the tls alert "handshake failure"`},
	} {
		p := listen(t, "127.0.0.1", tt.serve)
		got := reason(probeFor(mustNew(t, "https://", opt("insecure")), p.addr, tt.limit))
		if got != "tls handshake: "+tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// rsaPair is a certificate with an RSA key, as the exchange of keys without forward secrecy needs it.
func rsaPair(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert := template("www.example.org")
	cert.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestStallInsideTLS(t *testing.T) {
	cert, _ := sign(t, template("www.example.org"), nil)
	p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, hold))
	c := mustNew(t, "https://", opt("insecure"))
	patiently(t, brief, "no response: timed out", func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
}

// A tap keeps what the peer was sent.
type tap struct {
	net.Conn
	seen bytes.Buffer
}

func (t *tap) Read(p []byte) (int, error) { return io.TeeReader(t.Conn, &t.seen).Read(p) }

// The last a peer hears is an alert, the close_notify of RFC 5246, 7.2.1, so that it has no cut-off session to log.
func TestGoodbyeInsideTLS(t *testing.T) {
	const alert = 21
	cert, _ := sign(t, template("www.example.org"), nil)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}
	last := make(chan byte, 1)
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		tapped := &tap{Conn: conn}
		overTLS(config, func(conn net.Conn) { answer(ok)(conn); hold(conn) })(tapped)
		var kind byte
		for records := tapped.seen.Bytes(); len(records) >= 5; {
			kind = records[0]
			records = records[min(len(records), 5+int(records[3])<<8+int(records[4])):]
		}
		last <- kind
	})
	if err := probe(mustNew(t, "https://", opt("insecure")), p.addr); err != nil {
		t.Fatal(err)
	}
	if kind := <-last; kind != alert {
		t.Errorf("the last record is of type %d, not an alert", kind)
	}
}

// serverConfig is that of a server with a certificate for the name, which it has signed itself if by is nil.
func serverConfig(t testing.TB, by *authority, name string) *tls.Config {
	cert, _ := sign(t, template(name), by)
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// Whatever speaks in TLS gives up at its time-out on a peer that never shakes hands, and on one that shakes hands and then
// says nothing (B39). The scheme tls has got what it wants by then.
func TestStallsInEveryScheme(t *testing.T) {
	config := serverConfig(t, nil, www)
	config.NextProtos = []string{"h2", "http/1.1", "dot"}
	for _, w := range ways(t) {
		if !w.tls {
			continue
		}
		c := w.check(t, www, opt("insecure"))
		ask := func(peer func(net.Conn)) func(time.Duration) error {
			addr := listen(t, "127.0.0.1", peer).addr
			return func(limit time.Duration) error { return probeFor(c, addr, limit) }
		}
		t.Run(w.name(), func(t *testing.T) {
			patiently(t, brief, "(step 4, starttls: )?tls handshake: timed out", ask(w.first(hold)))
			if w.scheme() != "tls" {
				patiently(t, brief, `(no response|step 5, expect "250"): timed out`, ask(w.serve(config, hold)))
			}
		})
	}
}
