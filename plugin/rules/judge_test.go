package rules

import (
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"

	"github.com/miekg/dns"
)

// exampleBlock returns the block of one stanza in a server block for example.org.
func exampleBlock(c *corefile.Config) (*Block, *Stanza) {
	tcp, err := check.New("tcp://:80")
	if err != nil {
		panic(err)
	}
	c.Checks, c.Types = []*check.Check{tcp}, answer.DefaultTypes
	s := NewStanza(c, pool.NewCheckSpec)
	return NewBlock([]string{"example.org."}, []*corefile.Config{c}, []*Stanza{s}), s
}

// An alias that leads out of the stanza's zones is judged only if within allows probing its addresses (B60).
func TestAliasOutOfTheZone(t *testing.T) {
	b, s := exampleBlock(&corefile.Config{Zones: []string{"example.org."}})
	x := &Judge{Block: b, Zone: b.Zones["example.org."], Request: lookup.Question{Name: "www.example.org.", Type: dns.TypeA}.Message()}
	if x.Rule("cdn.example.com.") != nil || x.Rule("lb.example.org.") == nil {
		t.Error("without within, a target outside the zones is judged, or one inside is not")
	}
	s.Within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	if x.Rule("cdn.example.com.") == nil {
		t.Error("with within, it is not judged")
	}
}

// A host outside the zones, which someone else may own, counts for the records that name it only if within allows
// probing its addresses. An exempt host never counts (B60).
func TestHostOutOfTheZone(t *testing.T) {
	b, s := exampleBlock(&corefile.Config{Zones: []string{"_x._tcp.example.org."}, Except: []string{"static.example.org."}})
	x := &Judge{
		Block: b, Zone: b.Zones["_x._tcp.example.org."],
		Request: lookup.Question{Name: "_x._tcp.example.org.", Type: dns.TypeSRV}.Message(),
	}
	follows := func(host string) bool { return x.Follow("_x._tcp.example.org.", host) }
	if follows("cdn.example.com.") || !follows("lb.example.org.") || follows("a.static.example.org.") {
		t.Error("without within, a host outside the zones is followed, or one inside is not, or an exempt one is")
	}
	s.Within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	if !follows("cdn.example.com.") || follows("static.example.org.") {
		t.Error("with within, a host outside the zones is not followed, or an exempt one is")
	}
}
