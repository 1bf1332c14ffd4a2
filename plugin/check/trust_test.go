package check_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// pemFiles are files in a directory, which are exchanged as tools do that: a new one is renamed.
type pemFiles struct {
	*testing.T
	dir string
}

func (f pemFiles) path(name string) string { return filepath.Join(f.dir, name) }

func (f pemFiles) put(name, text string) {
	f.Helper()
	if err := errors.Join(os.WriteFile(f.path("new"), []byte(text), 0o600), os.Rename(f.path("new"), f.path(name))); err != nil {
		f.Fatal(err)
	}
}

// certOf and keyOf are the two halves of a certificate with its key.
func (f pemFiles) certOf(pair tls.Certificate) string {
	return readFile(f.T, file(f.T, "CERTIFICATE", pair.Certificate...))
}

func (f pemFiles) keyOf(pair tls.Certificate) string {
	return strings.TrimPrefix(pemOf(f.T, pair), f.certOf(pair))
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A mutualPeer speaks TLS with a client that has a certificate of its authority. Both change while it
// runs.
type mutualPeer struct {
	config  atomic.Pointer[tls.Config]
	clients chan string // the names in the certificates of clients whose handshake succeeded
}

func (p *mutualPeer) become(t *testing.T, server, clients *authority) {
	t.Helper()
	cert, _ := sign(t, template("www.example.org"), server)
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	p.config.Store(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		NextProtos: []string{"http/1.1"}})
}

func (p *mutualPeer) serve(conn net.Conn) {
	server := tls.Server(conn, p.config.Load())
	if server.Handshake() != nil {
		return
	}
	p.clients <- server.ConnectionState().PeerCertificates[0].Subject.CommonName
	io.WriteString(server, "what no check waits for")
	server.Close()
}

// next is the name of the next client.
func (p *mutualPeer) next(t *testing.T) string {
	t.Helper()
	select {
	case name := <-p.clients:
		return name
	case <-time.After(patient):
		t.Fatal("no client")
		return ""
	}
}

// Files of ca, cert and key that are exchanged on disk count for the next probe, whatever the scheme.
// While they cannot be used, those before do, and the check says why. It stays the same check (B95).
func TestFilesOfTLSAreFollowed(t *testing.T) {
	one, two := newAuthority(t), newAuthority(t)
	for _, tt := range []struct {
		url  string
		opts [][]string
	}{
		{"https://www.example.org/", nil},
		{"https://:1", [][]string{opt("host", "owner")}},
		{"tls://www.example.org:1", nil},
		{"tcp://www.example.org:1", [][]string{opt("starttls")}},
		{"dot://www.example.org/example.org", nil},
		{"rediss://www.example.org", nil},
	} {
		f := pemFiles{t, t.TempDir()}
		first, _ := sign(t, template("first"), one)
		second, _ := sign(t, template("second"), two)
		f.put("ca", readFile(t, one.file(t)))
		f.put("cert", f.certOf(first))
		f.put("key", f.keyOf(first))
		options := append([][]string{opt("ca", f.path("ca")), opt("cert", f.path("cert")), opt("key", f.path("key"))}, tt.opts...)
		c := mustNew(t, tt.url, options...)
		secret, text := c.Secret(), c.String()
		peer := mutualPeer{clients: make(chan string, 1)}
		peer.become(t, one, one)
		at := listen(t, "127.0.0.1", peer.serve).addr
		// trusted probes, and reports the name of the client if both sides trusted each other. What the check thinks of what the
		// peer says then does not matter.
		trusted := func() string {
			asked := c
			if c.AsksOwner() {
				asked = c.ForOwner("www.example.org.")
			}
			if got := reason(probe(asked, at)); strings.Contains(got, "certificate") || strings.Contains(got, "alert") {
				return got[max(0, strings.Index(got, "tls handshake")):]
			}
			return peer.next(t)
		}
		// On a busy machine a probe does not wait until the files are read, and the next one has them.
		step := func(what, wantClient, wantFault string) {
			t.Helper()
			var client, fault string
			for deadline := time.Now().Add(patient); time.Now().Before(deadline); {
				client, fault = trusted(), c.Fault()
				if client == wantClient && (fault == "") == (wantFault == "") && strings.Contains(fault, wantFault) {
					return
				}
			}
			t.Errorf("%s: %s: %q with the fault %q, want %q with %q", tt.url, what, client, fault, wantClient, wantFault)
		}
		step("at first", "first", "")
		f.put("cert", f.certOf(second))
		step("the key does not match yet", "first", "cert: tls: private key does not match")
		f.put("key", f.keyOf(second))
		peer.become(t, one, two)
		step("a new pair", "second", "")
		peer.become(t, two, two)
		step("a peer of another authority", "tls handshake: certificate signed by an unknown authority", "")
		f.put("ca", readFile(t, two.file(t)))
		step("whose file has come", "second", "")
		for what, broken := range map[string]string{"no certificate": "garbage", "no certificate in": ""} {
			f.put("ca", broken)
			step("a broken file", "second", what)
		}
		if err := os.Remove(f.path("ca")); err != nil {
			t.Fatal(err)
		}
		step("no file", "second", "no such file")
		if err := os.Symlink("/", f.path("ca")); err != nil {
			t.Fatal(err)
		}
		step("a directory", "second", "not a regular file")
		os.Remove(f.path("ca"))
		f.put("ca", readFile(t, one.file(t)))
		peer.become(t, one, two)
		step("a file again", "second", "")
		if c.Secret() != secret || c.String() != text {
			t.Errorf("%s: it has become another check", tt.url)
		}
	}
}

// A Secret of Kubernetes is a directory of symbolic links through one link, which is replaced: all
// files change in one moment (B95).
func TestFilesOfTLSInASecret(t *testing.T) {
	ca := newAuthority(t)
	f := pemFiles{t, t.TempDir()}
	mount := func(version string, pair tls.Certificate) {
		t.Helper()
		err := errors.Join(os.Mkdir(f.path(version), 0o700),
			os.WriteFile(f.path(version+"/tls.crt"), []byte(f.certOf(pair)), 0o600), os.WriteFile(f.path(version+"/tls.key"), []byte(f.keyOf(pair)), 0o600),
			os.Symlink(version, f.path("..tmp")), os.Rename(f.path("..tmp"), f.path("..data")))
		if err != nil {
			t.Fatal(err)
		}
	}
	first, _ := sign(t, template("first"), ca)
	second, _ := sign(t, template("second"), ca)
	mount("..1", first)
	if err := errors.Join(os.Symlink("..data/tls.crt", f.path("tls.crt")), os.Symlink("..data/tls.key", f.path("tls.key"))); err != nil {
		t.Fatal(err)
	}
	c := mustNew(t, "https://www.example.org/", opt("ca", ca.file(t)), opt("cert", f.path("tls.crt")), opt("key", f.path("tls.key")))
	peer := mutualPeer{clients: make(chan string, 1)}
	peer.become(t, ca, ca)
	at := listen(t, "127.0.0.1", peer.serve).addr
	for i, want := range []string{"first", "second"} {
		if i == 1 {
			mount("..2", second)
			if err := os.RemoveAll(f.path("..1")); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		for deadline := time.Now().Add(patient); got != want && time.Now().Before(deadline); {
			probe(c, at)
			got = peer.next(t)
		}
		if got != want || c.Fault() != "" {
			t.Errorf("%s, %q; want %s", got, c.Fault(), want)
		}
	}
}

// The same files at the start: what is wrong is an error of that option.
func TestFilesOfTLSAtTheStart(t *testing.T) {
	ca := newAuthority(t)
	pair, _ := sign(t, template("client"), ca)
	other, _ := sign(t, template("other"), ca)
	f := pemFiles{t, t.TempDir()}
	f.put("cert", f.certOf(pair))
	f.put("key", f.keyOf(pair))
	f.put("other", f.keyOf(other))
	f.put("garbage", "garbage")
	for _, tt := range []struct {
		opts  [][]string
		index int
		want  string
	}{
		{[][]string{opt("ca", f.path("nowhere"))}, 0, "no such file"},
		{[][]string{opt("cert", f.path("cert")), opt("ca", f.path("garbage")), opt("key", f.path("key"))}, 1, "no certificate in"},
		{[][]string{opt("cert", f.path("nowhere")), opt("key", f.path("key"))}, 0, "no such file"},
		{[][]string{opt("cert", f.path("cert")), opt("key", f.path("nowhere"))}, 1, "no such file"},
		{[][]string{opt("key", f.path("other")), opt("cert", f.path("cert"))}, 1, "private key does not match"},
		{[][]string{opt("insecure"), opt("cert", f.path("cert"))}, 1, "needs the option key"},
		{[][]string{opt("key", f.path("key"))}, 0, "needs the option cert"},
	} {
		_, err := check.New("https://www.example.org", options(tt.opts...)...)
		var at *check.OptionError
		if !errors.As(err, &at) || at.Index != tt.index || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q at %d", tt.opts, err, tt.want, tt.index)
		}
	}
}
