package answer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

const draws = 20_000

// chance is a draw with a fixed seed.
func chance(seed uint64) *Draw {
	return &Draw{IntN: rand.New(rand.NewPCG(seed, 7)).IntN, Now: uint64(now.UnixMilli())}
}

// upFor is a verdict on an address that has been up for a time.
func upFor(d time.Duration) verdict.Brief {
	return verdict.Verdict{State: verdict.Up, Since: now.Add(-d), Holds: time.Minute}.Brief()
}

// fleet is n candidates, from 10.0.0.0 on, which have been up for long.
func fleet(n int) []candidate {
	all := make([]candidate, n)
	for i := range all {
		all[i] = candidate{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), index: int32(i), verdict: upFor(24 * time.Hour)}
	}
	return all
}

// sample draws n addresses of a fleet and returns their numbers.
func sample(p Policy, from []candidate, n int, d *Draw) []int {
	var picked []int
	for _, c := range p.sample(slices.Clone(from), n, d) {
		picked = append(picked, int(c.index))
	}
	return picked
}

// likely fails unless the counts agree with the shares: chi-square must be below the value that one in a thousand fair draws
// exceeds. The seeds are fixed, so the result is always the same.
func likely(t *testing.T, what string, counts, shares []float64) {
	t.Helper()
	critical := map[int]float64{1: 10.8, 2: 13.8, 3: 16.3, 5: 20.5, 11: 31.3, 15: 37.7, 19: 43.8}[len(counts)-1]
	var total, sum, chi float64
	for i := range counts {
		total, sum = total+counts[i], sum+shares[i]
	}
	for i := range counts {
		want := total * shares[i] / sum
		chi += (counts[i] - want) * (counts[i] - want) / want
	}
	if critical == 0 || chi > critical || math.IsNaN(chi) {
		t.Errorf("%s: chi-square %.1f, want at most %.1f, over %v", what, chi, critical, counts)
	}
}

func equal(n int) []float64 { return slices.Repeat([]float64{1}, n) }

// weighted has three classes of four addresses each: without a weight, with weight 3, and with weight 10. The network that
// contains all of them comes last, so it matters only for the first class.
var weighted = Policy{Weights: []Weight{
	{netip.MustParsePrefix("10.0.0.4/30"), 3},
	{netip.MustParsePrefix("10.0.0.8/30"), 10},
	{netip.MustParsePrefix("10.0.0.4/31"), 50},
	{netip.MustParsePrefix("2001:db8::/32"), 7},
}}

var weights = []float64{1, 1, 1, 1, 3, 3, 3, 3, 10, 10, 10, 10}

// The first network that contains an address gives its weight; an address in none weighs 1 (B21).
func TestWeigh(t *testing.T) {
	for addr, want := range map[string]int{
		"10.0.0.3": 1, "10.0.0.4": 3, "10.0.0.7": 3, "10.0.0.8": 10, "10.0.0.12": 1, "2001:db8::1": 7, "2001:db9::1": 1,
	} {
		if got := weighted.weightOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s weighs %v, want %v", addr, got, want)
		}
	}
}

// Each address is first as often as its share of the weights. It is in the sample as often as if the addresses were drawn one
// after the other by weight from those that are left, which the test simulates (B21).
func TestWeightedSample(t *testing.T) {
	const n, size = 12, 4
	d, rng := chance(1), rand.New(rand.NewPCG(2, 8))
	first, in, simulated := make([]float64, n), make([]float64, n), make([]float64, n)
	for range draws {
		picked := sample(weighted, fleet(n), size, d)
		first[picked[0]]++
		for _, i := range picked {
			in[i]++
		}
		for _, i := range oneByOne(rng, weights, size) {
			simulated[i]++
		}
	}
	likely(t, "first place", first, weights)
	var chi float64 // of two samples
	for i := range in {
		chi += (in[i] - simulated[i]) * (in[i] - simulated[i]) / (in[i] + simulated[i])
	}
	if chi > 31.3 {
		t.Errorf("in the sample: chi-square %.1f between %v and %v", chi, in, simulated)
	}
}

func oneByOne(rng *rand.Rand, weights []float64, size int) []int {
	left := slices.Clone(weights)
	var picked []int
	for range size {
		var sum float64
		for _, w := range left {
			sum += w
		}
		at, i := rng.Float64()*sum, 0
		for at >= left[i] {
			at -= left[i]
			i++
		}
		picked, left[i] = append(picked, i), 0
	}
	return picked
}

// Whatever the way of drawing, each order is equally likely (B7).
func TestDrawOrder(t *testing.T) {
	even := []Weight{{netip.MustParsePrefix("10.0.0.0/8"), 65535}}
	for name, p := range map[string]Policy{"chance": {}, "weights": {Weights: even}, "warm-up": {Warmup: time.Minute}, "unknown client": {Client: true}} {
		d, orders := chance(3), make(map[string]float64)
		if !p.Client {
			d.Client = network(0) // the network does not matter then
		}
		for range draws {
			orders[fmt.Sprint(sample(p, fleet(3), 2, d))]++
		}
		var counts []float64
		for _, n := range orders {
			counts = append(counts, n)
		}
		likely(t, name, counts, equal(6))
	}
}

// network is the client network number i.
func network(i int) netip.Prefix {
	if i%2 == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0xd, 0xb8, 0, byte(i >> 8), byte(i)}), 56)
}

// byClient draws for a client network, with a source of chance that must not be used.
func byClient(p Policy, from []candidate, n int, client netip.Prefix) []int {
	p.Client = true
	d := chance(rand.Uint64())
	d.Client = client
	return sample(p, from, n, d)
}

// A client network gets the same addresses each time, whatever the order of the set. The networks are spread evenly over all
// addresses, or by weight (B5, B21).
func TestClientSpread(t *testing.T) {
	const n, size = 20, 8
	first, in := make([]float64, n), make([]float64, n)
	heavy := make([]float64, 12)
	for i := range draws {
		picked := byClient(Policy{}, fleet(n), size, network(i))
		first[picked[0]]++
		for _, i := range picked {
			in[i]++
		}
		heavy[byClient(weighted, fleet(12), 1, network(i))[0]]++
		if i%100 == 0 {
			other := fleet(n)
			slices.Reverse(other)
			if again := byClient(Policy{}, other, size, network(i)); !slices.Equal(again, picked) {
				t.Fatalf("%s got %v, then %v", network(i), picked, again)
			}
		}
	}
	likely(t, "first place", first, equal(n))
	likely(t, "in the sample", in, equal(n))
	likely(t, "by weight", heavy, weights)
}

// The host bits of a client network do not matter, and its length does.
func TestClientIsItsNetwork(t *testing.T) {
	same, shorter := 0, 0
	for i := range 256 {
		at := func(s string) int {
			return byClient(Policy{}, fleet(16), 1, netip.MustParsePrefix(fmt.Sprintf(s, i)))[0]
		}
		if at("192.0.%d.0/24") == at("192.0.%d.77/24") {
			same++
		}
		if at("192.0.%d.0/24") == at("192.0.%d.0/25") {
			shorter++
		}
	}
	if same != 256 || shorter > 64 {
		t.Errorf("of 256 networks, %d chose the same with other host bits, and %d with another length", same, shorter)
	}
}

// If an address is lost, the clients that had it get another one in its place, and other clients see no difference (B5).
func TestClientLoss(t *testing.T) {
	const n, size = 20, 8
	for i := range 2000 {
		before := byClient(weighted, fleet(n), size, network(i))
		gone := i % n
		after := byClient(weighted, slices.DeleteFunc(fleet(n), func(c candidate) bool { return int(c.index) == gone }), size, network(i))
		left := slices.DeleteFunc(slices.Clone(before), func(c int) bool { return c == gone })
		if !slices.Equal(after[:len(left)], left) || len(after) != size {
			t.Fatalf("without %d: %v became %v", gone, before, after)
		}
	}
}

// All replicas choose the same addresses, also after an upgrade: the expected values must never change.
func TestClientGolden(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.0/24":  "[8 13 5 18 16 4 0 2]",
		"2001:db8::/56": "[1 6 11 16 15 14 10 2]",
	} {
		if got := fmt.Sprint(byClient(Policy{}, fleet(20), 8, netip.MustParsePrefix(client))); got != want {
			t.Errorf("%s: %s, want %s", client, got, want)
		}
	}
}

func TestClientNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77":           "192.0.2.0/24",
		"::ffff:192.0.2.77":    "192.0.2.0/24",
		"2001:db8:1:2345::1":   "2001:db8:1:2300::/56",
		"fe80::1%eth0":         "fe80::/56",
		"::ffff:192.0.2.77%et": "192.0.2.0/24",
	} {
		if got := ClientNetwork(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if got := ClientNetwork(netip.Addr{}); got.IsValid() {
		t.Errorf("no client counts as %s", got)
	}
}

// An address that came up gains its share with time: a hundredth at first, half of it after half of the time, all of it at the
// end. An address that was never decided has a hundredth; one that no check covers has all.
func TestWarmup(t *testing.T) {
	p := Policy{Warmup: 10 * time.Minute}
	for _, tc := range []struct {
		name string
		v    verdict.Brief
		want float64
	}{
		{"just now", upFor(0), 0.01},
		{"a clock ahead of ours", upFor(-time.Hour), 0.01},
		{"a second ago", upFor(time.Second), 0.01},
		{"a tenth", upFor(time.Minute), 0.1},
		{"half", upFor(5 * time.Minute), 0.5},
		{"the end", upFor(10 * time.Minute), 1},
		{"long ago", upFor(24 * time.Hour), 1},
		{"unknown", 0, 0.01},
		{"unchecked", verdict.Outside.Brief(), 1},
	} {
		if got := p.warmupShare(tc.v, uint64(now.UnixMilli())); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		d, counts, from := chance(4), make([]float64, 2), fleet(8)
		from[3].verdict = tc.v
		for range draws {
			if sample(p, from, 1, d)[0] == 3 {
				counts[0]++
			} else {
				counts[1]++
			}
		}
		likely(t, tc.name, counts, []float64{tc.want, 7})
	}
	if got := (&Policy{}).warmupShare(0, 0); got != 1 {
		t.Errorf("without a warm-up: %v", got)
	}
}

// A cold address is in every answer that the limit has room for. As long as all are cold, they keep their order.
func TestWarmupLeavesNobodyOut(t *testing.T) {
	w := healthy(8)
	w.unknown = verdict.Verdict{}
	w.rule.Policy.Warmup = time.Hour
	m := addresses(8, 30)
	if out, report := Thin(m, w, chance(5)); out != m || report.Outcome != Whole {
		t.Errorf("%+v\n%s", report, out)
	}
	w.health = map[netip.Addr]verdict.Verdict{netip.MustParseAddr("10.0.0.7"): {State: verdict.Up, Since: now.Add(-2 * time.Hour), Holds: time.Minute}}
	out, report := Thin(m, w, chance(5))
	if got := numbers(out); len(got) != 8 || got[0] != 7 || report.Outcome != Whole || report.Kept != 8 {
		t.Errorf("one of eight is warm: %v, %+v", got, report)
	}
}

// numbers are the last octets of the addresses in an answer, in order.
func numbers(m *dns.Msg) []int {
	var all []int
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, int(a.A[len(a.A)-1]))
		}
	}
	return all
}

// If all of a set is served, its order is drawn: each address is first as often as its share. Nothing but the order changes, so
// the message keeps AD, and its records are those that came (B93).
func TestOrderIsDrawn(t *testing.T) {
	const n = 12
	cold := make([]float64, n)
	for i := range cold {
		cold[i] = 1
	}
	cold[3] = 0.25
	for name, tc := range map[string]struct {
		p      Policy
		shares []float64
	}{
		"weight": {weighted, weights}, "warmup": {Policy{Warmup: time.Hour}, cold},
		"select client": {Policy{Client: true}, equal(n)}, "select client and weight": {Policy{Client: true, Weights: weighted.Weights}, weights},
	} {
		for _, limit := range []int{0, n, 65535} {
			w := healthy(limit)
			w.unknown.Since = now.Add(-2 * time.Hour)
			tc.p.Limit, tc.p.MinUp, tc.p.TTL = limit, w.rule.Policy.MinUp, w.rule.Policy.TTL
			w.rule.Policy = tc.p
			w.health = map[netip.Addr]verdict.Verdict{netip.MustParseAddr("10.0.0.3"): {State: verdict.Up, Since: now.Add(-15 * time.Minute), Holds: time.Minute}}
			m, d, first := addresses(n, 30), chance(11), make([]float64, n)
			m.AuthenticatedData = true
			for i := range draws {
				d.Client = network(i)
				out, report := Thin(m, w, d)
				got := numbers(out)
				if report.Outcome != Whole || report.Kept != n || len(got) != n || !out.AuthenticatedData {
					t.Fatalf("%s: %+v, %v", name, report, out)
				}
				if first[got[0]]++; i%100 > 0 {
					continue
				}
				for _, rr := range out.Answer {
					if i := rr.(*dns.A).A[15]; rr != m.Answer[i] {
						t.Fatalf("%s: %d was copied", name, i)
					}
				}
				if again, _ := Thin(m, w, d); tc.p.Client && !slices.Equal(numbers(again), got) {
					t.Fatalf("%s: %s got %v, then %v", name, d.Client, got, numbers(again))
				}
			}
			likely(t, fmt.Sprintf("%s, limit %d", name, limit), first, tc.shares)
			if in := numbers(m); !slices.IsSorted(in) {
				t.Errorf("%s: the message from below is now %v", name, in)
			}
		}
	}
}

// No order is drawn where a signature covers the set, in a dry run, for one address, or for what is not an address (B93).
func TestOrderStays(t *testing.T) {
	p := weighted
	p.Client, p.Warmup = true, time.Hour
	signed := addresses(8, 30)
	signed.Answer = append(signed.Answer, record(t, "www.example.org. 30 IN RRSIG A 13 3 30 20300101000000 20200101000000 1 example.org. AAAA"))
	for name, m := range map[string]*dns.Msg{"signed": signed, "a dry run": addresses(8, 30), "one": addresses(1, 30), "SRV": targets(8), "hints": service8()} {
		w := healthy(8)
		p.Limit, p.MinUp, p.TTL, p.DryRun = 8, w.rule.Policy.MinUp, w.rule.Policy.TTL, name == "a dry run"
		w.rule.Policy = p
		for i := range 20 {
			d := chance(uint64(i))
			d.Client = network(i)
			if out, _ := Thin(m, w, d); out != m {
				t.Fatalf("%s: changed to\n%s", name, out)
			}
		}
	}
}

// A better tier comes first whatever the weights of the others, and each tier is drawn for itself. Without a draw, what is
// served whole stays in its order (B93).
func TestOrderOfTiers(t *testing.T) {
	p := Policy{
		Limit: 12, MinUp: Quorum{Percent: 100}, Backup: []Rank{{netip.MustParsePrefix("10.0.0.8/29"), 1}},
		Weights: []Weight{{netip.MustParsePrefix("10.0.0.8/32"), 60000}, {netip.MustParsePrefix("10.0.0.9/32"), 20000}, {netip.MustParsePrefix("10.0.0.0/32"), 3}},
	}
	d, first, backups := chance(12), make([]float64, 2), make([]float64, 2)
	for range draws { // 0 and 1 are fit, 8 and 9 are backups, 7 is drained
		served, outcome := p.choose(drain(down(fleet(10), 2, 3, 4, 5, 6), 7), d)
		got := indexes(served)
		if outcome != Open || len(got) != 10 || slices.Max(got[:2]) > 1 || slices.Min(got[2:4]) < 8 || got[4] != 7 {
			t.Fatalf("%s: %v", outcome, got)
		}
		first[got[0]]++
		backups[got[2]-8]++
	}
	likely(t, "primaries", first, []float64{3, 1})
	likely(t, "backups", backups, []float64{3, 1})
	plain := p
	plain.Weights = nil
	if served, outcome := plain.choose(drain(down(fleet(10), 2, 3, 4, 5, 6), 7), d); outcome != Open || !slices.IsSortedFunc(served, byIndex) {
		t.Errorf("without weights: %s, %v", outcome, indexes(served))
	}
}

// If all are down and the limit has room for some, those that were up most recently are served, and their order is drawn (B11,
// B93).
func TestOrderOfTheDead(t *testing.T) {
	p := weighted
	p.Limit, p.MinUp = 4, Quorum{Count: 1}
	d, first := chance(13), make([]float64, 2)
	for range draws {
		all := fleet(12)
		for i := range all { // 2, 3, 4 and 5 fell last
			all[i].verdict = verdict.Verdict{State: verdict.Down, Since: now.Add(-time.Hour)}.Brief()
			if i >= 2 && i <= 5 {
				all[i].verdict = verdict.Verdict{State: verdict.Down, Since: now.Add(-time.Minute)}.Brief()
			}
		}
		served, outcome := p.choose(all, d)
		got := indexes(served)
		if outcome != Open || len(got) != 4 || slices.Min(got) != 2 || slices.Max(got) != 5 {
			t.Fatalf("%s: %v", outcome, got)
		}
		first[(got[0]-2)/2]++ // two that weigh 1, two that weigh 3
	}
	likely(t, "the dead", first, []float64{1, 3})
}

// If there are too many backups, some are drawn, in addition to all fit primaries (B26).
func TestBackupSample(t *testing.T) {
	const n, backups, limit = 20, 16, 6 // the first four are primaries, and two of them are down
	p := Policy{Limit: limit, MinUp: Quorum{Percent: 75}, Backup: []Rank{{netip.MustParsePrefix("10.0.0.16/28"), 1}, {netip.MustParsePrefix("10.0.0.8/29"), 1}, {netip.MustParsePrefix("10.0.0.4/30"), 1}}}
	d, counts := chance(6), make([]float64, backups)
	for range draws {
		all := fleet(n)
		all[1].verdict = verdict.Verdict{State: verdict.Down}.Brief()
		all[2].verdict = all[1].verdict
		served, outcome := p.choose(all, d)
		if outcome != Backup || len(served) != limit || served[0].index != 0 || served[1].index != 3 {
			t.Fatalf("%s: %+v", outcome, served)
		}
		for _, c := range served[2:] {
			counts[c.index-4]++
		}
	}
	likely(t, "backups", counts, equal(backups))
}
