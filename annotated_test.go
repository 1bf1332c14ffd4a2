package multivalue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// edited is a cluster whose Services a test edits.
type edited struct {
	texts  chan map[string]string
	wrong  chan map[string]string
	panics bool
	begun  int
	over   int
}

func newEdited() *edited {
	return &edited{texts: make(chan map[string]string), wrong: make(chan map[string]string)}
}

func (c *edited) Follow(ctx context.Context, take func(map[string]string) map[string]string) error {
	c.begun++
	defer func() { c.over++ }()
	if c.panics {
		panic("a fault in what follows")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case texts := <-c.texts:
			c.wrong <- take(texts)
		}
	}
}

// say edits the annotations: words are Services and their texts in turn. It returns what is wrong.
func (c *edited) say(words ...string) map[string]string {
	texts := make(map[string]string)
	for i := 0; i < len(words); i += 2 {
		texts[words[i]] = words[i+1]
	}
	c.texts <- texts
	return <-c.wrong
}

// The clusters of these tests, by their kubeconfig.
type clusters map[string]Cluster

func (clusters) Zones(h plugin.Handler) (zones []string, told bool) {
	if h.Name() == "kubernetes" {
		return []string{"Cluster.local", "10.in-addr.arpa."}, h == elsewhere
	}
	return nil, false
}

// elsewhere is the plugin kubernetes with a kubeconfig of its own.
var elsewhere plugin.Handler = &struct{ named }{"kubernetes"}

func (c clusters) Cluster(kubeconfig, _ string) (Cluster, error) {
	if found := c[kubeconfig]; found != nil {
		return found, nil
	}
	return nil, errors.New("no such file")
}

// questioned tells which check asked an address. Each text has a network of its own.
type questioned map[string]*pooltest.FakeNetwork

func (q questioned) of(text string) *pooltest.FakeNetwork {
	if q[text] == nil {
		q[text] = pooltest.NewNetwork()
	}
	return q[text]
}

// asked lists how often each check has asked an address, but for those that did not.
func (q questioned) asked(a netip.Addr) map[string]int {
	all := make(map[string]int)
	for text, n := range q {
		if times := n.Asked(a); times > 0 {
			all[text] = times
		}
	}
	return all
}

// heeding is a block with a stanza that heeds annotations, and the generation that it is in, which has not joined yet. Its
// own check is tcp://:80.
func heeding(t testing.TB, p *pool, q questioned, c Cluster, pace verdict.Pace) (*parsedStanza, *block, *generation) {
	t.Helper()
	p.kubernetes = clusters{"it": c}
	s := forZone(testStanza("tcp://:80", q.of("tcp://:80"), pace), "cluster.local.")
	s.cluster = &clusterAt{kubeconfig: "it"}
	g := new(generation)
	g.add(s, p)
	if err := g.heed(s, p); err != nil {
		t.Fatal(err)
	}
	s.annotated.specOf = func(c *check.Check) CheckSpec {
		spec := NewCheckSpec(c)
		spec.prober, spec.talk = q.of(spec.Name), nil
		return spec
	}
	b := newBlock([]*parsedStanza{s})
	g.learners = append(g.learners, b.learner)
	return s, b, g
}

// starts has the generation join, as a start of the server does.
func starts(t testing.TB, p *pool, g *generation, b *block, stanzas ...*parsedStanza) {
	t.Helper()
	p.join(g)
	if err := b.attach(stanzas, []plugin.Handler{named("file"), named("kubernetes")}, p); err != nil {
		t.Fatal(err)
	}
	g.begin()
}

// followed is a running server that heeds the annotations of c.
func followed(t *testing.T, p *pool, q questioned, c Cluster) (*parsedStanza, *block, *generation) {
	t.Helper()
	s, b, g := heeding(t, p, q, c, pooltest.Pace)
	starts(t, p, g, b, s)
	p.confirm(g)
	return s, b, g
}

// look asks for an address of a set of that name, as a query does.
func look(s *parsedStanza, name string, a netip.Addr) verdict.State {
	return s.ruleOf(name).Health.Look(name, a, 0, 30).State()
}

// during lets time pass while queries ask for an address of a name, and returns which checks asked it then.
func during(d time.Duration, s *parsedStanza, q questioned, name string, a netip.Addr) string {
	before := q.asked(a)
	for end := time.Now().Add(d); time.Now().Before(end); {
		look(s, name, a)
		pooltest.Elapse(time.Second)
	}
	now := q.asked(a)
	maps.DeleteFunc(now, func(text string, n int) bool { return n == before[text] })
	return strings.Join(slices.Sorted(maps.Keys(now)), " ")
}

const (
	cartName = "cart.shop.svc.cluster.local."
	ownCheck = "tcp://:80"
)

// Which Service a name belongs to.
func TestServiceOfAName(t *testing.T) {
	a := newAnnotated(forZone(testStanza("tcp://:80", nil, pooltest.Pace), "."))
	a.settle(nil, []string{"local", "cluster.local", "svc.example.org."})
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

// An annotation says how the addresses of its Service are asked, and of what is below it; an edit goes over to the other
// check, and its end back to the stanza's own, at once and without a reload. Others are asked as before (B81).
func TestAnnotationIsHeeded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		want := func(when, name string, a int, want string) {
			t.Helper()
			if got := during(time.Minute, s, q, name, pooltest.Addr(a)); got != want {
				t.Errorf("%s, %s is asked by %s, want %s", when, name, got, want)
			}
		}
		want("at first", cartName, 1, ownCheck)
		if wrong := c.say("cart.shop", "http://:8080/healthz"); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		want("with an annotation", cartName, 1, "http://:8080/healthz")
		want("with an annotation", "_http._TCP.Cart.shop.svc.cluster.local.", 2, "http://:8080/healthz")
		want("with an annotation", "till.shop.svc.cluster.local.", 3, ownCheck)
		q.of("http://:8080/healthz").Kill(pooltest.Addr(1))
		during(30*time.Second, s, q, cartName, pooltest.Addr(1))
		if got := look(s, cartName, pooltest.Addr(1)); got != verdict.Down {
			t.Errorf("a dead address is %s", got)
		}
		c.say("cart.shop", "http://:8080/live status 204")
		want("after an edit", cartName, 1, "http://:8080/live status 204")
		if got := look(s, cartName, pooltest.Addr(1)); got != verdict.Up {
			t.Errorf("what answers the new question is %s", got)
		}
		c.say()
		want("after its end", cartName, 1, ownCheck)
		if got := sizeOf(p).checks; got != 1 {
			t.Errorf("%d checks are left, want 1", got)
		}
	})
}

// A target that the new check does not ask for is probed no more from the very moment of the change, whoever else has the
// old one.
func TestAnnotationEndsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		c.say("cart.shop", "http://:1/", "till.shop", "http://:1/")
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		during(time.Minute, s, q, "till.shop.svc.cluster.local.", pooltest.Addr(2))
		underWay := s.ruleOf(cartName) // as a query has it that is under way
		c.say("cart.shop", "http://:2/", "till.shop", "http://:1/")
		underWay.Health.Look(cartName, pooltest.Addr(1), 0, 30)
		before, kept := q.of("http://:1/").Asked(pooltest.Addr(1)), q.of("http://:1/").Asked(pooltest.Addr(2))
		pooltest.Elapse(time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got != before || before == 0 {
			t.Errorf("asked %d times before the edit, and %d times since", before, got-before)
		}
		if got := q.of("http://:1/").Asked(pooltest.Addr(2)); got == kept {
			t.Error("the other Service's address is asked no more")
		}
		if got := sizeOf(p); got.watches != 1 || got.checks != 3 {
			t.Errorf("%+v, want one watch and three checks", got)
		}
	})
}

// It ends at once also where a stanza for other names has the same check, which could ask the address, but does not.
func TestAnnotationEndsBesideAnotherStanza(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, b, g := heeding(t, p, q, c, pooltest.Pace)
		other := forZone(testStanza("http://:1/", q.of("http://:1/"), pooltest.Pace), "example.org.")
		g.add(other, p)
		starts(t, p, g, b, s)
		p.confirm(g)
		c.say("cart.shop", "http://:1/")
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		c.say("cart.shop", "http://:2/")
		before := q.of("http://:1/").Asked(pooltest.Addr(1))
		pooltest.Elapse(10 * time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got != before || before == 0 {
			t.Errorf("asked %d times before the edit, and %d times since", before, got-before)
		}
		other.Look("www.example.org.", pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got == before {
			t.Error("the other stanza's query does not teach it")
		}
	})
}

// Services that say the same share targets with each other, and with the Corefile if that says so too; and all that is
// only said by owners has one series.
func TestAnnotationsShare(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		c.say("a.shop", "http://:1/", "b.shop", " HTTP://:1/ ", "c.shop", "http://:2/", "d.shop", "tcp://:80")
		for _, service := range []string{"a", "b", "d", "e"} {
			during(time.Minute, s, q, service+".shop.svc.cluster.local.", pooltest.Addr(1))
		}
		if got := sizeOf(p); got.watches != 2 || got.checks != 3 {
			t.Errorf("%+v, want two watches and three checks", got)
		}
		for label, want := range map[string]bool{"annotation": true, "tcp://:80": true, "http://:1/": false, "http://:2/": false} {
			if got := metrics.Probes.DeleteLabelValues(label, "success"); got != want {
				t.Errorf("there are series of %s: %t, want %t", label, got, want)
			}
		}
		c.say()
		if metrics.Probes.DeleteLabelValues("annotation", "failure") {
			t.Error("the series of annotations outlive them")
		}
		if !metrics.Probes.DeleteLabelValues("tcp://:80", "failure") {
			t.Error("the Corefile's series has gone with the annotation that said the same")
		}
	})
}

// What was annotated alone, and then stands in the Corefile, has the Corefile's series from then on.
func TestAnnotationMovesIntoTheCorefile(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, g := followed(t, p, q, c)
		c.say("cart.shop", "http://:1/")
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		own := testStanza("http://:1/", q.of("http://:1/"), pooltest.Pace)
		next := candidateOf(p, own)
		p.confirm(next)
		p.leave(g)
		pass(time.Minute, own, pooltest.Addr(1))
		if metrics.Probes.DeleteLabelValues("annotation", "failure") || testutil.ToFloat64(metrics.Probes.WithLabelValues("http://:1/", "success")) < 2 {
			t.Error("the series are still those of annotations")
		}
	})
}

// One that is wrong is reported, and changes nothing: what was in force stays, or the stanza's own check (B81).
func TestAnnotationIsWrong(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, g := followed(t, p, q, c)
		counts := func(when string, good, bad float64) {
			t.Helper()
			if testutil.ToFloat64(annotationsGood) != good || testutil.ToFloat64(annotationsBad) != bad {
				t.Errorf("%s: %v good and %v bad, want %v and %v", when, testutil.ToFloat64(annotationsGood), testutil.ToFloat64(annotationsBad), good, bad)
			}
		}
		wrong := c.say("cart.shop", "http://evil.example/")
		if len(wrong) != 1 || !strings.Contains(wrong["cart.shop"], "host") {
			t.Errorf("%q is wrong", wrong)
		}
		counts("one that is wrong", 0, 1)
		if got := during(time.Minute, s, q, cartName, pooltest.Addr(1)); got != ownCheck {
			t.Errorf("asked by %s", got)
		}
		c.say("cart.shop", "http://:1/")
		counts("mended", 1, 0)
		before := s.ruleOf(cartName)
		if wrong := c.say("cart.shop", "http://:1/?query", "till.shop", "tcp://:1"); len(wrong) != 1 || s.ruleOf(cartName) != before {
			t.Errorf("%q is wrong, and the rule is another one: %t", wrong, s.ruleOf(cartName) != before)
		}
		counts("one of two", 1, 1)
		if wrong := c.say("cart.shop", "http://:1/?query", "cart.other", "nonsense"); len(wrong) != 2 {
			t.Errorf("%q is wrong", wrong)
		}
		c.say()
		counts("none", 0, 0)
		c.say("cart.shop", "tcp://:1")
		p.leave(g)
		counts("stopped", 0, 0)
	})
}

// Only Services count whose names the stanza judges, be it a part of them.
func TestAnnotationOfOthers(t *testing.T) {
	for zone, want := range map[string]bool{
		"cluster.local.": true, "shop.svc.cluster.local.": true, "cart.shop.svc.cluster.local.": true,
		"_http._tcp.cart.shop.svc.cluster.local.": true, ".": true,
		"other.svc.cluster.local.": false, "till.shop.svc.cluster.local.": false, "example.org.": false, "pod.cluster.local.": false,
	} {
		s := forZone(testStanza("tcp://:80", nil, pooltest.Pace), zone)
		a := newAnnotated(s)
		a.settle(newBlock([]*parsedStanza{s}), []string{"cluster.local."})
		if got := a.judges("cart.shop"); got != want {
			t.Errorf("a stanza for %s judges Service cart of shop: %t, want %t", zone, got, want)
		}
	}
	s := forZone(testStanza("tcp://:80", nil, pooltest.Pace), "cluster.local.")
	s.except = []string{"shop.svc.cluster.local."}
	a := newAnnotated(s)
	a.settle(newBlock([]*parsedStanza{s}), []string{"cluster.local."})
	if a.judges("cart.shop") || !a.judges("cart.other") {
		t.Error("an exempt Service counts, or another one does not")
	}
	judged, wrong := make(map[string]bool), make(map[string]string)
	table := a.build(map[string]notice{"cart.shop": notice{}.say("tcp://:1"), "cart.other": notice{}.say("tcp://:1"), "till.shop": notice{}.say("x")}, judged, wrong)
	if len(table) != 1 || table["cart.other"] == nil || len(judged) != 1 || len(wrong) > 0 {
		t.Errorf("a table of %d, with %v judged, %q wrong", len(table), judged, wrong)
	}
}

// manyAnnotations are as many Services with a check of their own as there is room for, s000.shop and s001.other in turn.
func manyAnnotations() (words []string) {
	for i := range maxAnnotated {
		words = append(words, fmt.Sprintf("s%03d.%s", i, []string{"shop", "other"}[i%2]), fmt.Sprintf("tcp://:%d", 1000+i))
	}
	return words
}

// askedBy is the check that is in force for a Service.
func askedBy(s *parsedStanza, service string) string {
	return s.ruleOf(service + ".svc.cluster.local.").Health.(*stanza).checks[0].Name
}

// A stanza takes a number of different checks; what is in force makes no room for what is new, and an edit for which there is
// none changes nothing (B81).
func TestAnnotationsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		words := manyAnnotations()
		if wrong := c.say(words...); len(wrong) > 0 {
			t.Error(wrong)
		}
		kept := s.ruleOf("s255.other.svc.cluster.local.")
		wrong := c.say(append(words, "a.third", "tcp://:1", "b.third", "tcp://:1000")...)
		if len(wrong) != 1 || !strings.Contains(wrong["a.third"], "256 different checks") {
			t.Errorf("%q is wrong", wrong)
		}
		if askedBy(s, "a.third") != ownCheck || s.ruleOf("s255.other.svc.cluster.local.") != kept || s.ruleOf("b.third.svc.cluster.local.") != s.ruleOf("s000.shop.svc.cluster.local.") {
			t.Error("the new one has pushed out another, or is shared with none")
		}
		if got := sizeOf(p).checks; got != maxAnnotated+1 {
			t.Errorf("%d checks", got)
		}
		for _, text := range []string{"tcp://:2", "tcp://:2/?", "tcp://:3"} {
			if wrong := c.say(append(words, "b.third", text)...); len(wrong) != 1 || askedBy(s, "b.third") != "tcp://:1000" {
				t.Errorf("after an edit to %s for which there is no room it is asked by %s, and %q is wrong", text, askedBy(s, "b.third"), wrong)
			}
		}
		if wrong := c.say(append(words[2:], "b.third", "tcp://:3", "a.third", "tcp://:1")...); len(wrong) != 1 || askedBy(s, "b.third") != "tcp://:3" || askedBy(s, "a.third") != ownCheck {
			t.Errorf("with room for one, the first is not the edit: %q", wrong)
		}
		if wrong := c.say(append(words[4:], "b.third", "tcp://:3", "a.third", "tcp://:1")...); len(wrong) > 0 {
			t.Errorf("%q is wrong though there is room", wrong)
		}
	})
}

// Edits at once, of which one leaves what the other waits for, are all heeded, in whichever order they come.
func TestAnnotationsMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		words := append(manyAnnotations(), "a.third", "tcp://:1000")
		c.say(words...)
		words[1], words[len(words)-1] = "tcp://:1001", "tcp://:1"
		if wrong := c.say(words...); len(wrong) > 0 || askedBy(s, "a.third") != "tcp://:1" || askedBy(s, "s000.shop") != "tcp://:1001" {
			t.Errorf("%q is wrong, and asked are %s and %s", wrong, askedBy(s, "a.third"), askedBy(s, "s000.shop"))
		}
	})
}

// The Services of one namespace have no more than half of the checks, and others have the rest.
func TestAnnotationsOfANamespaceAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, _ := followed(t, p, q, c)
		var words []string
		for i := range maxAnnotated {
			words = append(words, fmt.Sprintf("a%03d.greedy", i), fmt.Sprintf("tcp://:%d", 1000+i))
		}
		words = append(words, "b.greedy", "tcp://:1000", "z.other", "tcp://:1", "y.other", "tcp://:1000")
		wrong := c.say(words...)
		if len(wrong) != maxAnnotated-maxOfNamespace || !strings.Contains(wrong["a255.greedy"], "128 different checks in annotations of this namespace") {
			t.Errorf("%d are wrong: %q", len(wrong), wrong["a255.greedy"])
		}
		for service, want := range map[string]string{"a000.greedy": "tcp://:1000", "a128.greedy": ownCheck, "b.greedy": "tcp://:1000", "z.other": "tcp://:1", "y.other": "tcp://:1000"} {
			if got := askedBy(s, service); got != want {
				t.Errorf("%s is asked by %s, want %s", service, got, want)
			}
		}
	})
}

// A reload, of which nobody knows yet what is in its tables, goes on with what is in force: nothing that was refused takes its
// place, and what an edit could not change stays (B81).
func TestAnnotationsAreBoundedOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		_, _, g := followed(t, p, q, c)
		words := append(manyAnnotations(), "b.third", "tcp://:1000")
		c.say(words...)
		words = append(words, "a.shop", "tcp://:1")
		words[len(words)-3] = "tcp://:2"
		c.say(words...)
		for i := range 2 {
			fresh, b, next := heeding(t, p, q, newEdited(), pooltest.Pace)
			starts(t, p, next, b, fresh)
			p.confirm(next)
			g.learners[0].close()
			p.leave(g)
			g.awaitUnnoticed()
			g = next
			for service, want := range map[string]string{"a.shop": ownCheck, "b.third": "tcp://:1000", "s000.shop": "tcp://:1000", "s254.shop": "tcp://:1254", "s255.other": "tcp://:1255"} {
				if got := askedBy(fresh, service); got != want {
					t.Errorf("after reload %d %s is asked by %s, want %s", i, service, got, want)
				}
			}
			if got := testutil.ToFloat64(annotationsBad); got != 2 {
				t.Errorf("after reload %d %v are bad, want 2", i, got)
			}
		}
	})
}

// A query is answered by an edited annotation as soon as that is in force, also if another Service keeps the first one,
// and with it the targets.
func TestAnnotationAppliesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, b, _ := followed(t, p, q, c)
		s.rule.Policy.MinUp.Count = 1
		next := zoneOf(test.A(cartName+" 30 IN A 10.0.0.1"), test.A(cartName+" 30 IN A 10.0.0.2"))
		h := Multivalue{Next: next, block: b}
		b.learner.next.Store(&next)
		answer := func() string {
			for range 40 {
				serve(t, h, query(cartName, dns.TypeA))
				pooltest.Elapse(time.Second)
			}
			m, _ := serve(t, h, query(cartName, dns.TypeA))
			return addressesOf(m)
		}
		const till = "till.shop.svc.cluster.local."
		c.say("till.shop", "http://:1/")
		during(time.Minute, s, q, till, pooltest.Addr(1))
		during(time.Minute, s, q, till, pooltest.Addr(2))
		c.say("cart.shop", "http://:1/", "till.shop", "http://:1/")
		q.of("http://:1/").Kill(pooltest.Addr(1))
		if got := answer(); got != "10.0.0.2" {
			t.Errorf("by the first annotation the answer is %s", got)
		}
		q.of("http://:2/").Kill(pooltest.Addr(2))
		for range 3 {
			c.say("cart.shop", "http://:2/", "till.shop", "http://:1/")
			if got := answer(); got != "10.0.0.1" {
				t.Errorf("by the second annotation the answer is %s", got)
			}
			c.say("cart.shop", "http://:1/", "till.shop", "http://:1/")
			if got := answer(); got != "10.0.0.2" {
				t.Errorf("by the first annotation again the answer is %s", got)
			}
		}
		q.of(ownCheck).Kill(pooltest.Addr(2))
		c.say()
		if got := answer(); got != "10.0.0.1" {
			t.Errorf("by the stanza's own check the answer is %s", got)
		}
	})
}

// A reload keeps what the annotations say and what is believed, also at another pace, before it has heard of the cluster
// again; and one that fails leaves nothing, and follows nothing (B69, B70).
func TestAnnotationsOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _, g := followed(t, p, q, c)
		c.say("cart.shop", "http://:1/")
		q.of("http://:1/").Kill(pooltest.Addr(1))
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		pace := pooltest.Pace
		for i := range 4 {
			pace.Interval += time.Duration(i%2) * time.Second
			failed, fb, fg := heeding(t, p, q, newEdited(), pace)
			starts(t, p, fg, fb, failed)
			p.abandon()
			fb.learner.close()

			silent := newEdited() // whose API says nothing any more
			fresh, b, next := heeding(t, p, q, silent, pace)
			starts(t, p, next, b, fresh)
			if got := look(fresh, cartName, pooltest.Addr(1)); got != verdict.Down {
				t.Fatalf("reload %d, before it is over: %s", i, got)
			}
			p.confirm(next)
			pooltest.Elapse(0)
			if good := testutil.ToFloat64(annotationsGood); good != 1 {
				t.Errorf("reload %d, with both: %v good annotations", i, good)
			}
			g.learners[0].close()
			p.leave(g)
			g.awaitUnnoticed()
			if got := during(time.Minute, fresh, q, cartName, pooltest.Addr(1)); got != "http://:1/" {
				t.Fatalf("after reload %d asked by %s", i, got)
			}
			if got := look(fresh, cartName, pooltest.Addr(1)); got != verdict.Down {
				t.Fatalf("after reload %d: %s", i, got)
			}
			if c.begun != 1 || c.over != 1 || silent.begun != 1 || silent.over != 0 {
				t.Errorf("after reload %d the old cluster was followed %d times, %d ended; the new one %d and %d", i, c.begun, c.over, silent.begun, silent.over)
			}
			c, g = silent, next
		}
		if got := sizeOf(p); got.watches != 1 || got.checks != 2 {
			t.Errorf("%+v, want one watch and two checks", got)
		}
	})
}

// A panic in what follows a cluster leaves what is in force, and it is tried again (T39).
func TestAnnotationsSurvive(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		c.panics = true
		before := testutil.ToFloat64(metrics.Panics)
		s, _, _ := followed(t, p, q, c)
		pooltest.Elapse(noticePause / 2)
		if got := during(time.Minute, s, q, cartName, pooltest.Addr(1)); got != ownCheck {
			t.Errorf("asked by %s", got)
		}
		if got := testutil.ToFloat64(metrics.Panics) - before; got < 5 || got > 14 || c.begun < 5 {
			t.Errorf("%v panics in a minute, after %d starts", got, c.begun)
		}
	})
}

// A set is judged by an annotation without an allocation.
func TestAnnotatedRuleAllocatesNothing(t *testing.T) {
	p := newPool()
	s, b, g := heeding(t, p, questioned{}, newEdited(), pooltest.Pace)
	starts(t, p, g, b, s)
	g.notices[*s.cluster].take(map[string]string{"cart.shop": "http://:1/"})
	name := "_http._tcp." + cartName
	if s.ruleOf(name) == &s.rule {
		t.Fatal("the annotation does not count")
	}
	if allocs := testing.AllocsPerRun(1000, func() { s.ruleOf(name); s.ruleOf("www.example.org.") }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// What a stanza must have to heed annotations, and how it is told.
func TestAnnotationsRefused(t *testing.T) {
	stanza := func(more string) error {
		_, err := parseCorefile("cluster.local {\n multivalue {\n check tcp://:80\n " + more + "\n }\n}")
		return err
	}
	wants := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	wants(stanza("annotations\n within 10.0.0.0/8"), "Corefile:4 - Error during parsing: annotations: this CoreDNS was built without")
	thePool.kubernetes = clusters{}
	defer func() { thePool.kubernetes = nil }()
	if err := stanza("annotations /etc/kubeconfig it\n within 10.0.0.0/8"); err != nil {
		t.Error(err)
	}
	wants(stanza("annotations"), "Corefile:4 - Error during parsing: annotations needs within")
	wants(stanza("annotations \"\"\n within 10.0.0.0/8"), "Corefile:4 - Error during parsing: annotations names no file")
	wants(stanza("annotations a b c\n within 10.0.0.0/8"), "annotations [KUBECONFIG [CONTEXT]]")

	p := newPool()
	p.kubernetes = clusters{}
	stanzas, err := parseCorefile("cluster.local {\n multivalue {\n check tcp://:80\n annotations missing\n within 10.0.0.0/8\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	wants(new(generation).heed(stanzas[0], p), "Corefile:4 - Error during parsing: annotations: no such file")
	stanzas[0].annotated = newAnnotated(stanzas[0])
	wants(newBlock(stanzas).attach(stanzas, []plugin.Handler{named("file")}, p), "want the plugin kubernetes")
}

// attached has a stanza heed annotations, beside others for more zones and a plugin kubernetes.
func attached(t *testing.T, annotations, zone string, more []string, kubernetes plugin.Handler) error {
	t.Helper()
	p := newPool()
	p.kubernetes = clusters{"": newEdited(), "it": newEdited()}
	thePool.kubernetes = p.kubernetes
	defer func() { thePool.kubernetes = nil }()
	const rest = " {\n check tcp://:80\n within 10.0.0.0/8\n"
	text := ". {\n multivalue " + zone + rest + " " + annotations + "\n }\n"
	for _, other := range more {
		text += " multivalue " + other + rest + " }\n"
	}
	stanzas, err := parseCorefile(text + "}")
	if err != nil {
		t.Fatal(err)
	}
	g := new(generation)
	g.add(stanzas[0], p)
	if err := g.heed(stanzas[0], p); err != nil {
		t.Fatal(err)
	}
	return newBlock(stanzas).attach(stanzas, []plugin.Handler{kubernetes}, p)
}

// A stanza heeds annotations only if names of Services can fall to it.
func TestAnnotationsReach(t *testing.T) {
	for zones, want := range map[string]bool{
		".": true, "local": true, "CLUSTER.local": true, "svc.cluster.local": true, "shop.svc.cluster.local": true,
		"_http._tcp.cart.shop.svc.cluster.local": true,
		"example.org":                            false, "pod.cluster.local": false, "shop.pod.cluster.local": false, "xsvc.cluster.local": false,
		"10.in-addr.arpa": false, "svc.10.in-addr.arpa": false,
		"cluster.local svc.cluster.local": false, "cluster.local pod.cluster.local": true, ". cluster.local": false,
		"cluster.local shop.svc.cluster.local": true,
	} {
		all := strings.Fields(zones)
		err := attached(t, "annotations it", all[0], all[1:], named("kubernetes"))
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: annotations is about names of Services, and none falls to this stanza: want a zone above or below svc.cluster.local.") {
			t.Errorf("annotations for the first of %s: %v", zones, err)
		}
	}
}

// Annotations of the Pod's own cluster are not heeded for the names of another.
func TestAnnotationsElsewhere(t *testing.T) {
	for _, c := range []struct {
		annotations string
		kubernetes  plugin.Handler
		want        bool
	}{
		{"annotations", named("kubernetes"), true},
		{"annotations it", named("kubernetes"), true},
		{"annotations it", elsewhere, true},
		{"annotations", elsewhere, false},
	} {
		err := attached(t, c.annotations, "cluster.local", nil, c.kubernetes)
		if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: annotations is about the cluster that CoreDNS runs in") {
			t.Errorf("%s, with kubernetes elsewhere %t: %v", c.annotations, c.kubernetes == elsewhere, err)
		}
	}
}
