package rules

import (
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"

	"github.com/miekg/dns"
)

// Which name is asked for the SOA of a name's zone (B31).
func TestTop(t *testing.T) {
	for _, tc := range []struct {
		stanza, asked, owner string
		authority            string // a record of the answer
		want                 string
	}{
		{"example.org.", "www.example.org.", "www.example.org.", "", "example.org."},
		{"example.org.", "a.b.example.org.", "a.b.example.org.", "", "b.example.org."},
		{"example.org.", "example.org.", "example.org.", "", "example.org."},
		{"www.example.org.", "www.example.org.", "www.example.org.", "", "www.example.org."},
		{"example.org.", "WWW.Example.org.", "www.example.org.", "", "example.org."},

		{"example.org.", "a.b.example.org.", "a.b.example.org.", "Example.org. 30 IN NS ns.", "example.org."},
		{"example.org.", "A.b.example.org.", "a.b.example.org.", "example.org. 30 IN NS ns.", "example.org."},
		{"www.example.org.", "www.example.org.", "www.example.org.", "example.org. 30 IN NS ns.", "example.org."},
		{"example.org.", "sub.example.org.", "sub.example.org.", "sub.example.org. 30 IN SOA ns. h. 1 2 3 4 5", "sub.example.org."},
		{"example.org.", "www.example.org.", "www.example.org.", "ww.example.org. 30 IN NS ns.", "example.org."},
		{"example.org.", "a.b.example.org.", "a.b.example.org.", "a.b.example.org. 30 IN NSEC c. A", "b.example.org."},
		{"example.org.", "www.example.org.", "www.example.org.", ". 30 IN NS ns.", "example.org."},

		// At the end of an alias, the zone may begin further below.
		{"example.org.", "www.example.org.", "a.sub.example.org.", "example.org. 30 IN NS ns.", "sub.example.org."},
		{"example.org.", "www.example.org.", "a.b.sub.example.org.", "a.b.sub.example.org. 30 IN NS ns.", "a.b.sub.example.org."},
		{"example.org.", "www.example.org.", "lb.example.net.", "", "example.net."},
		{"example.org.", "www.example.org.", "example.net.", "", "example.net."},

		{".", "www.example.org.", "www.example.org.", "", "example.org."},
		{".", "example.org.", "example.org.", "", "example.org."},
		{".", "org.", "org.", "", "org."},
	} {
		b, _ := exampleBlock(&corefile.Config{Zones: []string{tc.stanza}})
		x := &Judge{Block: b, Zone: b.Zones[tc.stanza], Request: lookup.Question{Name: tc.asked, Type: dns.TypeA}.Message()}
		if tc.authority != "" {
			rr, err := dns.NewRR(tc.authority)
			if err != nil {
				t.Fatal(err)
			}
			x.Reply = &dns.Msg{Ns: []dns.RR{rr}}
		}
		if got := x.Top(tc.owner); got != tc.want {
			t.Errorf("stanza %s, query %s, owner %s, authority %q: %s, want %s", tc.stanza, tc.asked, tc.owner, tc.authority, got, tc.want)
		}
	}
}
