package test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const passing = `
.:0 {
    bind 127.0.0.1
    chaos CoreDNS-multivalue
    transfer {
        to *
    }
    template IN A notify.test {
        answer "{{ .Name }} 60 IN A 127.0.0.11"
        answer "{{ .Name }} 60 IN A 127.0.0.12"
    }
    file DIR/example.org example.org
    OURS
}`

// A query that is not for addresses passes unchanged: the reply has the same bytes as from a server without
// multivalue (B19). A name has one type in this zone, because a transfer has the types of a name in any order.
func TestOtherMessagesPassByteForByte(t *testing.T) {
	s := newScene(t)
	s.zone("example.org", `
mail       MX    10 www
_http._tcp SRV   1 2 80 www
web        HTTPS 1 www alpn=h2 ipv4hint=127.0.0.11,127.0.0.12
text       TXT   "a text"
www        A     127.0.0.11
www        A     127.0.0.12
shop       CNAME www`)
	judged := s.serve(replace(passing, "OURS", "multivalue {\n CALM\n types A AAAA\n all_down nodata\n }"))
	plain := s.serve(replace(passing, "OURS", ""))
	judged.ask("www.example.org A")
	s.down(2)
	for name, m := range messages() {
		for _, network := range []string{"udp", "tcp"} {
			if network == "udp" && strings.Contains(name, "XFR") {
				continue
			}
			got, want := judged.raw(network, m), plain.raw(network, m)
			if !bytes.Equal(got, want) {
				t.Errorf("%s over %s: got %x, want %x", name, network, got, want)
			}
			if len(want) == 0 {
				t.Errorf("%s over %s: neither server answers", name, network)
			}
		}
	}
}

// messages are queries that multivalue does not handle, by their name.
func messages() map[string]*dns.Msg {
	all := make(map[string]*dns.Msg)
	for _, question := range []string{
		"mail.example.org MX", "_http._tcp.example.org SRV", "web.example.org HTTPS", "text.example.org TXT", "example.org NS", "example.org SOA",
		"www.example.org TXT", "shop.example.org CNAME", "nowhere.example.org A", "www.example.org AAAA", "elsewhere.test A",
		"www.example.org DS", "11.0.0.127.in-addr.arpa PTR",
	} {
		all[question] = query(question)
		all[question+" with DO"] = query(question, do)
	}
	all["ANY"] = query("shop.example.org ANY")
	all["CH"] = query("version.bind TXT", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	all["A in class CH"] = query("www.example.org A", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	all["AXFR"] = new(dns.Msg).SetAxfr("example.org.")
	all["IXFR"] = new(dns.Msg).SetIxfr("example.org.", 0, "ns.example.org.", "hostmaster.example.org.")
	all["IXFR of what is known"] = new(dns.Msg).SetIxfr("example.org.", 1, "ns.example.org.", "hostmaster.example.org.")
	all["NOTIFY of an address"] = query("www.notify.test A", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
	all["UPDATE"] = new(dns.Msg).SetUpdate("example.org.")
	for _, m := range all {
		m.Id = 4711
	}
	return all
}

// raw returns all bytes of the reply to a message.
func (v *server) raw(network string, m *dns.Msg) []byte {
	v.Helper()
	packed, err := m.Pack()
	if err != nil {
		v.Fatal(err)
	}
	addr := v.addr
	if network == "tcp" {
		addr = v.tcp
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		v.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(packed); err != nil {
		v.Fatal(err)
	}
	if stream, ok := conn.(*net.TCPConn); ok {
		_ = stream.CloseWrite() // so that the server closes the connection after its reply
		all, err := io.ReadAll(conn)
		if err != nil {
			v.Fatal(err)
		}
		return all
	}
	reply := make([]byte, dns.MaxMsgSize)
	n, err := conn.Read(reply)
	if err != nil {
		v.Fatalf("%s: %v", m.Question[0].String(), err)
	}
	return reply[:n]
}

// An answer that is too long for UDP is truncated there, and complete over TCP (B28).
func TestLongAnswerIsTruncatedOverUDP(t *testing.T) {
	s := newScene(t, 11)
	var records strings.Builder
	for n := range 100 {
		fmt.Fprintf(&records, "www A 192.0.2.%d\nwww AAAA 2001:db8::%d\n", n, n)
	}
	s.zone("example.org", records.String())
	v := s.serve(strings.Replace(classic, "QUICK", "CALM\n limit off", 1))
	for _, question := range []string{"www.example.org A", "www.example.org AAAA"} {
		if short := v.ask(question); !short.Truncated {
			t.Errorf("%s over UDP is not truncated", question)
		}
		if whole := v.exchange("tcp", query(question)); whole.Truncated || len(whole.Answer) != 100 {
			t.Errorf("%s over TCP has %d records, TC %v: want 100 and no TC", question, len(whole.Answer), whole.Truncated)
		}
	}
}

// A thinned set that is too long for UDP is truncated there, and over TCP all its remaining addresses are served.
func TestThinnedLongAnswerOverTCP(t *testing.T) {
	s := newScene(t, 11)
	var records strings.Builder
	for n := range 99 {
		fmt.Fprintf(&records, "www A 192.0.2.%d\n", n)
	}
	s.zone("example.org", records.String()+"www A 127.0.0.200")
	v := s.serve(strings.Replace(classic, "QUICK", "CALM\n limit off", 1))
	v.ask("www.example.org A")
	s.down(1)
	if short := v.ask("www.example.org A"); !short.Truncated {
		t.Error("the answer over UDP is not truncated")
	}
	if whole := v.exchange("tcp", query("www.example.org A")); whole.Truncated || len(whole.Answer) != 99 {
		t.Errorf("the answer over TCP has %d records, want the 99 that are not down", len(whole.Answer))
	}
}

// A truncated answer from an upstream is only a part of a set, and is not judged: it stays truncated and unchanged
// (B28, T8).
func TestTruncatedAnswerFromBehindStays(t *testing.T) {
	s := newScene(t, 11)
	upstream := s.upstream(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Truncated = r.Question[0].Name == "long.example.org."
		for _, n := range []string{"11", "12"} {
			rr, _ := dns.NewRR(r.Question[0].Name + " 300 IN A 127.0.0." + n)
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	v := s.serve(".:0 {\n bind 127.0.0.1\n forward . " + upstream + "\n multivalue {\n CALM\n }\n}")
	v.comesTo("www.example.org A", "11")
	if m := v.ask("long.example.org A"); !m.Truncated || members(m) != "11 12" {
		t.Errorf("the truncated answer came as %q, TC %v", members(m), m.Truncated)
	}
}
