package check_test

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// programs are real servers from Debian: how to start each, and its configuration. GOOD, WRONG, OLD
// and PLAIN are addresses; good.pem, wrong.pem and old.pem are certificates with their keys.
var programs = map[string]struct {
	args   []string
	config string
}{
	"nginx": {[]string{"-p", "DIR", "-c", "DIR/config"}, `
daemon off; error_log stderr; pid DIR/pid; worker_processes 1;
events { }
http {
    access_log off;
    limit_conn_zone $pid zone=all:64k;
    client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
    server {
        listen GOOD ssl http2;
        listen PLAIN;
        ssl_certificate DIR/good.pem; ssl_certificate_key DIR/good.pem;
        add_header X-Protocol $server_protocol always;
        location /200 { return 200 ok; }
        location /503 { return 503; }
        location /few { limit_conn all 1; proxy_pass http://PLAIN/200; }
        location /private { auth_basic all; auth_basic_user_file DIR/passwords; return 200; }
        location /private/ { auth_basic all; auth_basic_user_file DIR/passwords; alias DIR/; }
    }
    server { listen WRONG ssl; ssl_certificate DIR/wrong.pem; ssl_certificate_key DIR/wrong.pem; location / { return 200 ok; } }
    server { listen OLD ssl; ssl_certificate DIR/old.pem; ssl_certificate_key DIR/old.pem; location / { return 200 ok; } }
}`},
	"haproxy": {[]string{"-db", "-f", "DIR/config"}, `
defaults
    mode http
    timeout client 1m
    timeout connect 1m
    timeout server 1m
frontend all
    maxconn 16
    bind GOOD ssl crt DIR/good.pem alpn h2,http/1.1
    bind WRONG ssl crt DIR/wrong.pem
    bind OLD ssl crt DIR/old.pem
    bind PLAIN
    http-request return status 200 content-type text/plain string ok hdr X-Protocol HTTP/2.0 if { path /200 } { ssl_fc_alpn h2 }
    http-request return status 200 content-type text/plain string ok hdr X-Protocol HTTP/1.1 if { path /200 }
    http-request return status 503
`},
	"exim4": {[]string{"-C", "DIR/config", "-bdf"}, `
primary_hostname = www.example.org
keep_environment =
spool_directory = DIR/spool
log_file_path = DIR/spool/log_%s
pid_file_path = DIR/spool/pid
local_interfaces = <; [127.0.0.1]:PORT; [127.0.0.1]:ELSE
daemon_smtp_ports = PORT
tls_advertise_hosts = *
tls_certificate = DIR/${if eq{$received_port}{ELSE}{old}{good}}.pem
tls_privatekey = DIR/${if eq{$received_port}{ELSE}{old}{good}}.pem
host_lookup =
queue_only
smtp_accept_max = 4
begin routers
begin transports
begin retry
`},
}

// A running is one of the programs. It listens at good with a valid certificate, at wrong with one
// for another name, at old with an expired one, and at open without TLS.
type running struct {
	*server
	good, wrong, old, open netip.AddrPort
	ends, ended            time.Time // of the certificates at good and old
	program                string
}

// start starts a program with certificates of the authority, and waits until it accepts
// connections.
func start(t *testing.T, name string, ca *authority) *running {
	t.Helper()
	r := &running{server: newServer(t), wrong: refusing(t), old: refusing(t), open: refusing(t), program: name}
	r.good = r.addr
	if name == "exim4" {
		r.open, r.root = r.good, true // it lets nobody else be the daemon
	}
	lasts := lasting("www.example.org", 20*24*time.Hour)
	past := expired("www.example.org")
	r.ends, r.ended = lasts.NotAfter, past.NotAfter
	for file, cert := range map[string]*x509.Certificate{"good.pem": lasts, "wrong.pem": template("other.example.org"), "old.pem": past} {
		pair, _ := sign(t, cert, ca)
		r.file(file, pemOf(t, pair))
	}
	words := strings.NewReplacer("DIR", r.dir, "GOOD", r.good.String(), "WRONG", r.wrong.String(), "OLD", r.old.String(),
		"PLAIN", r.open.String(), "PORT", port(r.good), "ELSE", port(r.old))
	r.file("config", words.Replace(programs[name].config))
	r.file("passwords", "probe:{PLAIN}s3cret\n")
	r.file("index.html", "private")
	if r.root && os.Getuid() != 0 {
		lacking(t, "exim4 needs root")
	}
	r.begin()
	return r
}

// begin starts the program, the first time or again, and waits until it accepts connections.
func (r *running) begin() {
	r.Helper()
	r.server.start(r.program, programs[r.program].args...)
	r.await(mustNew(r, "tcp://:1"), "")
}

const unknownAuthority = "tls handshake: certificate signed by an unknown authority"

// Real servers over TLS: what is demanded of the certificate, and both versions of HTTP.
func TestRealTLSServers(t *testing.T) {
	ca := newAuthority(t)
	trust, strange := opt("ca", ca.file(t)), opt("ca", newAuthority(t).file(t))
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			r := start(t, name, ca)
			const wrong = `tls handshake: certificate is for "other.example.org", not "www.example.org"`
			old := "tls handshake: certificate expired on " + date(r.ended)
			above := `tls handshake: certificate of the issuer "test authority" expires on ` + date(ca.cert.NotAfter) + ", within 14d" // the authority's own
			soon := "tls handshake: certificate expires on " + date(r.ends) + ", within 30d"
			for _, tt := range []struct {
				url   string
				addr  netip.AddrPort
				lines [][]string
				want  string
			}{
				{"tls://www.example.org:1", r.good, [][]string{trust}, ""},
				{"tls://www.example.org:1", r.good, [][]string{opt("expires", "14d"), trust}, above},
				{"tls://www.example.org:1", r.wrong, [][]string{trust}, wrong},
				{"tls://www.example.org:1", r.old, [][]string{trust}, old},
				{"tls://www.example.org:1", r.good, [][]string{strange}, unknownAuthority},
				{"tls://www.example.org:1", r.old, [][]string{opt("insecure")}, ""},
				{"tls://www.example.org:1", r.good, [][]string{opt("insecure"), opt("expires", "14d")}, ""},
				{"tls://www.example.org:1", r.good, [][]string{opt("insecure"), opt("expires", "30d")}, soon},
				{"tls://www.example.org:1", r.good, [][]string{opt("alpn", "h2"), trust}, ""},
				{"tls://www.example.org:1", r.open, [][]string{trust}, "tls handshake: peer does not speak tls"},
				{"https://www.example.org/200", r.good, [][]string{trust, opt("body", "ok"), opt("expect_header", "X-Protocol", "^HTTP/2.0$")}, ""},
				{"https://www.example.org/200", r.good, [][]string{trust, opt("body_regex", "^ok"), opt("alpn", "http/1.1"), opt("no_header", "X-Protocol", "^HTTP/2.0$")}, ""},
				{"https://www.example.org/503", r.good, [][]string{trust}, "status 503"},
				{"https://www.example.org/503", r.good, [][]string{trust, opt("alpn", "http/1.1")}, "status 503"},
				{"https://www.example.org/200", r.good, [][]string{trust, opt("no_body", "ok")}, `body contains "ok"`},
				{"https://www.example.org/", r.wrong, [][]string{trust}, wrong},
				{"https://www.example.org/", r.old, [][]string{trust}, old},
				{"https://www.example.org/200", r.good, [][]string{strange}, unknownAuthority},
				{"http://www.example.org/200", r.open, nil, ""},
			} {
				c := mustNew(t, tt.url, tt.lines...)
				got := reason(probe(c, tt.addr))
				if got != tt.want {
					t.Errorf("%s at %s: %q, want %q", c, tt.addr, got, tt.want)
				}
			}
		})
	}
}

func TestRealCredentials(t *testing.T) {
	ca := newAuthority(t)
	r := start(t, "nginx", ca)
	secret := filepath.Join(r.dir, "secret")
	r.file("secret", "probe:s3cret\n")
	with := []string{"basic_auth", secret}
	for _, tt := range []struct {
		url   string
		addr  netip.AddrPort
		lines [][]string
		want  string
	}{
		{"http://www.example.org/private/index.html", r.open, [][]string{with, opt("body", "private")}, ""},
		{"https://www.example.org/private/index.html", r.good, [][]string{with, opt("body", "private"), opt("ca", ca.file(t))}, ""},
		{"http://www.example.org/private/index.html", r.open, nil, "status 401"},
	} {
		if got := reason(probe(mustNew(t, tt.url, tt.lines...), tt.addr)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.url, got, tt.want)
		}
	}
	c := mustNew(t, "http://www.example.org/private/index.html", with)
	r.file("secret", "probe:other\n")
	if got := reason(probe(c, r.open)); got != "status 401" {
		t.Errorf("with another password: %q", got)
	}
}

// A mail server, as far as one gets without sending mail.
func TestRealMailServer(t *testing.T) {
	ca := newAuthority(t)
	r := start(t, "exim4", ca)
	polite := [][]string{opt("expect_regex", "^220 "), opt("send", `EHLO probe.example.org\r\n`), opt("expect_regex", "^250 ")}
	secure := slices.Concat(polite, [][]string{opt("send", `STARTTLS\r\n`), opt("expect", "220"), opt("starttls"),
		opt("send", `EHLO probe.example.org\r\n`), opt("expect_regex", "^250 ")})
	bye := [][]string{opt("send", `QUIT\r\n`), opt("expect", "221")}
	trust, strange := opt("ca", ca.file(t)), opt("ca", newAuthority(t).file(t))
	for _, tt := range []struct {
		url   string
		addr  netip.AddrPort
		lines [][]string
		want  string
	}{
		{"tcp://:25", r.good, slices.Concat(polite, bye), ""},
		{"tcp://www.example.org:25", r.good, slices.Concat(secure, bye, [][]string{trust}), ""},
		{"tcp://other.example.org:25", r.good, slices.Concat(secure, bye, [][]string{trust}), `step 6, starttls: tls handshake: certificate is for "www.example.org", not "other.example.org"`},
		{"tcp://www.example.org:25", r.old, slices.Concat(secure, bye, [][]string{trust}), "step 6, starttls: tls handshake: certificate expired on " + date(r.ended)},
		{"tcp://www.example.org:25", r.good, slices.Concat(secure, bye, [][]string{strange}), "step 6, starttls: " + unknownAuthority},
		{"tcp://www.example.org:25", r.good, slices.Concat(secure, bye, [][]string{opt("insecure"), opt("expires", "30d")}),
			"step 6, starttls: tls handshake: certificate expires on " + date(r.ends) + ", within 30d"},
		{"tcp://:25", r.good, slices.Concat(polite[:1], [][]string{opt("send", `QUIT\r\n`), opt("expect", "no such words")}), `step 3, expect "no such words": connection closed, after an answer with code 221`},
	} {
		r.awaitAt(tt.addr, mustNew(t, tt.url, tt.lines...), regexp.QuoteMeta(tt.want)) // it takes its time to see that others have left
	}
}

// Real servers hang, are overrun, die, and come back.
func TestRealServersFail(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	trust := opt("ca", ca.file(t))
	https := mustNew(t, "https://www.example.org/200", trust)
	one := mustNew(t, "https://www.example.org/200", trust, opt("alpn", "http/1.1"))
	handshake := mustNew(t, "tls://www.example.org:1", trust)
	few := mustNew(t, "https://www.example.org/few", trust)
	mail := mustNew(t, "tcp://:25", opt("expect_regex", "^220 "), opt("send", `QUIT\r\n`), opt("expect", "221"))
	const deaf = "tls handshake: timed out"
	for _, tt := range []struct {
		name    string
		checks  []*check.Check
		stopped string
		crowd   int    // so many hold a connection,
		words   string // and say this,
		overrun string // until the last check has this reason
	}{
		{"nginx", []*check.Check{https, one, handshake, few}, deaf, 1, "POST /few HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "status 503"},
		{"haproxy", []*check.Check{one, handshake, https}, deaf, 16, "", deaf},
		{"exim4", []*check.Check{mail}, `step 1, expect_regex "^220 ": timed out`, 4, "",
			`step 1, expect_regex "\^220 ": connection closed, after "421 Too many concurrent SMTP connections; please try again "…`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, tt.name, ca)
			for _, c := range tt.checks {
				r.await(c, "")
				r.hangs(c, tt.stopped)
				r.await(c, "")
			}
			last := tt.checks[len(tt.checks)-1]
			release := r.overrun(crowd{r.open, tt.crowd, tt.words}, last, tt.overrun)
			release()
			r.await(last, "")
			r.end()
			r.await(last, "connection refused")
			r.begin()
			r.await(last, "")
		})
	}
}
