package answer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// twoNames is a world in which www.example.org has some addresses, of which none is up, and another name has others.
func twoNames(rng *rand.Rand) (w *world, m *dns.Msg) {
	w = healthy(rng.IntN(10))
	w.health = make(map[netip.Addr]verdict.Verdict)
	m = addresses(1+rng.IntN(9), uint32(30+rng.IntN(300)))
	for i := range m.Answer {
		w.fell(fmt.Sprintf("10.0.0.%d", i), time.Duration(1+rng.IntN(1000))*time.Second)
	}
	w.rule.Policy.AllDown, w.rule.Policy.Another = Named, "another.example.org."
	w.another = []dns.RR{}
	for i := range rng.IntN(30) {
		rr := record2(i%26, uint32(10+rng.IntN(300))) // some come twice
		w.another = append(w.another, rr)
		addr, _ := Address(rr)
		w.health[addr] = verdict.Verdict{
			State: []verdict.State{verdict.Unknown, verdict.Unchecked, verdict.Up, verdict.Down, verdict.Down}[rng.IntN(5)],
			Since: now.Add(-time.Duration(rng.IntN(1000)) * time.Second), Holds: time.Duration(rng.IntN(200)) * time.Second,
		}
		if rng.IntN(3) == 0 {
			w.health[addr] = verdict.Verdict{State: verdict.Down, Since: now.Add(-time.Minute)}
		}
	}
	return w, m
}

// record2 is a record of the other name.
func record2(n int, ttl uint32) dns.RR {
	return &dns.A{Hdr: dns.RR_Header{Name: "another.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: []byte{203, 0, 113, byte(n)}}
}

// What takes over is what a query for the other name would be answered, by the rule of its own stanza without its all_down, and
// with the lower of both limits. If that has nothing that is fit, or nothing at all, the set is answered as with serve. No TTL is
// higher than that of either answer (B102).
func TestAnotherTakesOver(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for i := range 3000 {
		w, m := twoNames(rng)
		its := policyOf(uint8(rng.IntN(16)), uint8(rng.IntN(4)), uint16(rng.IntN(1<<10)))
		its.DryRun = false
		w.its = &Rule{Types: DefaultTypes, Policy: its}
		out, report := Thin(m, w, chance(uint64(i)))

		alone := *w
		alone.rule = *w.its
		alone.rule.Policy.AllDown = NoData
		if own := w.rule.Policy.Limit; own > 0 && (alone.rule.Policy.Limit == 0 || own < alone.rule.Policy.Limit) {
			alone.rule.Policy.Limit = own
		}
		asked := addresses(0, 0)
		asked.Answer = w.another
		want, itsReport := Thin(asked, &alone, chance(uint64(i)))
		closed := *w
		closed.rule.Policy.AllDown, closed.its = NoData, nil
		denied, _ := Thin(m, &closed, chance(uint64(i)))
		if denied == nil || len(denied.Answer) > 0 {
			t.Fatal("a set of the test has something fit")
		}
		if len(w.another) == 0 || itsReport.Outcome == Closed {
			closed.rule.Policy.AllDown = Serve
			if len(m.Answer) == 1 {
				continue // it is not even looked up then
			}
			want, _ = Thin(m, &closed, chance(uint64(i)))
			if fmt.Sprint(out.Answer) != fmt.Sprint(want.Answer) || report.Outcome != Open || report.Instead.TookOver() || report.Instead.Why() == "" {
				t.Fatalf("nothing can take over: %+v\n%v\nas serve it is\n%v", report, out.Answer, want.Answer)
			}
			continue
		}
		if report.Outcome != Closed || !report.Instead.TookOver() || report.Kept != 0 {
			t.Fatalf("%+v, and the other name has %+v", report, itsReport)
		}
		assertTakenOver(t, out, m, want)
	}
}

// assertTakenOver compares an answer with those to queries for both names: want is that of the other one, by the same chance.
func assertTakenOver(t *testing.T, out, m, want *dns.Msg) {
	t.Helper()
	if got, expected := octets(out), octets(want); !slices.Equal(got, expected) {
		t.Fatalf("%v, and the other name gets %v", got, expected)
	}
	highest := uint32(1 << 31)
	for _, rr := range slices.Concat(m.Answer, want.Answer) {
		highest = min(highest, rr.Header().Ttl)
	}
	for _, rr := range out.Answer {
		if rr.Header().Name != "www.example.org." || rr.Header().Ttl > highest {
			t.Fatalf("%s, with a TTL of at most %d", rr, highest)
		}
	}
}

// octets are the last octets of IPv4 addresses, in order.
func octets(m *dns.Msg) (all []int) {
	for _, rr := range m.Answer {
		addr, _ := Address(rr)
		raw := addr.As4()
		all = append(all, int(raw[3]))
	}
	return all
}

// Over many answers each address of another name that takes over is served about as often, also if no stanza judges it: the limit
// of the set applies, and each answer draws (B4, B102).
func TestAnotherIsDrawn(t *testing.T) {
	const n, limit = 20, 8
	w, m := healthy(limit), addresses(2, 30)
	w.fell("10.0.0.0", time.Minute)
	w.fell("10.0.0.1", time.Minute)
	w.rule.Policy.AllDown, w.rule.Policy.Another = Named, "another.example.org."
	for i := range n {
		w.another = append(w.another, record2(i, 30))
	}
	d, counts := chance(17), make([]float64, n)
	for range draws {
		out, _ := Thin(m, w, d)
		got := octets(out)
		if len(got) != limit {
			t.Fatalf("%v", got)
		}
		counts[got[0]]++
	}
	likely(t, "first place", counts, equal(n))
}

// What is said of a name that cannot help, and of one whose addresses are served unchecked (B94, B102).
func TestAnotherIsReported(t *testing.T) {
	special := map[netip.Addr]verdict.Verdict{netip.MustParseAddr("203.0.113.1"): {State: verdict.Unchecked}}
	judged := &Rule{Types: DefaultTypes, Policy: Policy{MinUp: Quorum{Count: 1}}}
	dry := &Rule{Types: DefaultTypes, Policy: Policy{MinUp: Quorum{Count: 1}, DryRun: true}}
	for name, tc := range map[string]struct {
		name    string
		another []dns.RR
		its     *Rule
		why     string
		gap     bool
	}{
		"not known":         {name: "another.example.org.", why: "is not known"},
		"gone":              {name: "another.example.org.", another: []dns.RR{}, why: "has no address"},
		"itself, not known": {name: "www.example.org."},
		"unchecked":         {name: "another.example.org.", another: []dns.RR{record2(1, 60)}, its: judged, gap: true},
		"dry run":           {name: "another.example.org.", another: []dns.RR{record2(1, 60)}, its: dry},
		"not judged":        {name: "another.example.org.", another: []dns.RR{record2(1, 60)}},
	} {
		w := healthy(8)
		w.health = special
		w.fell("10.0.0.0", time.Minute)
		w.rule.Policy.AllDown, w.rule.Policy.Another, w.another, w.its = Named, tc.name, tc.another, tc.its
		_, report := Thin(addresses(1, 30), w, chance(1))
		if got := report.Instead; got.Name != tc.name || got.Why() != tc.why || got.TookOver() != (len(tc.another) > 0) {
			t.Errorf("%s: %+v", name, got)
		}
		if report.Unchecked != ([verdict.Gaps]bool{verdict.Outside: tc.gap}) {
			t.Errorf("%s: unchecked %v", name, report.Unchecked)
		}
		delete(special, netip.MustParseAddr("10.0.0.0"))
	}
}

// Without a stanza for the other name, select client and weight of the set apply to its addresses (B5, B21, B102).
func TestAnotherIsChosenForTheClient(t *testing.T) {
	w := healthy(2)
	w.fell("10.0.0.0", time.Minute)
	p := &w.rule.Policy
	p.AllDown, p.Another, p.Client = Named, "another.example.org.", true
	for i := range 9 {
		w.another = append(w.another, record2(i, 60))
	}
	seen := make(map[string]bool)
	for client := range 50 {
		d := chance(uint64(client))
		d.Client = network(client)
		first, _ := Thin(addresses(1, 30), w, d)
		again, _ := Thin(addresses(1, 30), w, d)
		if !slices.Equal(octets(first), octets(again)) || len(first.Answer) != 2 {
			t.Fatalf("client %s gets %v, then %v", d.Client, octets(first), octets(again))
		}
		seen[fmt.Sprint(octets(first))] = true
	}
	if len(seen) < 10 {
		t.Errorf("50 clients get %d different answers", len(seen))
	}
	p.Client, p.Weights, p.Limit = false, []Weight{{netip.MustParsePrefix("203.0.113.5/32"), 65535}}, 1
	for i := range 20 {
		if out, _ := Thin(addresses(1, 30), w, chance(uint64(i))); octets(out)[0] != 5 {
			t.Errorf("the heavy one is not chosen: %v", octets(out))
		}
	}
}

// Of another name no more addresses go out than are judged of a set, and a set that has more, and no limit, is not replaced: what is
// not judged of it may be fit (B90, B102).
func TestAnotherIsLarge(t *testing.T) {
	w := healthy(0)
	w.fell("10.0.0.0", time.Minute)
	w.rule.Policy.AllDown, w.rule.Policy.Another = Named, "another.example.org."
	w.another = addresses(maxJudged+10, 60).Answer
	for _, rr := range w.another {
		rr.Header().Name = "another.example.org."
	}
	if out, _ := Thin(addresses(1, 30), w, chance(1)); len(out.Answer) != maxJudged {
		t.Errorf("%d addresses took over", len(out.Answer))
	}
	m := addresses(maxJudged+10, 60)
	w.unknown = verdict.Verdict{State: verdict.Down, Holds: time.Minute}
	w.another = []dns.RR{record2(1, 60)}
	if out, report := Thin(m, w, chance(1)); report.Outcome != Thinned || report.Instead.Name != "" || len(out.Answer) != 10 {
		t.Errorf("%+v, %d addresses", report, len(out.Answer))
	}
}

// openings is a world that notes which sets are looked at.
type openings struct {
	world
	sets []string
}

func (o *openings) Rule(owner string) *Rule {
	r := *o.world.Rule(owner)
	r.Health = o
	return &r
}

func (o *openings) Fallback(owner, name string, rrtype uint16) Fallback {
	f := o.world.Fallback(owner, name, rrtype)
	f.Rule = &Rule{Types: DefaultTypes, Policy: f.Rule.Policy, Health: o}
	return f
}

func (o *openings) Open(owner string, rrtype uint16) verdict.RecordSet {
	o.sets = append(o.sets, owner+" "+dns.TypeToString[rrtype])
	return o.world.Open(owner, rrtype)
}

func (o *openings) Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	o.sets = append(o.sets, fmt.Sprintf("%s in %s for %d s", addr, at.Owner, ttl))
	return o.world.Look(at, addr, port, ttl)
}

// The addresses of the other name are looked at in the set of their owner, so that checks with host owner ask for that name, and
// only if they are needed (B62, B102).
func TestAnotherIsLookedAt(t *testing.T) {
	o := &openings{world: *healthy(8)}
	o.rule.Policy.AllDown, o.rule.Policy.Another = Named, "alias.example.org."
	o.another, o.its = []dns.RR{record2(1, 60)}, &Rule{Policy: Policy{MinUp: Quorum{Count: 1}}}
	m := addresses(1, 30)
	Thin(m, o, chance(1))
	if got, want := fmt.Sprint(o.sets), "[www.example.org. A 10.0.0.0 in www.example.org. for 30 s]"; got != want {
		t.Errorf("while it is up: %s", got)
	}
	o.sets = nil
	o.fell("10.0.0.0", time.Minute)
	Thin(m, o, chance(1))
	want := "[www.example.org. A 10.0.0.0 in www.example.org. for 30 s another.example.org. A 203.0.113.1 in another.example.org. for 60 s]"
	if got := fmt.Sprint(o.sets); got != want {
		t.Errorf("when it is down: %s\nwant %s", got, want)
	}
}

// The reason is for the end of a sentence, and there is one for all that can go wrong but the name itself.
func TestWhyNoTakeover(t *testing.T) {
	for l, want := range map[lack]string{nothing: "", unknown: "is not known", gone: "has no address", allUnfit: "has no healthy address either", itself: ""} {
		i := Instead{Name: "another.example.org.", lack: l}
		if got := i.Why(); got != want || i.TookOver() != (l == nothing) {
			t.Errorf("%d: %q, took over: %t", l, got, i.TookOver())
		}
	}
	if (Instead{}).TookOver() {
		t.Error("no name took over")
	}
}

// otherSites is a world in which the name that takes over has sites of its own, as that of another stanza has.
type otherSites struct {
	*world
	draw *Draw
}

func (o otherSites) Fallback(owner, name string, rrtype uint16) Fallback {
	o.draw.Near = farSites{}
	return o.world.Fallback(owner, name, rrtype)
}

// farSites has no address in the client's site.
type farSites struct{}

func (farSites) Place(addr netip.Addr, _ uint64) uint64 { return 1 + uint64(addr.As4()[3]) }

// The name that takes over is chosen from by its own sites, and counted by them. If it cannot help, the set is served by those of
// the set (B96, B102).
func TestAnotherHasItsOwnSites(t *testing.T) {
	for _, helps := range []bool{true, false} {
		w, m := healthy(8), addresses(4, 30)
		for i := range m.Answer {
			w.fell(fmt.Sprintf("10.0.0.%d", i), time.Minute)
		}
		w.rule.Policy.AllDown, w.rule.Policy.Another, w.rule.Policy.Nearest = Named, "another.example.org.", true
		w.its = &Rule{Types: DefaultTypes, Policy: Policy{MinUp: Quorum{Count: 1}, Nearest: true}}
		for i := range 3 {
			rr := record2(i, 30)
			w.another = append(w.another, rr)
			if addr, _ := Address(rr); !helps {
				w.fell(addr.String(), time.Minute)
			}
		}
		d := chance(1)
		own := sites("aaaa")
		d.Near = own
		out, report := Thin(m, otherSites{w, d}, d)
		want, records := NextSites, 1 // the nearest of the other name, which is in no site of the client
		if !helps {
			want, records = OwnSite, 4
		}
		if report.Sites != want || len(out.Answer) != records {
			t.Errorf("if the other name helps is %t: %s sites, %d records, want %s and %d", helps, report.Sites, len(out.Answer), want, records)
		}
		if d.Near != Near(own) {
			t.Errorf("if the other name helps is %t: the draw keeps its sites", helps)
		}
	}
}
