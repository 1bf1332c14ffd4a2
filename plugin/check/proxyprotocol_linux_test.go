package check_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// proxied are configurations of real servers that want the PROXY protocol at PROXIED and SECURE, in
// the clear and before TLS, and do not know it at PLAIN.
var proxied = map[string]struct {
	args   []string
	config string
}{
	"nginx": {[]string{"-p", "DIR", "-c", "DIR/config"}, `
daemon off; error_log stderr; pid DIR/pid; worker_processes 1;
events { }
http {
    access_log off;
    client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
    server {
        listen PROXIED proxy_protocol;
        listen SECURE ssl http2 proxy_protocol;
        listen PLAIN;
        ssl_certificate DIR/good.pem; ssl_certificate_key DIR/good.pem;
        location / { return 200 "from $remote_addr"; }
    }
}`},
	"haproxy": {[]string{"-db", "-f", "DIR/config"}, `
defaults
    mode http
    timeout client 1m
    timeout connect 1m
    timeout server 1m
frontend all
    bind PROXIED accept-proxy
    bind SECURE accept-proxy ssl crt DIR/good.pem alpn h2,http/1.1
    bind PLAIN
    http-request return status 200 content-type text/plain lf-string "from %[src]"
`},
}

// Real servers that want the PROXY protocol get its header before anything else, TLS included. They
// take the address of the connection, because the command is LOCAL. A server that does not know the
// protocol fails.
func TestRealProxyProtocol(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	trust, flag := opt("ca", ca.file(t)), opt("proxy_protocol")
	body := opt("body", "from 127.0.0.1")
	dialogue := [][]string{flag, opt("send", `GET / HTTP/1.0\r\n\r\n`), opt("expect", "from 127.0.0.1")}
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			secure, plain := refusing(t), refusing(t)
			pair, _ := sign(t, template("www.example.org"), ca)
			s.file("good.pem", pemOf(t, pair))
			words := strings.NewReplacer("DIR", s.dir, "PROXIED", s.addr.String(), "SECURE", secure.String(), "PLAIN", plain.String())
			s.file("config", words.Replace(proxied[name].config))
			s.start(name, proxied[name].args...)
			for _, tt := range []struct {
				c    *check.Check
				at   netip.AddrPort
				want string
			}{
				{mustNew(t, "tcp://:1", flag), s.addr, ""},
				{mustNew(t, "http://", flag, body), s.addr, ""},
				{mustNew(t, "http://", flag), s.addr, ""},
				{mustNew(t, "tcp://:1", dialogue...), s.addr, ""},
				{mustNew(t, "https://www.example.org/", flag, body, trust), secure, ""},
				{mustNew(t, "https://www.example.org/", flag, body, trust, opt("alpn", "http/1.1")), secure, ""},
				{mustNew(t, "tls://www.example.org:1", flag, trust), secure, ""},

				{mustNew(t, "http://", flag), plain, "status 400"},
				{mustNew(t, "http://"), plain, ""},
				{mustNew(t, "http://"), s.addr, "status 400|no response: connection (closed|reset)|connection reset while waiting for the response"},
				{mustNew(t, "tls://www.example.org:1", trust), secure, "tls handshake: .*"},
				{mustNew(t, "https://www.example.org/", trust), secure, "tls handshake: .*"},
			} {
				s.awaitAt(tt.at, tt.c, tt.want)
			}
			s.hangs(mustNew(t, "http://", flag), silent)
		})
	}
}
