package test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// firsts counts which address comes first in n answers, by its last octet.
func (v *server) firsts(n int, question string, edits ...func(*dns.Msg)) map[int]int {
	v.Helper()
	count := make(map[int]int)
	for range n {
		m := v.ask(question, edits...)
		if got := members(m); got != "11 12 13" {
			v.Fatalf("the answer has %s", got)
		}
		i := slices.IndexFunc(m.Answer, func(rr dns.RR) bool { _, ok := addressOf(rr); return ok })
		count[octet(m.Answer[i])]++
	}
	return count
}

// octet is the last one of the address in a record.
func octet(rr dns.RR) int {
	addr, _ := addressOf(rr)
	raw := addr.As16()
	return int(raw[15])
}

// Most clients take the first address: with weight 10 of 12 it is that one in five of six answers, although all are served. A
// client's own order does not change. With loadbalance above, the order is lost (B7, B93).
func TestOrderOfAnswers(t *testing.T) {
	const n = 150
	var began time.Time
	for _, c := range []struct {
		ours, others string
		fits         func(first map[int]int) bool
	}{
		{"weight 10 127.0.0.13/32", "", func(f map[int]int) bool { return f[13] > 95 && f[13] < n }},
		{"weight 10 127.0.0.13/32\n limit off", "cache", func(f map[int]int) bool { return f[13] > 95 && f[13] < n }},
		{"weight 10 127.0.0.13/32\n select client", "", func(f map[int]int) bool { return len(f) == 1 }},
		{"select client", "cache", func(f map[int]int) bool { return len(f) == 1 }},
		{"weight 10 127.0.0.99/32", "", func(f map[int]int) bool { return f[11] == n }},
		{"warmup 1h", "", func(f map[int]int) bool { return f[11] == n || time.Since(began) > 30*time.Second }}, // all are equally cold, for 36 seconds
		{"weight 10 127.0.0.13/32\n dry_run", "", func(f map[int]int) bool { return f[11] == n }},
		{"weight 10 127.0.0.13/32", "loadbalance", func(f map[int]int) bool { return f[13] < 95 && f[11] > 20 }},
	} {
		t.Run(c.ours+" "+c.others, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.zone("example.org", twoOfThree)
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n multivalue {\n CALM\n " + c.ours + "\n }\n " + c.others + "\n}")
			began = time.Now()
			v.ask("shop.example.org A")
			v.settled(3, 0)
			if first := v.firsts(n, "shop.example.org A"); !c.fits(first) {
				t.Errorf("the first address of %d answers was %v", n, first)
			}
		})
	}
}

// Clients of different networks have orders of their own: they do not all come to the same address.
func TestOrderOfClients(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", twoOfThree)
	v := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n multivalue {\n CALM\n select client\n }\n}")
	v.ask("www.example.org A")
	v.settled(3, 0)
	first := make(map[string]int)
	for i := range 60 {
		c := dns.Client{Timeout: patience, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 1, byte(i), 1)}}}
		m, _, err := c.Exchange(query("www.example.org A"), v.addr)
		if err != nil || members(m) != "11 12 13" {
			t.Fatalf("%v\n%s", err, m)
		}
		first[m.Answer[0].(*dns.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("first for 60 networks: %v", first)
	}
}

// Where a signature covers the set, its order stays. Below dnssec each order is signed, and validates (B24, B93).
func TestOrderAndSignatures(t *testing.T) {
	const n = 30
	for below, fits := range map[string]func(first map[int]int) bool{
		"":       func(f map[int]int) bool { return f[11] == n },
		"dnssec": func(f map[int]int) bool { return f[13] > 10 },
	} {
		t.Run("below "+below, func(t *testing.T) {
			s := newSigned(t, 11, 12, 13)
			if below != "" {
				s.placeBelow(below)
			}
			v := s.serve(replace(validated, "OTHERS", onTheFly, "OURS", "weight 10 127.0.0.13/32"))
			v.ask("www.example.org A")
			v.settled(3, 0)
			if first := v.firsts(n, "www.example.org A", do); !fits(first) {
				t.Errorf("below %q, with DO, the first address was %v", below, first)
			}
			if first := v.firsts(n, "www.example.org A"); first[13] <= 10 {
				t.Errorf("below %q, without DO, the first address was %v", below, first)
			}
			for range 3 {
				v.validates("www.example.org A", secured, "11 12 13")
			}
		})
	}
}

// A validating forwarder says AD of complete sets. A mere order does not change that.
func TestOrderKeepsAD(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	upstream := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.AuthenticatedData = true
		for _, i := range []int{11, 12, 13} {
			rr, _ := dns.NewRR(fmt.Sprintf("www.example.org. 30 IN A 127.0.0.%d", i))
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream.PacketConn = conn
	go upstream.ActivateAndServe()
	t.Cleanup(func() { upstream.Shutdown() })
	v := s.serve("example.org:0 {\n bind 127.0.0.1\n forward . " + conn.LocalAddr().String() + "\n multivalue {\n CALM\n weight 10 127.0.0.13/32\n }\n}")
	v.ask("www.example.org A")
	v.settled(3, 0)
	moved := 0
	for range 60 {
		q := query("www.example.org A")
		q.AuthenticatedData = true
		m, _, err := new(dns.Client).Exchange(q, v.addr)
		if err != nil || !m.AuthenticatedData || members(m) != "11 12 13" {
			t.Fatalf("%v\n%s", err, m)
		}
		if octet(m.Answer[0]) != 11 {
			moved++
		}
	}
	if moved < 20 {
		t.Errorf("%d of 60 answers were in another order", moved)
	}
}
