package check_test

import (
	"errors"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// withTLS lists, as messages do, the schemes with options of TLS.
const withTLS = "dot, grpcs, https, mysql, postgres, rediss, tcp, tls"

// The protocols other than tcp and http: what is accepted, its canonical text, and the port.
func TestProtocolsAccepted(t *testing.T) {
	for _, tt := range []struct {
		url     string
		options []check.Option
		want    string
		port    uint16
	}{
		{"dns:///www.Example.ORG.", nil, "dns://:53/www.example.org", 53},
		{"dns://:5353/.?type=ns", options(opt("rcode", "nxdomain,NOERROR,NXDOMAIN")), "dns://:5353/.?type=NS rcode NOERROR,NXDOMAIN", 5353},
		{"dns:///example.org?type=A", options(opt("tcp"), opt("answer", `^192\.0\.2\.1$`)), `dns://:53/example.org answer ^192\.0\.2\.1$ tcp`, 53},
		{"dns:///_dmarc.example.org?type=TXT", options(opt("authoritative")), "dns://:53/_dmarc.example.org?type=TXT authoritative", 53},
		{"dot://ns1.example.org/example.org", nil, "dot://ns1.example.org/example.org", 853},
		{"dot:///example.org", options(opt("insecure")), "dot://:853/example.org insecure", 853},
		{"grpc://:50051", nil, "grpc://:50051", 50051},
		{"grpc://", nil, "grpc://", 0},
		{"grpc://:50051/", nil, "grpc://:50051", 50051},
		{"grpc://Api.example.org:50051/my.Service", nil, "grpc://api.example.org:50051/my.Service", 50051},
		{"grpc://:50051/my%2EService", nil, "grpc://:50051/my.Service", 50051},
		{"grpc://:50051/a%20b%3f%C3%a9", nil, "grpc://:50051/a%20b%3F%C3%A9", 50051},
		{"grpcs://:50051/my.Service", options(opt("insecure")), "grpcs://:50051/my.Service insecure", 50051},
		{"icmp:", nil, "icmp://", 0},
		{"ICMP://", options(opt("from", "192.0.2.1"), opt("from", "2001:db8::1")), "icmp:// from 192.0.2.1 from 2001:db8::1", 0},
		{"exec://:5432", options(opt("command", "/bin/sh", "-c", "exit 0", "")), `exec://:5432 command /bin/sh -c "exit 0" ""`, 5432},
		{"exec://", options(opt("command", "/bin/true"), opt("invert")), "exec:// invert command /bin/true", 0},
		{"redis://", nil, "redis://:6379", 6379},
		{"redis://:6380", options(opt("from", "192.0.2.1"), opt("role", "master")), "redis://:6380 role master from 192.0.2.1", 6380},
		{"redis://", options(opt("from", "192.0.2.1"), opt("proxy_protocol")), "redis://:6379 proxy_protocol from 192.0.2.1", 6379},
		{"dns:///a", options(opt("proxy_protocol"), opt("tcp")), "dns://:53/a tcp proxy_protocol", 53},
		{"rediss://Cache.example.org:6379", nil, "rediss://cache.example.org", 6379},
		{"rediss://", options(opt("role", "replica"), opt("insecure")), "rediss://:6379 role replica insecure", 6379},
		{"postgres://", nil, "postgres://:5432", 5432},
		{"postgres://db.example.org:5433", options(opt("starttls")), "postgres://db.example.org:5433 starttls", 5433},
		{"postgres://", options(opt("insecure"), opt("starttls")), "postgres://:5432 starttls insecure", 5432},
		{"mysql://", nil, "mysql://:3306", 3306},
		{"mysql://", options(opt("server_name", "db.example.org"), opt("starttls")), "mysql://:3306 starttls server_name db.example.org", 3306},
	} {
		c, err := check.New(tt.url, tt.options...)
		if err != nil {
			t.Errorf("New(%s): %v", tt.url, err)
			continue
		}
		if c.String() != tt.want || c.Port() != tt.port {
			t.Errorf("New(%s) = %s, port %d; want %s, port %d", tt.url, c, c.Port(), tt.want, tt.port)
		}
		again(t, c)
	}
	if !mustNew(t, "icmp:").PortNamed() || mustNew(t, "grpc://").PortNamed() {
		t.Error("the port of a record matters to icmp, or does not to grpc")
	}
}

// What they refuse: with an index if it is about that option, otherwise about the URL.
func TestProtocolsRefused(t *testing.T) {
	for _, tt := range []struct {
		url   string
		lines [][]string
		index int // -1: the URL
		want  string
	}{
		{"dns://", nil, -1, "url of scheme dns has no name to query: write dns://:53/example.org"},
		{"dns:///", nil, -1, "url of scheme dns has no name to query: write dns://:53/example.org"},
		{"dns://ns1.example.org/example.org", nil, -1, "dns does not use a host: write dns://:53/example.org"},
		{"dns:///a..b", nil, -1, `invalid domain name "a..b": write one as in dns://:53/example.org`},
		{"dns:///a/b", nil, -1, `invalid domain name "a/b": write one as in dns://:53/example.org`},
		{"dns:///example.org?type=AXFR", nil, -1, `invalid query "type=AXFR": name a record type, as in dns://:53/example.org?type=SOA`},
		{"dns:///example.org?x=A", nil, -1, `invalid query "x=A": name a record type, as in dns://:53/example.org?type=SOA`},
		{"dns:///a", [][]string{opt("rcode", "NOERROR,BADVERS")}, 0, `option rcode: invalid response code "BADVERS": use names such as NOERROR,NXDOMAIN`},
		{"dns:///a", [][]string{opt("answer", "")}, 0, "option answer: empty expression would match every record: write one, or remove the option"},
		{"dot:///a", nil, -1, "dot has no name to verify the certificate against: name a host, as in dot://www.example.org, " +
			"or add server_name NAME or insecure"},
		{"dot://h/a", [][]string{opt("tcp")}, 0, "option tcp is for dns: dot takes answer, authoritative, ca, cert, connect_timeout, expires, first_byte_timeout, from, insecure, invert, key, proxy_protocol, rcode, reuse, reuse_for, server_name, tls_timeout"},
		{"grpc://:1/my.Service/Method", nil, -1, `invalid service name "/my.Service/Method": write one as in grpc://:50051/my.Service`},
		{"grpc://:1/%ff", nil, -1, `invalid service name "/%ff": write one as in grpc://:50051/my.Service`},
		{"grpc://:1?service=x", nil, -1, "grpc takes no query: write grpc://:50051"},
		{"grpc://:1", [][]string{opt("insecure")}, 0, "option insecure is for " + withTLS + ": grpc takes connect_timeout, first_byte_timeout, from, invert, proxy_protocol, reuse, reuse_for"},
		{"grpcs://:1", nil, -1, "grpcs has no name to verify the certificate against: name a host, as in grpcs://www.example.org:1, " +
			"or add server_name NAME or insecure"},
		{"icmp://:7", nil, -1, "icmp has no ports: write icmp://"},
		{"icmp://a.example", nil, -1, "icmp does not use a host: write icmp://"},
		{"icmp:///x", nil, -1, "icmp takes no path and no query: write icmp://"},
		{"icmp:x", nil, -1, "url has no // after icmp: write it as in icmp://"},
		{"exec://:1", nil, -1, "exec needs a program: write check exec://:5432 { command /usr/local/bin/probe }, on lines of their own"},
		{"exec://:1", [][]string{opt("command")}, 0, "option command has 0 values: write command PROGRAM [ARG...]"},
		{"exec://:1", [][]string{opt("command", "true")}, 0, `option command: "true" is not an absolute path: write the full path of the program`},
		{"exec://:1", [][]string{opt("command", "/bin/none")}, 0, "option command: stat /bin/none: no such file or directory"},
		{"exec://:1", [][]string{opt("command", "/etc/passwd")}, 0, `option command: "/etc/passwd" is not executable by this user`},
		{"exec://:1", [][]string{opt("command", "/bin")}, 0, `option command: "/bin" is not a regular file`},
		{"exec://:1", [][]string{opt("command", "/bin/true", "\x00")}, 0, `option command: argument "\x00" is not valid text: use UTF-8 without NUL`},
		{"exec://:1", [][]string{opt("from", "192.0.2.1")}, 0, "option from is for agent, dns, dot, grpc, grpcs, http, https, icmp, mysql, postgres, redis, rediss, tcp, tls: " +
			"exec takes command, invert"},
		{"exec://:1", [][]string{opt("proxy_protocol")}, 0, "option proxy_protocol is for agent, dns, dot, grpc, grpcs, http, https, mysql, postgres, redis, rediss, tcp, tls: " +
			"exec takes command, invert"},
		{"icmp:", [][]string{opt("proxy_protocol")}, 0, "option proxy_protocol is for agent, dns, dot, grpc, grpcs, http, https, mysql, postgres, redis, rediss, tcp, tls: " +
			"icmp takes from, invert"},
		{"dns:///a", [][]string{opt("rcode", "NOERROR"), opt("proxy_protocol")}, 1, "option proxy_protocol: works over TCP only: add the option tcp, or remove it"},
		{"exec://h:1", [][]string{opt("command", "/bin/true")}, -1, "exec does not use a host: write exec://:5432"},
		{"redis://cache.example.org", nil, -1, "redis does not use a host: write redis://:6379"},
		{"redis:///0", nil, -1, "redis takes no path and no query: write redis://:6379"},
		{"redis://:1?x", nil, -1, "redis takes no path and no query: write redis://:6379"},
		{"redis://", [][]string{opt("role", "slave")}, 0, `option role: invalid role "slave": use master or replica`},
		{"redis://", [][]string{opt("insecure")}, 0, "option insecure is for " + withTLS + ": redis takes connect_timeout, first_byte_timeout, from, invert, proxy_protocol, reuse, reuse_for, role"},
		{"rediss://", nil, -1, "rediss has no name to verify the certificate against: name a host, as in rediss://www.example.org, " +
			"or add server_name NAME or insecure"},
		{"postgres:///template1", nil, -1, "postgres takes no path and no query: write postgres://:5432"},
		{"postgres://db.example.org", nil, -1, "postgres takes a host only with the option starttls, for the certificate: write postgres://:5432"},
		{"postgres://", [][]string{opt("starttls")}, 0, "option starttls: no name to verify the certificate against: name a host, " +
			"as in postgres://db.example.org:5432, or add server_name NAME or insecure"},
		{"postgres://", [][]string{opt("from", "192.0.2.1"), opt("insecure")}, 1, "option insecure: has no effect without starttls: add starttls, or remove it"},
		{"mysql://", [][]string{opt("server_name", "db.example.org")}, 0, "option server_name: has no effect without starttls: add starttls, or remove it"},
		{"mysql://", [][]string{opt("role", "master")}, 0, "option role is for redis, rediss: mysql takes ca, cert, connect_timeout, expires, first_byte_timeout, from, insecure, invert, key, proxy_protocol, server_name, starttls, tls_timeout"},
		{"mysql://:3306/db", nil, -1, "mysql takes no path and no query: write mysql://:3306"},
	} {
		c, err := check.New(tt.url, options(tt.lines...)...)
		var wrong *check.OptionError
		index := -1
		if errors.As(err, &wrong) {
			index = wrong.Index
		}
		if err == nil || err.Error() != tt.want || index != tt.index {
			t.Errorf("New(%s, %q) = %v:\n%d %v\nwant\n%d %s", tt.url, tt.lines, c, index, err, tt.index, tt.want)
		}
	}
}
