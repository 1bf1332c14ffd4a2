package test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
)

// The zone has two hosts with IPv4 addresses. Each has its own port for one service, in SRV and MX records, in hints
// and in ANY answers. BELOW is replaced by the plugins below multivalue.
const naming = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org example.org
    BELOW
    multivalue {
        check http://
        interval 300ms 100ms
        timeout 300ms
        types A AAAA SRV MX HTTPS
        within 127.0.0.0/8
    }
    multivalue mx.example.org {
        check http://:PORT/
        interval 300ms 100ms
        timeout 300ms
        types MX
        within 127.0.0.0/8
    }
}`

const recordsZone = `
_web._tcp SRV   1 1 PORT one
_web._tcp SRV   1 1 PORT two
_web._tcp SRV   2 0 1    two
both      SRV   1 1 PORT one
both      SRV   1 1 1    one
both      SRV   1 1 PORT two
mx        MX    10 one
mx        MX    20 two
web       HTTPS 1 . port=PORT ipv4hint=127.0.0.11,127.0.0.12
one       A     127.0.0.11
two       A     127.0.0.12`

// serveRecords starts two backends and the server.
func serveRecords(t *testing.T, below string) *server {
	s := newScene(t, 11, 12)
	s.zone("example.org", recordsZone)
	return s.serve(replace(naming, "BELOW", below))
}

// rdata returns the data of the records in a section, without their headers, sorted.
func rdata(section []dns.RR) string {
	var all []string
	for _, rr := range section {
		if rr.Header().Rrtype != dns.TypeOPT {
			all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// becomes asks until the answer and the additional section are as wanted. PORT is replaced by the backends' port.
func (v *server) becomes(question, answer, extra string) {
	v.Helper()
	answer, extra = v.expand(answer), v.expand(extra)
	var m *dns.Msg
	v.eventually(func() bool {
		m = v.ask(question)
		return rdata(m.Answer) == answer && rdata(m.Extra) == extra
	}, func() string { return fmt.Sprintf("%s: want %q and %q, got\n%s", question, answer, extra, m) })
}

// SRV records are judged on their own port, and the additional section follows (B15, B16).
func TestServiceRecords(t *testing.T) {
	v := serveRecords(t, "")
	v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org., 1 1 PORT two.example.org.", "127.0.0.11, 127.0.0.12")
	v.becomes("both.example.org SRV", "1 1 PORT one.example.org., 1 1 PORT two.example.org.", "127.0.0.11, 127.0.0.12")
	v.kill(12)
	v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org.", "127.0.0.11")
	v.kill(11)
	v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org., 1 1 PORT two.example.org., 2 0 1 two.example.org.", "127.0.0.11, 127.0.0.12")
	v.start(11)
	v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org.", "127.0.0.11")
	v.becomes("both.example.org SRV", "1 1 PORT one.example.org.", "127.0.0.11")
}

// If minimal is below and removes the addresses, the hosts are looked up in the zone itself (B16, T27).
func TestServiceRecordsWithoutGlue(t *testing.T) {
	for _, below := range []string{"minimal", "minimal\n cache"} {
		v := serveRecords(t, below)
		v.kill(12)
		v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org.", "")
		v.start(12)
		v.becomes("_web._tcp.example.org SRV", "1 1 PORT one.example.org., 1 1 PORT two.example.org.", "")
	}
}

// MX records are judged on the check's port, and hints on the record's port (B17, B18).
func TestMailAndHints(t *testing.T) {
	v := serveRecords(t, "cache")
	v.becomes("mx.example.org MX", "10 one.example.org., 20 two.example.org.", "127.0.0.11, 127.0.0.12")
	v.becomes("web.example.org HTTPS", `1 . port="PORT" ipv4hint="127.0.0.11,127.0.0.12"`, "")
	v.kill(11)
	v.becomes("mx.example.org MX", "20 two.example.org.", "127.0.0.12")
	v.becomes("web.example.org HTTPS", `1 . port="PORT" ipv4hint="127.0.0.12"`, "")
	v.kill(12)
	v.becomes("mx.example.org MX", "10 one.example.org., 20 two.example.org.", "127.0.0.11, 127.0.0.12")
	v.becomes("web.example.org HTTPS", `1 . port="PORT" ipv4hint="127.0.0.11,127.0.0.12"`, "")
}

const ahead = `
example.org:0 {
    bind 127.0.0.1
    KIND
    multivalue www.example.org sub.example.org {
        CALM
        HOW
    }
}`

// Names under preload are looked up in the zone and judged before the first query for them (B59).
func TestLearnedAhead(t *testing.T) {
	for name, words := range map[string][2]string{
		"watch":                {"file DIR/example.org example.org", "watch www.example.org a.sub.example.org"},
		"watch through cache":  {"file DIR/example.org example.org\n cache", "watch www.example.org a.sub.example.org"},
		"preload of file":      {"file DIR/example.org example.org", "preload"},
		"preload of auto":      {"auto example.org {\n directory DIR (example.org) {1}\n }", "preload"},
		"preload of secondary": {"secondary example.org {\n transfer from PRIMARY\n }", "preload"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11)
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\na.sub A 127.0.0.11\na.sub A 127.0.0.13\nother A 127.0.0.14\nother A 127.0.0.15")
			kind := words[0]
			if strings.Contains(kind, "PRIMARY") {
				primary := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n transfer {\n to *\n }\n}")
				kind = strings.ReplaceAll(kind, "PRIMARY", primary.tcp)
			}
			v := s.serve(replace(ahead, "KIND", kind, "HOW", words[1]))
			v.settled(1, 2)
			if got := members(v.ask("www.example.org A")); got != "11" {
				t.Errorf("the first answer has %q, want 11", got)
			}
			if got := members(v.ask("a.sub.example.org A")); got != "11" {
				t.Errorf("the first answer of another name has %q, want 11", got)
			}
		})
	}
}

// preload without a plugin that can list a zone is refused, with the line (B78).
func TestPreloadNeedsAZone(t *testing.T) {
	s := newScene(t)
	const want = "Corefile:5 - preload needs a plugin in the server block that can list its zone"
	if _, err := caddy.Start(input(s.expand(replace(ahead, "KIND", "whoami", "HOW", "preload")))); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// Where the client chooses the address by the name it asks for, the server starts only with within (B92).
func TestClientsCannotAimProbes(t *testing.T) {
	s := newScene(t)
	const aimed = `
example.org:0 {
    bind 127.0.0.1
    template IN A {
        match ^ip-(\d+)-(\d+)-(\d+)-(\d+)[.]
        answer "{{ .Name }} 60 IN A {{ index .Match 1 }}.{{ index .Match 2 }}.{{ index .Match 3 }}.{{ index .Match 4 }}"
    }
    multivalue {
        check tcp://:80
        all_down nodata
    }
}`
	const want = "Corefile:8 - Error during parsing: within is missing, and required beside template: without it, clients choose what is probed"
	if _, err := caddy.Start(input(aimed)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	v := s.serve(replace(aimed, "all_down nodata", "all_down nodata\n within 127.0.0.16/28"))
	if got := members(v.ask("ip-127-0-0-11.example.org A")); got != "11" {
		t.Errorf("outside within: %q, want 11", got)
	}
}

// fortyAddresses is a scene in which www.example.org has forty addresses.
func fortyAddresses(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	var zone strings.Builder
	for n := range 40 {
		fmt.Fprintf(&zone, "www A 127.0.0.%d\n", n+11)
	}
	s.zone("example.org", zone.String())
	return s
}

// A client that sends a client subnet gets a choice for that subnet, and the reply says how much of it was used (B5,
// B6).
func TestClientSubnet(t *testing.T) {
	s := fortyAddresses(t)
	v := s.serve(replace(ahead, "KIND", "file DIR/example.org example.org\n cache", "HOW", "select client\n limit 4"))
	ask := func(subnet string) string {
		m := v.ask("www.example.org A", edns, func(m *dns.Msg) {
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{198, 51, subnet[0], 0}}}
		})
		opt := m.IsEdns0()
		if opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_SUBNET).SourceScope != 24 {
			t.Errorf("subnet %q: OPT %v", subnet, opt)
		}
		return members(m)
	}
	different := make(map[string]bool)
	for _, subnet := range []string{"a", "b", "c", "d"} {
		first := ask(subnet)
		for range 5 {
			if got := ask(subnet); got != first {
				t.Errorf("subnet %q got %s, then %s", subnet, first, got)
			}
		}
		different[first] = true
	}
	if len(different) < 3 {
		t.Errorf("four networks got %d choices of 4 in 40", len(different))
	}
}

// Behind a proxy, a client's own address decides, over UDP and TCP (B5).
func TestSelectClientBehindAProxy(t *testing.T) {
	s := fortyAddresses(t)
	v := s.serve(replace(ahead, "KIND", "file DIR/example.org example.org\n proxyproto", "HOW", "select client\n limit 4"))
	// ask asks through a proxy that names the client, by version 2 of its protocol.
	ask := func(network, client string) string {
		packed, err := query("www.example.org A").Pack()
		if err != nil {
			t.Fatal(err)
		}
		addr, to := netip.MustParseAddr(client), v.addr
		family := map[bool]byte{true: 0x10, false: 0x20}[addr.Is4()]
		transport := byte(2)
		if network == "tcp" {
			to, transport, packed = v.tcp, 1, append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
		}
		head := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, family|transport, 0, byte(2*len(addr.AsSlice())+4))
		head = append(append(append(head, addr.AsSlice()...), addr.AsSlice()...), 0x14, 0xe9, 0, 53)
		conn, err := net.Dial(network, to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(append(head, packed...)); err != nil {
			t.Fatal(err)
		}
		m, err := (&dns.Conn{Conn: conn}).ReadMsg()
		if err != nil {
			t.Fatalf("%s, %s: %v", network, client, err)
		}
		return members(m)
	}
	different := make(map[string]bool)
	for _, client := range []string{"198.51.100.7", "203.0.113.7", "192.0.2.7", "2001:db8:1::7", "2001:db8:2::7"} {
		first := ask("udp", client)
		for range 4 {
			if udp, tcp := ask("udp", client), ask("tcp", client); udp != first || tcp != first {
				t.Errorf("%s got %s, then %s over UDP and %s over TCP", client, first, udp, tcp)
			}
		}
		different[first] = true
	}
	if len(different) < 4 {
		t.Errorf("five networks got %d choices of 4 in 40", len(different))
	}
}

// Readiness waits for watched names: for 30 seconds at most, because a probe may take a minute (B68, B87).
func TestReadyWaitsForWatchedNames(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	port := freePort(t)
	began := time.Now()
	s.serve(replace(ahead, "KIND", "file DIR/example.org example.org\n ready 127.0.0.1:"+port, "HOW", "watch www.example.org"))
	s.eventually(func() bool {
		reply, err := http.Get("http://127.0.0.1:" + port + "/ready")
		if err != nil {
			return false
		}
		reply.Body.Close()
		return reply.StatusCode == http.StatusOK
	}, func() string { return "never ready" })
	if targetsIn("unknown") > 0 && time.Since(began) < 30*time.Second {
		t.Errorf("ready after %s with %d targets unknown", time.Since(began), targetsIn("unknown"))
	}
}
