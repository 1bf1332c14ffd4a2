package check_test

import (
	"strings"
	"testing"
)

// mutual is an nginx that wants a certificate of its clients.
const mutual = `
daemon off; error_log stderr; pid DIR/pid; worker_processes 1;
events { }
http {
    access_log off;
    client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
    server {
        listen GOOD ssl;
        ssl_certificate DIR/good.pem; ssl_certificate_key DIR/good.pem;
        ssl_client_certificate DIR/clients.pem; ssl_verify_client on;
        location / { return 200 $ssl_client_s_dn; }
    }
}`

// A real nginx changes to another authority, for itself and for its clients, and reloads. The check
// follows file by file, without a new one (B95).
func TestRealServerChangesItsAuthority(t *testing.T) {
	t.Parallel()
	one, two := newAuthority(t), newAuthority(t)
	s := newServer(t)
	f := pemFiles{t, t.TempDir()}
	become := func(a *authority) {
		pair, _ := sign(t, template("www.example.org"), a)
		s.file("good.pem", pemOf(t, pair))
		s.file("clients.pem", readFile(t, a.file(t)))
	}
	become(one)
	s.file("config", strings.NewReplacer("DIR", s.dir, "GOOD", s.addr.String()).Replace(mutual))
	s.start("nginx", "-p", "DIR", "-c", "DIR/config")
	first, _ := sign(t, template("first"), one)
	second, _ := sign(t, template("second"), two)
	f.put("ca", readFile(t, one.file(t)))
	f.put("cert", f.certOf(first))
	f.put("key", f.keyOf(first))
	c := mustNew(t, "https://www.example.org/", opt("ca", f.path("ca")), opt("cert", f.path("cert")), opt("key", f.path("key")), opt("body", "CN=second"))
	s.await(c, `body does not contain "CN=second"`)
	become(two)
	s.run("nginx", "-p", "DIR", "-c", "DIR/config", "-s", "reload")
	s.await(c, "tls handshake: certificate signed by an unknown authority")
	f.put("ca", readFile(t, two.file(t)))
	s.await(c, "status 400") // nginx's word for a client whose certificate it does not accept
	f.put("cert", f.certOf(second))
	s.await(c, "status 400")
	f.put("key", f.keyOf(second))
	s.await(c, "")
	if c.Fault() != "" {
		t.Error(c.Fault())
	}
}
