package rules

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
)

// overriddenIn returns the overrides of a stanza for a zone, in a cluster with these zones.
func overriddenIn(t testing.TB, zone string, except []string, clusterZones ...string) *Overrides {
	t.Helper()
	c := &corefile.Config{
		Zones: []string{zone}, Except: except, Checks: []*check.Check{checkOf("tcp://:80")}, Pace: pooltest.Pace,
		MaxTargets: 65536, Types: answer.DefaultTypes, Annotations: new(corefile.Cluster),
	}
	s := NewStanza(c, pool.NewCheckSpec)
	s.Overrides.SetZones(NewBlock(nil, []*corefile.Config{c}, []*Stanza{s}), clusterZones)
	return s.Overrides
}

// A name belongs to the Service that its labels give.
func TestServiceOfAName(t *testing.T) {
	a := overriddenIn(t, ".", nil, "local", "cluster.local", "svc.example.org.")
	for name, want := range map[string]string{
		"cart.shop.svc.cluster.local.":             "cart.shop",
		"CART.Shop.svc.Cluster.LOCAL.":             "cart.shop",
		"a.cart.shop.svc.cluster.local.":           "cart.shop",
		"_http._tcp.cart.shop.svc.cluster.local.":  "cart.shop",
		"_zone.a.b.c.cart.shop.svc.cluster.local.": "cart.shop",
		"svc.svc.svc.cluster.local.":               "svc.svc",
		"a.svc.shop.svc.cluster.local.":            "svc.shop",
		"cart.shop.svc.svc.example.org.":           "cart.shop",
		"x.cart.shop.svc.local.":                   "cart.shop",
		"shop.svc.cluster.local.":                  "shop",
		"svc.cluster.local.":                       "",
		"cluster.local.":                           "",
		"10-0-0-1.shop.pod.cluster.local.":         "",
		"cart.shop.svc.cluster.local.example.org.": "",
		"cart.shop.svc.notcluster.local.":          "",
		"cart.shop.xsvc.cluster.local.":            "",
		".":                                        "",
		"":                                         "",
	} {
		if got := a.service(name); got != want {
			t.Errorf("%q is of %q, want %q", name, got, want)
		}
	}
}

// Only Services whose names the stanza judges count, even if it judges only some of the names.
func TestAnnotationOfOthers(t *testing.T) {
	for zone, want := range map[string]bool{
		"cluster.local.": true, "shop.svc.cluster.local.": true, "cart.shop.svc.cluster.local.": true,
		"_http._tcp.cart.shop.svc.cluster.local.": true, ".": true,
		"other.svc.cluster.local.": false, "till.shop.svc.cluster.local.": false, "example.org.": false, "pod.cluster.local.": false,
	} {
		if got := overriddenIn(t, zone, nil, "cluster.local.").Judges("cart.shop"); got != want {
			t.Errorf("a stanza for %s judges Service cart of shop: %t, want %t", zone, got, want)
		}
	}
	a := overriddenIn(t, "cluster.local.", []string{"shop.svc.cluster.local."}, "cluster.local.")
	if a.Judges("cart.shop") || !a.Judges("cart.other") {
		t.Error("an exempt Service counts, or another one does not")
	}
}

// A Service keeps its stanza while its check does not change, and Services with the same check share one stanza.
func TestOverridesKeepStanzas(t *testing.T) {
	a := overriddenIn(t, "cluster.local.", nil, "cluster.local.")
	if a.Current() != nil {
		t.Error("checks are in force before Apply was called")
	}
	one, two := checkOf("http://:1/"), checkOf("http://:2/")
	if !a.Apply(map[string]*check.Check{"cart.shop": one, "till.shop": checkOf("http://:1/")}) {
		t.Error("the first checks change nothing")
	}
	cart := a.forName("cart.shop.svc.cluster.local.")
	if cart == nil || cart != a.forName("till.shop.svc.cluster.local.") || a.forName("www.example.org.") != nil {
		t.Error("two Services with the same check do not share a stanza, or another name has one")
	}
	if a.Apply(map[string]*check.Check{"cart.shop": checkOf("http://:1/"), "till.shop": one}) {
		t.Error("the same checks are a change")
	}
	if !a.Apply(map[string]*check.Check{"cart.shop": one, "till.shop": two}) || a.forName("cart.shop.svc.cluster.local.") != cart {
		t.Error("an edit elsewhere changes the stanza of a Service")
	}
	if all := a.stanza.All(); len(all) != 3 || a.stanza.For("till.shop.svc.cluster.local.")[0].Name != "http://:2/" {
		t.Errorf("%d checks, want 3", len(all))
	}
}

// Judging a set by an annotation allocates nothing.
func TestAnnotatedRuleAllocatesNothing(t *testing.T) {
	a := overriddenIn(t, "cluster.local.", nil, "cluster.local.")
	s := a.stanza
	a.Apply(map[string]*check.Check{"cart.shop": checkOf("http://:1/")})
	const name = "_http._tcp.cart.shop.svc.cluster.local."
	if s.RuleFor(name) == &s.Rule {
		t.Fatal("the annotation has no effect")
	}
	if allocs := testing.AllocsPerRun(1000, func() { s.RuleFor(name); s.RuleFor("www.example.org.") }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkApply measures how long an edit of one annotation among thousands takes on the pool's loop.
func BenchmarkApply(b *testing.B) {
	a := overriddenIn(b, "cluster.local.", nil, "cluster.local.")
	var checks []*check.Check
	for i := range 256 {
		checks = append(checks, checkOf("http://:"+strconv.Itoa(1000+i)+"/"))
	}
	var tables [2]map[string]*check.Check
	for i := range tables {
		tables[i] = make(map[string]*check.Check)
		for k := range 10_000 {
			tables[i][fmt.Sprintf("s%d.shop", k)] = checks[(k+i)%len(checks)]
		}
	}
	for i := 0; b.Loop(); i++ {
		a.Apply(tables[i%2])
	}
}

// The stanza of an annotated Service goes by the sites of the one that it takes the place of, and says so in explanations.
func TestOverridesKeepSites(t *testing.T) {
	a := overriddenIn(t, "cluster.local.", nil, "cluster.local.")
	a.stanza.Topology = topology.Static(new(topology.Table))
	a.Apply(map[string]*check.Check{"cart.shop": checkOf("http://:1/")})
	if cart := a.forName("cart.shop.svc.cluster.local."); cart == nil || cart.Topology != a.stanza.Topology {
		t.Error("the stanza of an annotated Service has no sites")
	}
}
