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
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/core/dnsserver"
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

// say replaces the annotations: words are Services and their texts in turn. It returns what is wrong.
func (c *edited) say(words ...string) map[string]string {
	texts := make(map[string]string)
	for i := 0; i < len(words); i += 2 {
		texts[words[i]] = words[i+1]
	}
	c.texts <- texts
	return <-c.wrong
}

// clusters holds the clusters of these tests, by their kubeconfig.
type clusters map[string]annotation.Cluster

func (clusters) Zones(h plugin.Handler) (zones []string, named bool) {
	if h.Name() == "kubernetes" {
		return []string{"Cluster.local", "10.in-addr.arpa."}, h == elsewhere
	}
	return nil, false
}

// elsewhere is the plugin kubernetes with its own kubeconfig.
var elsewhere plugin.Handler = &struct{ handlerNamed }{"kubernetes"}

func (c clusters) Cluster(kubeconfig, _ string) (annotation.Cluster, error) {
	if found := c[kubeconfig]; found != nil {
		return found, nil
	}
	return nil, errors.New("no such file")
}

// Sites implements topology.Kubernetes. Annotations do not need it.
func (c clusters) Sites(string, string) (topology.Cluster, error) {
	return nil, errors.New("no such file")
}

// questioned records which check probed an address. Each annotation text has its own network.
type questioned map[string]*pooltest.FakeNetwork

func (q questioned) of(text string) *pooltest.FakeNetwork {
	if q[text] == nil {
		q[text] = pooltest.NewNetwork()
	}
	return q[text]
}

// asked lists how often each check has probed an address. Checks that have not are left out.
func (q questioned) asked(a netip.Addr) map[string]int {
	all := make(map[string]int)
	for text, n := range q {
		if times := n.Asked(a); times > 0 {
			all[text] = times
		}
	}
	return all
}

// spec prepares a check for the pool, so that its network answers.
func (q questioned) spec(c *check.Check) pool.CheckSpec {
	return pool.NewCheckSpec(c).WithProber(q.of(c.String()))
}

// server is a server block with the plugin kubernetes, and the generation of that block.
type server struct {
	*generation
	configs []*corefile.Config
	stanzas []*rules.Stanza
	block   *rules.Block
}

// configOf returns a stanza for a zone that uses annotations. Its own check is tcp://:80.
func configOf(zone string, pace verdict.Pace) *corefile.Config {
	c := testStanza(ownCheck, nil, pace).config
	c.Within = network.List{network.New(netip.MustParsePrefix("0.0.0.0/0"))} // beside kubernetes it is required
	c.Zones, c.Annotations = []string{zone}, &corefile.Cluster{Kubeconfig: "it"}
	return c
}

// addServer adds a server block to a generation that has not joined yet.
func addServer(t testing.TB, g *generation, keys []string, configs ...*corefile.Config) *server {
	t.Helper()
	stanzas, err := g.addStanzas("", configs)
	if err != nil {
		t.Fatal(err)
	}
	return &server{g, configs, stanzas, g.newBlock(keys, len(g.blocks), configs, stanzas)}
}

// annotatedBy returns a generation of one server block that uses the annotations of c. The generation has not joined
// yet.
func annotatedBy(t testing.TB, p *process, q questioned, c annotation.Cluster, pace verdict.Pace) *server {
	t.Helper()
	p.kubernetes, p.newSpec = clusters{"it": c}, q.spec
	g := p.newGeneration()
	begun[p] = append(begun[p], g)
	return addServer(t, g, nil, configOf("cluster.local.", pace))
}

// connect makes the server blocks of a generation join, as a start of the server does.
func connect(t testing.TB, servers ...*server) {
	t.Helper()
	g := servers[0].generation
	if err := g.process.join(g); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		chain := chain{s.configs, []plugin.Handler{handlerNamed("file"), handlerNamed("kubernetes")}, dnsserver.Directives}
		if err := g.connect(s.block, s.stanzas, chain); err != nil {
			t.Fatal(err)
		}
	}
}

// following returns a running server that uses the annotations of c.
func following(t *testing.T, p *process, q questioned, c annotation.Cluster) (*rules.Stanza, *server) {
	t.Helper()
	s := annotatedBy(t, p, q, c, pooltest.Pace)
	connect(t, s)
	p.confirm(s.generation)
	return s.stanzas[0], s
}

// contentsOf returns how many targets and checks the pool has.
func contentsOf(p *process) (targets, checks int) {
	err := p.pool.Do(context.Background(), func(v pool.View) {
		var all status.Snapshot
		v.Totals(&all)
		targets, checks = v.Targets(), len(all.Checks)
	})
	if err != nil {
		panic(err)
	}
	return targets, checks
}

// These are the gauges of annotated Services.
var (
	annotationsGood = metrics.Annotations.WithLabelValues("good")
	annotationsBad  = metrics.Annotations.WithLabelValues("bad")
)

// look looks up an address of a set with that name, as a query does.
func look(s *rules.Stanza, name string, a netip.Addr) verdict.State {
	h := s.RuleFor(name).Health
	return h.Look(h.Open(name, dns.TypeA), a, 0, 30).State()
}

// during lets time pass while queries look up an address of a name, and returns the checks that probed it in that
// time.
func during(d time.Duration, s *rules.Stanza, q questioned, name string, a netip.Addr) string {
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

// An annotation sets the check for the addresses of its Service and for names below it. An edit switches to the other
// check, and removing it returns to the stanza's own check, at once and without a reload. Other addresses are probed
// as before (B81).
func TestAnnotationIsFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		want := func(when, name string, a int, want string) {
			t.Helper()
			if got := during(time.Minute, s, q, name, pooltest.Addr(a)); got != want {
				t.Errorf("%s, %s is probed by %s, want %s", when, name, got, want)
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
			t.Errorf("an address that passes the new check is %s", got)
		}
		c.say()
		want("after its end", cartName, 1, ownCheck)
		if _, checks := contentsOf(p); checks != 1 {
			t.Errorf("%d checks are left, want 1", checks)
		}
	})
}

// A target whose annotation no longer names its check is not probed from the moment of the change, even if others use
// the old check.
func TestAnnotationEndsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		c.say("cart.shop", "http://:1/", "till.shop", "http://:1/")
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		during(time.Minute, s, q, "till.shop.svc.cluster.local.", pooltest.Addr(2))
		underWay := s.RuleFor(cartName) // like a query that is under way
		c.say("cart.shop", "http://:2/", "till.shop", "http://:1/")
		underWay.Health.Look(underWay.Health.Open(cartName, dns.TypeA), pooltest.Addr(1), 0, 30)
		before, kept := q.of("http://:1/").Asked(pooltest.Addr(1)), q.of("http://:1/").Asked(pooltest.Addr(2))
		pooltest.Elapse(time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got != before || before == 0 {
			t.Errorf("probed %d times before the edit, and %d times since", before, got-before)
		}
		if got := q.of("http://:1/").Asked(pooltest.Addr(2)); got == kept {
			t.Error("the other Service's address is no longer probed")
		}
		if got, checks := contentsOf(p); got != 1 || checks != 3 {
			t.Errorf("%d targets and %d checks, want 1 and 3", got, checks)
		}
	})
}

// It ends at once even if a stanza for other names has the same check, which could probe the address but does not.
func TestAnnotationEndsBesideAnotherStanza(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		first := annotatedBy(t, p, q, c, pooltest.Pace)
		s, g := first.stanzas[0], first.generation
		other := forZone(testStanza("http://:1/", q.of("http://:1/"), pooltest.Pace), "example.org.")
		p.pool.AddGroup(&g.pool, other.Group)
		connect(t, first)
		p.confirm(g)
		c.say("cart.shop", "http://:1/")
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		c.say("cart.shop", "http://:2/")
		before := q.of("http://:1/").Asked(pooltest.Addr(1))
		pooltest.Elapse(10 * time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got != before || before == 0 {
			t.Errorf("probed %d times before the edit, and %d times since", before, got-before)
		}
		other.Look("www.example.org.", pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Minute)
		if got := q.of("http://:1/").Asked(pooltest.Addr(1)); got == before {
			t.Error("a query in the other stanza does not add the target")
		}
	})
}

// Services with the same text share targets with each other, and with the Corefile if it has the same check. All
// checks that only annotations name share one series.
func TestAnnotationsShare(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		c.say("a.shop", "http://:1/", "b.shop", " HTTP://:1/ ", "c.shop", "http://:2/", "d.shop", "tcp://:80")
		for _, service := range []string{"a", "b", "d", "e"} {
			during(time.Minute, s, q, service+".shop.svc.cluster.local.", pooltest.Addr(1))
		}
		if got, checks := contentsOf(p); got != 2 || checks != 3 {
			t.Errorf("%d targets and %d checks, want 2 and 3", got, checks)
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
			t.Error("the Corefile's series was removed with the annotation that names the same check")
		}
	})
}

// A check that only an annotation named, and that is then added to the Corefile, has the Corefile's series from then
// on.
func TestAnnotationMovesIntoTheCorefile(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, server := following(t, p, q, c)
		g := server.generation
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

// A wrong annotation is reported and changes nothing: the check that was in force stays, or the stanza's own check
// (B81).
func TestAnnotationIsWrong(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, server := following(t, p, q, c)
		g := server.generation
		counts := func(when string, good, bad float64) {
			t.Helper()
			if testutil.ToFloat64(annotationsGood) != good || testutil.ToFloat64(annotationsBad) != bad {
				t.Errorf("%s: %v valid and %v invalid, want %v and %v", when, testutil.ToFloat64(annotationsGood), testutil.ToFloat64(annotationsBad), good, bad)
			}
		}
		wrong := c.say("cart.shop", "http://evil.example/")
		if len(wrong) != 1 || !strings.Contains(wrong["cart.shop"], "host") {
			t.Errorf("%q is wrong", wrong)
		}
		counts("one that is wrong", 0, 1)
		if got := during(time.Minute, s, q, cartName, pooltest.Addr(1)); got != ownCheck {
			t.Errorf("probed by %s", got)
		}
		c.say("cart.shop", "http://:1/")
		counts("mended", 1, 0)
		before := s.RuleFor(cartName)
		if wrong := c.say("cart.shop", "http://:1/?query", "till.shop", "tcp://:1"); len(wrong) != 1 || s.RuleFor(cartName) != before {
			t.Errorf("%q is wrong, and the rule changed: %t", wrong, s.RuleFor(cartName) != before)
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

// These are the numbers of different checks that annotations may name for a stanza, in total and in one namespace, as
// the manual says.
const (
	maxAnnotated   = 256
	maxOfNamespace = 128
)

// manyAnnotations returns as many Services with different checks as the limit allows, s000.shop and s001.other in
// turn.
func manyAnnotations() (words []string) {
	for i := range maxAnnotated {
		words = append(words, fmt.Sprintf("s%03d.%s", i, []string{"shop", "other"}[i%2]), fmt.Sprintf("tcp://:%d", 1000+i))
	}
	return words
}

// askedBy returns the check that is in force for a Service.
func askedBy(s *rules.Stanza, service string) string {
	return s.For(service + ".svc.cluster.local.")[0].Name
}

// A stanza accepts a limited number of different checks. A new check does not replace one that is in force, and an
// edit that would exceed the limit changes nothing (B81).
func TestAnnotationsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		words := manyAnnotations()
		if wrong := c.say(words...); len(wrong) > 0 {
			t.Error(wrong)
		}
		kept := s.RuleFor("s255.other.svc.cluster.local.")
		wrong := c.say(append(words, "a.third", "tcp://:1", "b.third", "tcp://:1000")...)
		if len(wrong) != 1 || !strings.Contains(wrong["a.third"], "256 different checks") {
			t.Errorf("%q is wrong", wrong)
		}
		if askedBy(s, "a.third") != ownCheck || s.RuleFor("s255.other.svc.cluster.local.") != kept || s.RuleFor("b.third.svc.cluster.local.") != s.RuleFor("s000.shop.svc.cluster.local.") {
			t.Error("the new check has replaced another one, or is shared with no other Service")
		}
		if _, checks := contentsOf(p); checks != maxAnnotated+1 {
			t.Errorf("%d checks", checks)
		}
		for _, text := range []string{"tcp://:2", "tcp://:2/?", "tcp://:3"} {
			if wrong := c.say(append(words, "b.third", text)...); len(wrong) != 1 || askedBy(s, "b.third") != "tcp://:1000" {
				t.Errorf("after an edit to %s beyond the limit it is probed by %s, and %q is wrong", text, askedBy(s, "b.third"), wrong)
			}
		}
		if wrong := c.say(append(words[2:], "b.third", "tcp://:3", "a.third", "tcp://:1")...); len(wrong) != 1 || askedBy(s, "b.third") != "tcp://:3" || askedBy(s, "a.third") != ownCheck {
			t.Errorf("with one check left, the edit did not get it: %q", wrong)
		}
		if wrong := c.say(append(words[4:], "b.third", "tcp://:3", "a.third", "tcp://:1")...); len(wrong) > 0 {
			t.Errorf("%q is wrong, although the limit is not reached", wrong)
		}
	})
}

// If one of several edits at the same time frees the check that another one needs, all of them come into force, in
// any order.
func TestAnnotationsMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		words := append(manyAnnotations(), "a.third", "tcp://:1000")
		c.say(words...)
		words[1], words[len(words)-1] = "tcp://:1001", "tcp://:1"
		if wrong := c.say(words...); len(wrong) > 0 || askedBy(s, "a.third") != "tcp://:1" || askedBy(s, "s000.shop") != "tcp://:1001" {
			t.Errorf("%q is wrong, and the checks in force are %s and %s", wrong, askedBy(s, "a.third"), askedBy(s, "s000.shop"))
		}
	})
}

// The Services of one namespace have at most half of the checks, and other namespaces have the rest.
func TestAnnotationsOfANamespaceAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, _ := following(t, p, q, c)
		var words []string
		for i := range maxAnnotated {
			words = append(words, fmt.Sprintf("a%03d.greedy", i), fmt.Sprintf("tcp://:%d", 1000+i))
		}
		words = append(words, "b.greedy", "tcp://:1000", "z.other", "tcp://:1", "y.other", "tcp://:1000")
		wrong := c.say(words...)
		if len(wrong) != maxAnnotated-maxOfNamespace || !strings.Contains(wrong["a255.greedy"], "annotations in this namespace already name 128 different checks") {
			t.Errorf("%d are wrong: %q", len(wrong), wrong["a255.greedy"])
		}
		for service, want := range map[string]string{"a000.greedy": "tcp://:1000", "a128.greedy": ownCheck, "b.greedy": "tcp://:1000", "z.other": "tcp://:1", "y.other": "tcp://:1000"} {
			if got := askedBy(s, service); got != want {
				t.Errorf("%s is probed by %s, want %s", service, got, want)
			}
		}
	})
}

// A reload keeps what is in force, although its own tables are still empty: no refused annotation takes its place,
// and a check that an edit could not change stays (B81).
func TestAnnotationsAreBoundedOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		_, running := following(t, p, q, c)
		words := append(manyAnnotations(), "b.third", "tcp://:1000")
		c.say(words...)
		words = append(words, "a.shop", "tcp://:1")
		words[len(words)-3] = "tcp://:2"
		c.say(words...)
		for i := range 2 {
			next := annotatedBy(t, p, q, newEdited(), pooltest.Pace)
			connect(t, next)
			p.confirm(next.generation)
			p.end(running.generation)
			fresh := next.stanzas[0]
			running = next
			for service, want := range map[string]string{"a.shop": ownCheck, "b.third": "tcp://:1000", "s000.shop": "tcp://:1000", "s254.shop": "tcp://:1254", "s255.other": "tcp://:1255"} {
				if got := askedBy(fresh, service); got != want {
					t.Errorf("after reload %d %s is probed by %s, want %s", i, service, got, want)
				}
			}
			if got := testutil.ToFloat64(annotationsBad); got != 2 {
				t.Errorf("after reload %d %v are invalid, want 2", i, got)
			}
		}
	})
}

// The same is true for each server block that uses the annotations of one cluster, whichever starts first.
func TestAnnotationsOfTwoBlocksOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		start := func(c annotation.Cluster) (servers [2]*server) {
			p.kubernetes, p.newSpec = clusters{"it": c}, q.spec
			g := p.newGeneration()
			begun[p] = append(begun[p], g)
			for i, zone := range []string{"greedy.svc.cluster.local.", "shop.svc.cluster.local."} {
				servers[i] = addServer(t, g, []string{zone}, configOf(zone, pooltest.Pace))
			}
			connect(t, servers[:]...)
			p.confirm(g)
			return servers
		}
		running := start(c)
		var words []string
		for _, namespace := range []string{"greedy", "shop"} {
			for i := range maxOfNamespace {
				words = append(words, fmt.Sprintf("s%03d.%s", i, namespace), fmt.Sprintf("tcp://:%d", 1000+i))
			}
			words = append(words, "z."+namespace, "tcp://:1000")
		}
		c.say(words...)
		words[2*maxOfNamespace+1], words[len(words)-1] = "tcp://:1", "tcp://:1" // beyond the limit
		if wrong := c.say(words...); len(wrong) != 2 {
			t.Errorf("%q is wrong", wrong)
		}
		for i := range 2 {
			next := start(newEdited())
			p.end(running[0].generation)
			running = next
			for k, namespace := range []string{"greedy", "shop"} {
				for service, want := range map[string]string{"z": "tcp://:1000", "s000": "tcp://:1000", "s127": "tcp://:1127"} {
					if got := askedBy(running[k].stanzas[0], service+"."+namespace); got != want {
						t.Errorf("after reload %d %s.%s is probed by %s, want %s", i, service, namespace, got, want)
					}
				}
			}
			if got := testutil.ToFloat64(annotationsBad); got != 2 {
				t.Errorf("after reload %d %v are invalid, want 2", i, got)
			}
		}
	})
}

// An edited annotation applies to the next query, even if another Service keeps the old text, and with it the
// targets.
func TestAnnotationAppliesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, server := following(t, p, q, c)
		s.Rule.Policy.MinUp = answer.Quorum{Count: 1}
		next := zoneOf(test.A(cartName+" 30 IN A 10.0.0.1"), test.A(cartName+" 30 IN A 10.0.0.2"))
		h := Multivalue{Next: next, block: server.block, process: p}
		server.block.Resolver.SetNext(next)
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
			t.Errorf("with the first annotation, the answer is %s", got)
		}
		q.of("http://:2/").Kill(pooltest.Addr(2))
		for range 3 {
			c.say("cart.shop", "http://:2/", "till.shop", "http://:1/")
			if got := answer(); got != "10.0.0.1" {
				t.Errorf("with the second annotation, the answer is %s", got)
			}
			c.say("cart.shop", "http://:1/", "till.shop", "http://:1/")
			if got := answer(); got != "10.0.0.2" {
				t.Errorf("with the first annotation again, the answer is %s", got)
			}
		}
		q.of(ownCheck).Kill(pooltest.Addr(2))
		c.say()
		if got := answer(); got != "10.0.0.1" {
			t.Errorf("with the stanza's own check, the answer is %s", got)
		}
	})
}

// A reload keeps the annotations and the verdicts, also at another pace, before it has received anything from the
// cluster. A reload that fails leaves nothing behind and follows nothing (B69, B70).
func TestAnnotationsOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		s, server := following(t, p, q, c)
		g := server.generation
		c.say("cart.shop", "http://:1/")
		q.of("http://:1/").Kill(pooltest.Addr(1))
		during(time.Minute, s, q, cartName, pooltest.Addr(1))
		pace := pooltest.Pace
		for i := range 4 {
			pace.Interval += time.Duration(i%2) * time.Second
			failed := annotatedBy(t, p, q, newEdited(), pace)
			connect(t, failed)
			p.abandon()
			failed.block.Resolver.Close()

			silent := newEdited() // an API that does not answer
			next := annotatedBy(t, p, q, silent, pace)
			fresh := next.stanzas[0]
			connect(t, next)
			if got := look(fresh, cartName, pooltest.Addr(1)); got != verdict.Down {
				t.Fatalf("reload %d, before it is over: %s", i, got)
			}
			p.confirm(next.generation)
			pooltest.Elapse(0)
			if good := testutil.ToFloat64(annotationsGood); good != 1 {
				t.Errorf("reload %d, with both: %v valid annotations", i, good)
			}
			p.end(g)
			if got := during(time.Minute, fresh, q, cartName, pooltest.Addr(1)); got != "http://:1/" {
				t.Fatalf("after reload %d probed by %s", i, got)
			}
			if got := look(fresh, cartName, pooltest.Addr(1)); got != verdict.Down {
				t.Fatalf("after reload %d: %s", i, got)
			}
			if c.begun != 1 || c.over != 1 || silent.begun != 1 || silent.over != 0 {
				t.Errorf("after reload %d the old cluster was followed %d times, %d ended; the new one %d and %d", i, c.begun, c.over, silent.begun, silent.over)
			}
			c, g = silent, next.generation
		}
		if got, checks := contentsOf(p); got != 1 || checks != 2 {
			t.Errorf("%d targets and %d checks, want 1 and 2", got, checks)
		}
	})
}

// A panic while a cluster is followed leaves the annotations in force, and following starts again (T39).
func TestAnnotationsSurvive(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		q, c := questioned{}, newEdited()
		c.panics = true
		before := testutil.ToFloat64(metrics.Panics)
		s, _ := following(t, p, q, c)
		pooltest.Elapse(2500 * time.Millisecond) // half of the wait after a panic
		if got := during(time.Minute, s, q, cartName, pooltest.Addr(1)); got != ownCheck {
			t.Errorf("probed by %s", got)
		}
		if got := testutil.ToFloat64(metrics.Panics) - before; got < 5 || got > 14 || c.begun < 5 {
			t.Errorf("%v panics in a minute, after %d starts", got, c.begun)
		}
	})
}

// The test shows what a stanza needs to use annotations, and how a mistake is reported.
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
	wants(stanza("annotations"), "Corefile:4 - Error during parsing: annotations needs within")
	wants(stanza("annotations \"\"\n within 10.0.0.0/8"), "Corefile:4 - Error during parsing: annotations without a file: name the path of a kubeconfig")
	wants(stanza("annotations a b c\n within 10.0.0.0/8"), "annotations [KUBECONFIG [CONTEXT]]")

	configs, err := parseCorefile("cluster.local {\n multivalue {\n check tcp://:80\n annotations missing it\n within 10.0.0.0/8\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess()
	wants(p.validate(configs), "Corefile:4 - Error during parsing: annotations is not part of this CoreDNS")
	p.kubernetes = clusters{}
	if err := p.validate(configs); err != nil {
		t.Error(err)
	}
	_, err = p.newGeneration().addStanzas("", configs)
	wants(err, "Corefile:4 - Error during parsing: annotations: no such file")
	p.kubernetes = clusters{"missing": newEdited()}
	wants(attach(p, configs, handlerNamed("file")), "add the plugin kubernetes")
}

// attach starts a server block with such a plugin, as far as annotations are concerned.
func attach(p *process, configs []*corefile.Config, below plugin.Handler) error {
	g := p.newGeneration()
	stanzas, err := g.addStanzas("", configs)
	if err != nil {
		return err
	}
	b := g.newBlock(nil, 0, configs, stanzas)
	return g.connect(b, stanzas, chain{configs, []plugin.Handler{below}, dnsserver.Directives})
}

// attached makes a stanza use annotations, beside stanzas for more zones and a plugin kubernetes.
func attached(t *testing.T, annotations, zone string, more []string, kubernetes plugin.Handler) error {
	t.Helper()
	p := newProcess()
	p.kubernetes = clusters{"": newEdited(), "it": newEdited()}
	const rest = " {\n check tcp://:80\n within 10.0.0.0/8\n"
	text := ". {\n multivalue " + zone + rest + " " + annotations + "\n }\n"
	for _, other := range more {
		text += " multivalue " + other + rest + " }\n"
	}
	configs, err := parseCorefile(text + "}")
	if err != nil {
		t.Fatal(err)
	}
	return attach(p, configs, kubernetes)
}

// A stanza uses annotations only if it can judge names of Services.
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
		err := attached(t, "annotations it", all[0], all[1:], handlerNamed("kubernetes"))
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: annotations is about names of Services, and none falls to this stanza: use a zone above or below svc.cluster.local.") {
			t.Errorf("annotations for the first of %s: %v", zones, err)
		}
	}
}

// Annotations of the Pod's own cluster do not apply to names of another cluster.
func TestAnnotationsElsewhere(t *testing.T) {
	for _, c := range []struct {
		annotations string
		kubernetes  plugin.Handler
		want        bool
	}{
		{"annotations", handlerNamed("kubernetes"), true},
		{"annotations it", handlerNamed("kubernetes"), true},
		{"annotations it", elsewhere, true},
		{"annotations", elsewhere, false},
	} {
		err := attached(t, c.annotations, "cluster.local", nil, c.kubernetes)
		if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: annotations is about the cluster that CoreDNS runs in") {
			t.Errorf("%s, with kubernetes elsewhere %t: %v", c.annotations, c.kubernetes == elsewhere, err)
		}
	}
}

// handlerNamed is a plugin that has nothing but a name.
type handlerNamed string

func (n handlerNamed) Name() string { return string(n) }
func (n handlerNamed) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeSuccess, nil
}
