package check_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// Files of ca, cert and key that are exchanged count for the next probe also if a connection is kept,
// and files that say the same do not (B95, B114).
func TestReuseFollowsFiles(t *testing.T) {
	one, two := newAuthority(t), newAuthority(t)
	f := pemFiles{t, t.TempDir()}
	first, _ := sign(t, template("first"), one)
	second, _ := sign(t, template("second"), one)
	f.put("ca", readFile(t, one.file(t)))
	f.put("cert", f.certOf(first))
	f.put("key", f.keyOf(first))
	for _, scheme := range []string{"https", "dot", "grpcs", "rediss"} {
		for _, w := range ways(t) {
			if w.scheme() != scheme {
				continue
			}
			f.put("ca", readFile(t, one.file(t)))
			f.put("cert", f.certOf(first))
			f.put("key", f.keyOf(first))
			cert, _ := sign(t, template(www), one)
			clients := make(chan string, 10)
			config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}
			p := listen(t, "127.0.0.1", overTLS(config, func(conn net.Conn) {
				clients <- conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
				w.again(conn)
			}))
			r := newReusing(t, w.check(t, www, opt("reuse"), opt("ca", f.path("ca")), opt("cert", f.path("cert")), opt("key", f.path("key"))), p.addr)
			// On a busy machine a probe does not wait until the files are read, and the next one has them.
			expect := func(conns int, what string) {
				t.Helper()
				wait(func() bool {
					r.good(1)
					return len(p.accepted()) >= conns
				})
				r.good(1)
				if n := len(p.accepted()); n != conns {
					t.Errorf("%s, %s: %d connections, want %d", scheme, what, n, conns)
				}
			}
			expect(1, "at first")
			f.put("ca", readFile(t, one.file(t)))
			expect(1, "the same file")
			f.put("cert", f.certOf(second)) // which does not match its key, so both stay in use
			expect(1, "half of a pair")
			f.put("key", f.keyOf(second))
			expect(2, "another pair")
			if got := []string{<-clients, <-clients}; got[0] != "first" || got[1] != "second" {
				t.Errorf("%s: clients %v", scheme, got)
			}
			f.put("ca", readFile(t, one.file(t))+readFile(t, two.file(t)))
			expect(3, "another authority")
			<-clients
			f.put("ca", readFile(t, two.file(t)))
			var got string
			if !wait(func() bool {
				got = reason(r.probe())
				return got == "tls handshake: certificate signed by an unknown authority"
			}) {
				t.Errorf("%s: the authority is not believed any more: %q", scheme, got)
			}
		}
	}
}

// A certificate that ends, or soon will, is noticed on a connection that is kept, and one that has
// been renewed on the next (B34, B114).
func TestReuseUntilTheCertificateEnds(t *testing.T) {
	ca := newAuthority(t)
	for _, lines := range [][][]string{{opt("ca", ca.file(t))}, {opt("insecure"), opt("expires", "1h")}} {
		c := mustNew(t, "https://"+www, append(lines, opt("reuse"))...)
		var r *reusing
		var ends time.Time
		for life := 3 * time.Second; ; life *= 2 { // a busy machine needs more than that for two probes
			soon := template(www)
			soon.NotAfter = time.Now().Add(life)
			if len(lines) > 1 {
				soon.NotAfter = soon.NotAfter.Add(time.Hour)
			}
			ends = time.Now().Add(life) // or up to a second sooner: a certificate has whole seconds
			cert, _ := sign(t, soon, ca)
			p := listen(t, "127.0.0.1", overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, sayAgain(ok)))
			r = newReusing(t, c, p.addr)
			if err := errors.Join(r.probe(), r.probe()); err == nil && len(p.accepted()) == 1 {
				break
			} else if life > patient {
				t.Fatalf("%v: %v, %d connections", lines, err, len(p.accepted()))
			}
		}
		wait(func() bool { return time.Now().After(ends) })
		if got := reason(r.probe()); !strings.Contains(got, "tls handshake: certificate expire") {
			t.Errorf("%v: %q", lines, got)
		}
	}
}

// What a server shows to new clients is seen when the connection is replaced, and not before: the
// manual says so.
func TestReuseDoesNotSeeANewCertificate(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	good, _ := sign(t, template(www), ca)
	bad, _ := sign(t, template(www), stranger)
	n := 0
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if n++; n > 1 {
			return &bad, nil
		}
		return &good, nil
	}}
	p := listen(t, "127.0.0.1", overTLS(config, sayAgain(ok)))
	r := newReusing(t, mustNew(t, "https://"+www, opt("ca", ca.file(t)), opt("reuse")), p.addr)
	r.good(30)
	if got := reason(r.probe()); got != "tls handshake: certificate signed by an unknown authority" {
		t.Errorf("%q", got)
	}
}
