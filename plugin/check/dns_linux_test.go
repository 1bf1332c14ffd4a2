package check_test

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

const bindConfig = `
options {
    directory "DIR"; pid-file "DIR/pid"; session-keyfile "DIR/session"; managed-keys-directory "DIR";
    listen-on port PORT { HOST; }; listen-on-v6 { none; };
    listen-on port TLS tls own { HOST; };
    recursion no; tcp-clients 2; dnssec-validation no; notify no;
};
controls { };
tls own { cert-file "DIR/data/server.crt"; key-file "DIR/data/server.key"; };
zone "example.org" { type primary; file "DIR/good"; };
zone "broken.example" { type primary; file "DIR/broken"; };
`

// A real BIND: a zone that it serves, one that it cannot load and one that it does not have; a set
// too large for a datagram; TLS; and no free connection.
func TestRealBIND(t *testing.T) {
	t.Parallel()
	lookFor(t, "named")
	s := newServer(t)
	tls := refusing(t)
	trusted := newAuthority(t)
	s.directory("data")
	s.certify(trusted, template("db.example.org"))
	zone := "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.1\nbig TXT " + strings.Repeat(` "`+strings.Repeat("x", 200)+`"`, 9) + "\n"
	s.file("good", zone)
	s.file("broken", "no zone\n")
	words := strings.NewReplacer("DIR", s.dir, "HOST", "127.0.0.1", "PORT", port(s.addr), "TLS", port(tls))
	s.file("conf", words.Replace(bindConfig))
	s.start("named", "-g", "-c", "DIR/conf", "-n", "1")

	soa := mustNew(t, "dns:///example.org?type=SOA", opt("authoritative"))
	s.await(soa, "")
	s.await(mustNew(t, "dns:///www.example.org", opt("answer", `^192\.0\.2\.1$`)), "")
	s.await(mustNew(t, "dns:///none.example.org"), "rcode NXDOMAIN")
	s.await(mustNew(t, "dns:///broken.example?type=SOA"), "rcode SERVFAIL")
	s.await(mustNew(t, "dns:///example.com?type=SOA"), "rcode REFUSED")
	s.await(mustNew(t, "dns:///big.example.org?type=TXT", opt("answer", `^("x+" ?){9}$`)), "") // truncated over UDP
	s.await(mustNew(t, "dns:///www.example.org", opt("tcp")), "")

	over := mustNew(t, "dot://db.example.org/www.example.org", opt("ca", trusted.file(t)))
	s.judgesCertificates(over, tls, trusted, func() { s.signal(syscall.SIGHUP) })
	s.overloaded()
	s.hangs(soa, silent)
	s.await(soa, "")
	s.end()
	s.await(soa, "no response: connection refused")
}

// overloaded takes all the connections that the server has, and gives them back.
func (s *server) overloaded() {
	s.Helper()
	tcp := mustNew(s, "dns:///www.example.org", opt("tcp"))
	var idle []net.Conn
	defer func() {
		for _, conn := range idle {
			conn.Close()
		}
		s.await(tcp, "")
	}()
	for range 2 {
		conn, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			s.Fatal(err)
		}
		idle = append(idle, conn)
	}
	s.await(tcp, "no response: (timed out|connection (closed|reset))")
	if err := probe(mustNew(s, "dns:///www.example.org"), s.addr); err != nil {
		s.Errorf("over UDP: %v", err)
	}
}
