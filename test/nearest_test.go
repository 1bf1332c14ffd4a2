package test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const nearestFile = `
site ams 127.0.0.11 127.0.0.12
site fra 127.0.0.13
site lon 127.0.0.14
clients ams 127.1.0.0/16 198.51.100.0/25
clients fra 127.2.0.0/16
order ams: fra
order fra: lon ams
`

const nearestCorefile = `example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
        topology DIR/sites
        select nearest
        status 127.0.0.1:STATUS
    }
}`

var nearestSites = [...]string{"own", "next", "none"}

// from asks as a client at an address of loopback.
func (v *server) from(client, question string, edits ...func(*dns.Msg)) *dns.Msg {
	v.Helper()
	c := dns.Client{Timeout: patience, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}}
	q := query(question)
	for _, edit := range edits {
		edit(q)
	}
	m, _, err := c.Exchange(q, v.addr)
	if err != nil {
		v.Fatal(err)
	}
	return m
}

// subnet adds the client's network to a query (RFC 7871).
func subnet(address string, bits uint8) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: bits, Address: net.ParseIP(address).To4()}}
	}
}

// scope is that of the client's network in an answer, -1 without one.
func scope(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				return int(s.SourceScope)
			}
		}
	}
	return -1
}

// Clients get the servers of their own site while those are well, then those of the next site; and the edited file counts without
// a reload (B96, B97).
func TestNearest(t *testing.T) {
	s := newScene(t, 11, 12, 13, 14)
	s.zone("example.org", "www 30 IN A 127.0.0.11\nwww 30 IN A 127.0.0.12\nwww 30 IN A 127.0.0.13\nwww 30 IN A 127.0.0.14\n")
	s.file("sites", nearestFile)
	var before [3]float64
	for i, site := range nearestSites {
		before[i] = metric("coredns_multivalue_nearest_answers_total", "site="+site)
	}
	v, status := s.shown(nearestCorefile)
	v.ask("www.example.org A")
	v.settled(4, 0)
	gets := func(client, want string, edits ...func(*dns.Msg)) *dns.Msg {
		t.Helper()
		m := v.from(client, "www.example.org A", edits...)
		if got := members(m); got != want {
			t.Errorf("%s gets %s, want %s", client, got, want)
		}
		return m
	}
	gets("127.1.0.1", "11 12")
	gets("127.2.0.1", "13")
	gets("127.3.0.1", "11 12 13 14") // of no site, and there is no order *
	if m := gets("127.2.0.1", "11 12", subnet("198.51.100.0", 25)); scope(m) != 25 {
		t.Errorf("scope %d, want 25", scope(m))
	}
	if m := gets("127.2.0.1", "11 12 13 14", subnet("198.51.100.128", 25)); scope(m) != 25 {
		t.Errorf("scope %d of a client of no site, want 25", scope(m))
	}
	if m := gets("127.2.0.1", "11 12 13 14", subnet("198.51.100.0", 24)); scope(m) != 25 {
		t.Errorf("scope %d, want 25: it depends on more than the client said", scope(m))
	}
	if m := gets("127.2.0.1", "13", subnet("0.0.0.0", 0)); scope(m) != 0 {
		t.Errorf("scope %d of a client that does not want to be known, want 0", scope(m))
	}
	x := s.explain(status, "www.example.org A client=198.51.100.7")
	if got, want := x.brief(), "NOERROR sample, +11 up, +12 up, -13 up, but nearer sites have enough, -14 up, but nearer sites have enough"; got != want {
		t.Errorf("explained as\n%s, want\n%s", got, want)
	}
	steps := strings.Join(x.Explanations[0].Steps, "\n")
	for _, want := range []string{
		"the client 198.51.100.7/32 is in site ams, by 198.51.100.0/25",
		"4 of 4 are up, and those of the nearest site are served: ams; site ams has 2 of 2 left, site fra has 1 of 1 left, site lon has 1 of 1 left",
	} {
		if !strings.Contains(steps, want) {
			t.Errorf("%q is not in\n%s", want, steps)
		}
	}
	s.kill(11, 12)
	v.settled(2, 2)
	gets("127.1.0.1", "13")
	gets("127.3.0.1", "13 14")
	s.kill(13)
	v.settled(1, 3)
	gets("127.1.0.1", "14")
	gets("127.2.0.1", "14")
	s.start(11)
	v.settled(2, 2)
	gets("127.1.0.1", "11")
	gets("127.2.0.1", "14") // by its order, lon comes before ams
	for i, site := range nearestSites {
		if n := metric("coredns_multivalue_nearest_answers_total", "site="+site) - before[i]; n < 4 {
			t.Errorf("%v answers counted for %s sites", n, site)
		}
	}
	s.file("sites", strings.Replace(nearestFile, "order fra: lon ams", "order fra: ams", 1))
	s.eventually(func() bool { return members(v.from("127.2.0.1", "www.example.org A")) == "11" }, func() string { return "the edited order does not count" })
	mark := logs.Mark()
	s.file("sites", nearestFile+"order lon: nowhere\n")
	s.eventually(func() bool { return strings.Contains(logs.Since(mark), `unknown site "nowhere"`) }, func() string { return "a broken file is not in the log" })
	if err := os.Remove(filepath.Join(s.dir, "sites")); err != nil {
		t.Fatal(err)
	}
	s.eventually(func() bool { return strings.Contains(logs.Since(mark), "no such file") }, func() string { return "a missing file is not in the log" })
	gets("127.2.0.1", "11") // what was in force stays
}

// geoDatabase is the database of the tests of CoreDNS's own plugin geoip, in which 81.2.69.142 is in the United Kingdom.
func geoDatabase(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "plugin", "geoip", "testdata", "GeoLite2-City.mmdb")
}

// Labels of the query decide about clients that no network holds. Where one decides, or could have, the scope is that of the
// client's network. Without metadata no label can decide, which the log says once (B96, B97).
func TestNearestByLabel(t *testing.T) {
	const corefile = `example.org:0 {
    bind 127.0.0.1
    METADATA
    file DIR/example.org
    multivalue {
        CALM
        topology DIR/sites
        select nearest
    }
}`
	database := geoDatabase(t)
	for metadata, tests := range map[string][][2]string{
		"metadata\n geoip " + database + " {\n edns-subnet\n }": {{"81.2.69.142/32", "11 12 scope 32"}, {"81.2.69.0/24", "11 12 13 scope 24"}, {"203.0.113.0/24", "11 12 13 scope 24"}, {"198.51.100.0/30", "13 scope 25"}},
		"errors": {{"81.2.69.142/32", "11 12 13 scope 32"}, {"198.51.100.0/30", "13 scope 25"}},
	} {
		t.Run(strings.Fields(metadata)[0], func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.zone("example.org", "www 30 IN A 127.0.0.11\nwww 30 IN A 127.0.0.12\nwww 30 IN A 127.0.0.13\n")
			s.file("sites", "site ams 127.0.0.12/32 127.0.0.11\nsite fra 127.0.0.13\nclients ams geoip/country/code=GB\nclients fra 198.51.100.0/25")
			mark := logs.Mark()
			v := s.serve(replace(corefile, "METADATA", metadata))
			v.ask("www.example.org A")
			v.settled(3, 0)
			for _, tt := range tests {
				p := netip.MustParsePrefix(tt[0])
				m := v.from("127.0.0.1", "www.example.org A", subnet(p.Addr().String(), uint8(p.Bits())))
				if got := fmt.Sprintf("%s scope %d", members(m), scope(m)); got != tt[1] {
					t.Errorf("with %q, %s gets %s, want %s", metadata, p, got, tt[1])
				}
			}
			told := strings.Count(logs.Since(mark), "add metadata to this server block")
			if want := map[bool]int{true: 1}[metadata == "errors"]; told != want {
				t.Errorf("with %q, the log asks for metadata %d times, want %d", metadata, told, want)
			}
		})
	}
}
