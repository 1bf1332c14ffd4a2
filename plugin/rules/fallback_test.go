package rules

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	"github.com/miekg/dns"
)

// The stanza that judges a name in all_down is found as for a query for that name, and last it is the one that names it, if that has
// within: also where an alias has led the query out of all zones (B60, B102).
func TestFallbackStanza(t *testing.T) {
	tcp, err := check.New("tcp://:80")
	if err != nil {
		t.Fatal(err)
	}
	var configs []*corefile.Config
	var stanzas []*Stanza
	for _, zone := range []string{"a.example.org.", "b.example.org.", "c.example.org."} {
		c := &corefile.Config{Zones: []string{zone}, Checks: []*check.Check{tcp}, Types: answer.DefaultTypes}
		configs, stanzas = append(configs, c), append(stanzas, NewStanza(c, pool.NewCheckSpec))
	}
	configs[0].Except = []string{"exempt.a.example.org."}
	b := NewBlock([]string{"example.org."}, configs, stanzas)
	stanzas[0].Within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	stanzas[1].Within = stanzas[0].Within
	for _, tc := range []struct {
		zone, asked, name, owner string
		want                     int // the index of the stanza; -1 for none
	}{
		{"a", "www.a.example.org.", "x.b.example.org.", "x.b.example.org.", 1},
		{"a", "www.a.example.org.", "x.c.example.org.", "x.c.example.org.", 2},
		{"a", "www.a.example.org.", "x.b.example.org.", "y.c.example.org.", 2},       // an alias into another zone
		{"a", "www.a.example.org.", "x.b.example.org.", "out.example.net.", 1},       // an alias out of a zone with within
		{"a", "www.a.example.org.", "x.c.example.org.", "out.example.net.", -1},      // and out of one without
		{"a", "www.a.example.org.", "out.example.net.", "x.c.example.org.", 2},       // into one
		{"a", "www.a.example.org.", "out.example.net.", "other.example.net.", 0},     // outside altogether
		{"c", "www.c.example.org.", "out.example.net.", "other.example.net.", -1},    // without within
		{"b", "target.example.net.", "out.example.net.", "other.example.net.", 1},    // the set is an alias's, outside all zones
		{"c", "target.example.net.", "out.example.net.", "other.example.net.", -1},   // without within
		{"a", "www.a.example.org.", "exempt.a.example.org.", "out.example.net.", -1}, // out of an exempt name
		{"a", "www.a.example.org.", "out.example.net.", "exempt.a.example.org.", -1},
	} {
		j := &Judge{Block: b, Zone: b.Zones[tc.zone+".example.org."], Request: lookup.Question{Name: "www." + tc.zone + ".example.org.", Type: dns.TypeA}.Message()}
		var want *Stanza
		if tc.want >= 0 {
			want = stanzas[tc.want]
		}
		if got := j.fallbackStanza(tc.asked, tc.name, tc.owner); got != want {
			t.Errorf("%s falls back to %s at %s: %v, want %d", tc.asked, tc.name, tc.owner, got, tc.want)
		}
	}
}

// Only the addresses of the family count, whatever a plugin answers.
func TestOfFamily(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for rrtype, want := range map[uint16]string{dns.TypeA: "[192.0.2.1]", dns.TypeAAAA: "[2001:db8::1]"} {
		mixed := []netip.Addr{four, six}
		if got := fmt.Sprint(ofFamily(mixed, rrtype)); got != want || mixed[0] != four || mixed[1] != six {
			t.Errorf("%s of %v", got, mixed)
		}
	}
}

// The name that takes over has the sites of its own stanza, and the set keeps those of its own. A stanza that judges nothing of
// the name leaves the draw alone, and a dry run of the set says nothing of the client (B96, B102).
func TestFallbackSites(t *testing.T) {
	for _, tc := range []struct {
		ownDry, otherDry bool
		otherTypes       answer.Types
		other            bool // the other stanza's sites decide about the other name
		scope            uint8
	}{
		{false, false, answer.DefaultTypes, true, 24},
		{false, true, answer.DefaultTypes, false, 16},
		{false, false, answer.TypesOf(dns.TypeAAAA), false, 16},
		{true, false, answer.DefaultTypes, true, 0},
	} {
		tcp, err := check.New("tcp://:80")
		if err != nil {
			t.Fatal(err)
		}
		var configs []*corefile.Config
		var stanzas []*Stanza
		for i, lines := range []string{"site here 192.0.2.0/24\nclients here 10.1.0.0/16\nsite far 10.0.0.0/16", "site west 192.0.2.0/24\nclients west 10.1.1.0/24\nsite east 10.1.2.0/24"} {
			c := &corefile.Config{Zones: []string{[]string{"a.example.org.", "b.example.org."}[i]}, Checks: []*check.Check{tcp}, Types: answer.DefaultTypes}
			c.Policy.Nearest, c.Policy.DryRun = true, []bool{tc.ownDry, tc.otherDry}[i]
			if i == 1 {
				c.Types = tc.otherTypes
			}
			sites, err := topology.Parse([]byte(lines))
			if err != nil {
				t.Fatal(err)
			}
			s := NewStanza(c, pool.NewCheckSpec)
			s.Topology = topology.Static(sites)
			configs, stanzas = append(configs, c), append(stanzas, s)
		}
		b := NewBlock([]string{"example.org."}, configs, stanzas)
		m := lookup.Question{Name: "www.a.example.org.", Type: dns.TypeA}.Message()
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 1, 1, 0).To4()}}
		j := &Judge{Block: b, Zone: b.Zones["a.example.org."], Request: m, Quiet: true}
		j.Rule("www.a.example.org.")
		own := j.Draw.Near
		rule := stanzas[1].RuleFor("x.b.example.org.")
		if judges := rule.Types.Has(dns.TypeA) && !rule.Policy.DryRun; judges != tc.other {
			t.Fatal("the case is wrong")
		} else if judges {
			j.prepareOther(stanzas[1], rule, j.isDryRun("www.a.example.org."))
		}
		if (j.Draw.Near != own) != tc.other {
			t.Errorf("%+v: the other stanza's sites: %t", tc, j.Draw.Near != own)
		}
		if j.Located().Name() != "here" {
			t.Errorf("%+v: the client is in site %q", tc, j.Located().Name())
		}
		if scope, decided := j.Scope(); scope != tc.scope || decided == tc.ownDry {
			t.Errorf("%+v: scope %d, decided %t, want %d", tc, scope, decided, tc.scope)
		}
	}
}
