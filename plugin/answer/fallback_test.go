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

// The reason is for the end of a sentence, and there is one for all that can go wrong but the name itself.
func TestWhyNoTakeover(t *testing.T) {
	for l, want := range map[lack]string{nothing: "", unknown: "is not known", gone: "has no address", allUnfit: "has no healthy address either", itself: ""} {
		i := Instead{"another.example.org.", l}
		if got := i.Why(); got != want || i.TookOver() != (l == nothing) {
			t.Errorf("%d: %q, took over: %t", l, got, i.TookOver())
		}
	}
	if (Instead{}).TookOver() {
		t.Error("no name took over")
	}
}
