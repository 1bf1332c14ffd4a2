package answer

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// dice derives the verdict on each address and port, and the addresses of each host, from them and a seed.
type dice struct {
	rule  Rule
	seed  uint64
	flaps *rand.Rand // if not nil, each look-up returns something else
	even  bool       // all want their full weight, as far as they want any
}

func (d *dice) Rule(string) *Rule { return &d.rule }

func (d *dice) Absent(string, uint16) {}

func (d *dice) SOA(owner string) *dns.SOA {
	if d.seed%3 == 0 {
		return nil
	}
	return &dns.SOA{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 3600}, Ns: ".", Mbox: ".", Minttl: 300}
}

func (d *dice) Follow(string, string) bool { return true }

func (d *dice) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	rng := d.rng(strings.ToLower(host) + dns.TypeToString[rrtype])
	addrs := make([]netip.Addr, rng.IntN(4))
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(8))})
	}
	return addrs, rng.IntN(3) > 0
}

func (d *dice) Fallback(_, name string, rrtype uint16) Fallback {
	rng := d.rng("fallback" + dns.TypeToString[rrtype])
	f := Fallback{Known: rng.IntN(4) > 0, Elsewhere: rng.IntN(2) > 0, Owner: name, TTL: uint32(rng.IntN(300))}
	for range rng.IntN(20) {
		addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(8))})
		if rrtype == dns.TypeAAAA {
			addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:f::%d", rng.IntN(8)))
		}
		f.Addresses = append(f.Addresses, addr)
	}
	if rng.IntN(3) > 0 {
		f.Rule = &d.rule // which has a fallback too
	}
	return f
}

func (d *dice) Open(owner string, _ uint16) verdict.RecordSet { return verdict.RecordSet{Owner: owner} }

func (d *dice) Look(_ verdict.RecordSet, addr netip.Addr, port uint16, _ uint32) verdict.Brief {
	rng := d.flaps
	if rng == nil {
		rng = d.rng(netip.AddrPortFrom(addr, port).String())
	}
	v := verdict.Verdict{
		State: []verdict.State{verdict.Unknown, verdict.Unchecked, verdict.Up, verdict.Down, verdict.Down, verdict.Down}[rng.IntN(6)],
		Since: now.Add(-time.Duration(rng.IntN(1000)) * time.Second),
		Holds: time.Duration(rng.IntN(200)) * time.Second,
	}
	if said := (report.Said{Shed: uint8(rng.IntN(101))}); rng.IntN(3) == 0 && (!d.even || said.Drains()) {
		v.Said = &said
	}
	b := v.Brief()
	if rng.IntN(4) == 0 {
		return b.Drain()
	}
	return b
}

func (d *dice) rng(of string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(of))
	return rand.New(rand.NewPCG(d.seed, h.Sum64()))
}

// byOctet has an address in one of four sites, by its last octet. The first one is the client's.
type byOctet struct{}

func (byOctet) Place(addr netip.Addr, seed uint64) uint64 {
	raw := addr.As16()
	if site := uint64(raw[15] % 4); site > 1 { // without an order
		return 1<<62 | mix(seed^site)>>2
	} else {
		return site
	}
}

// policyOf makes a policy from bits.
func policyOf(limit, minUp uint8, bits uint16) Policy {
	has := func(n int) bool { return bits>>n&1 != 0 }
	p := Policy{
		Limit: int(limit % 16), MinUp: Quorum{Count: int(minUp)}, AllDown: AllDown(bits % 4), Another: "another.example.org.",
		Instead: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:f::1")},
		TTL:     TTL{Max: uint32(minUp) * 2, Min: uint32(limit), Off: has(2)}, DryRun: has(3) && has(4), Client: has(5),
	}
	if has(6) {
		p.MinUp = Quorum{Percent: 1 + int(minUp%100)}
	}
	if has(7) {
		p.Backup = []Rank{{netip.MustParsePrefix("2001:db8::/126"), 1}, {netip.MustParsePrefix("10.0.0.6/31"), 3}, {netip.MustParsePrefix("10.0.0.4/30"), 1}}
	}
	if has(8) {
		p.Weights = []Weight{{netip.MustParsePrefix("10.0.0.0/31"), 9}, {netip.MustParsePrefix("::/0"), 65535}}
	}
	if has(9) {
		p.Warmup = 5 * time.Minute
	}
	p.Nearest = has(15)
	if has(13) {
		p.AllDown = Named
	}
	p.Reports = limit&16 != 0
	return p
}

// fuzzSeeds are answers of all types that can be filtered.
var fuzzSeeds = []string{`
_http._tcp.example.org. 300 IN SRV 10 5 80 a.example.org.
_http._tcp.example.org. 300 IN SRV 10 5 80 b.example.org.
_http._tcp.example.org. 300 IN SRV 20 0 81 A.example.org.
_http._tcp.example.org. 300 IN SRV 20 0 81 .
|
a.example.org. 300 IN A 10.0.0.1
b.example.org. 30 IN A 10.0.0.2
b.example.org. 30 IN AAAA 2001:db8::2
`, `
example.org. 30 IN MX 10 mail1.example.org.
example.org. 30 IN MX 20 mail2.example.org.
|
mail1.example.org. 30 IN A 10.0.0.1
mail1.example.org. 30 IN RRSIG A 13 3 30 20300101000000 20200101000000 1 example.org. AAAA
mail2.example.org. 30 IN A 10.0.0.2
mail2.example.org. 30 IN A 10.0.0.3
mail2.example.org. 30 IN RRSIG A 13 3 30 20300101000000 20200101000000 1 example.org. AAAA
`, `
example.org. 300 IN HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="10.0.0.1,10.0.0.2" ipv6hint="2001:db8::1,2001:db8::2"
example.org. 300 IN HTTPS 2 a.example.org. ipv4hint="10.0.0.3,10.0.0.4,10.0.0.5"
example.org. 300 IN SVCB 1 b.example.org. ipv4hint="10.0.0.1,10.0.0.2"
|
example.org. 300 IN A 10.0.0.1
a.example.org. 300 IN A 10.0.0.2
b.example.org. 300 IN AAAA 2001:db8::1
`, `
www.example.org. 300 IN A 10.0.0.1
www.example.org. 300 IN A 10.0.0.2
www.example.org. 300 IN A 10.0.0.5
www.example.org. 300 IN AAAA 2001:db8::1
www.example.org. 300 IN AAAA 2001:db8::5
www.example.org. 300 IN MX 10 a.example.org.
www.example.org. 300 IN SRV 10 5 80 a.example.org.
www.example.org. 300 IN TXT "text"
www.example.org. 300 IN HTTPS 1 . ipv4hint="10.0.0.1,10.0.0.2"
www.example.org. 300 IN RRSIG AAAA 13 3 300 20300101000000 20200101000000 1 example.org. AAAA
|
a.example.org. 300 IN A 10.0.0.1
`}

// FuzzThin filters every message that it can unpack, under every policy. There must be no panic, and the message must not
// change. What is returned came in, with a TTL that is not higher, and the check functions below hold.
func FuzzThin(f *testing.F) {
	seeds := []*dns.Msg{addresses(1, 30), addresses(3, 300), addresses(12, 300), targets(9)}
	for _, text := range fuzzSeeds {
		answer, extra, _ := strings.Cut(text, "|")
		m := new(dns.Msg)
		m.SetQuestion("example.org.", dns.TypeANY)
		m.Answer, m.Extra = records(f, answer), records(f, extra)
		m.Ns = records(f, "example.org. 300 IN NS a.example.org.")
		seeds = append(seeds, m)
	}
	bare := addresses(3, 30) // a record without data
	bare.Answer[1].(*dns.A).A = nil
	seeds = append(seeds, bare)
	for i, m := range seeds {
		m.AuthenticatedData = true
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "www.example.org."})
		m.SetEdns0(1232, true)
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		for j := range 16 {
			f.Add(packed, uint64(i), uint8(j), uint8(j*9), uint16(1<<j+j))
			f.Add(packed, uint64(i), uint8(j)|16, uint8(j*9), uint16(1<<j+j))
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte, seed uint64, limit, minUp uint8, bits uint16) {
		m := new(dns.Msg)
		if m.Unpack(packed) != nil || len(m.Answer)*len(m.Extra) > 1000 {
			return
		}
		d := &dice{seed: seed, rule: Rule{Types: TypesOf(filterable...), Policy: policyOf(limit, minUp, bits)}}
		d.rule.Health = d
		if bits>>10&1 != 0 {
			d.rule.Types = DefaultTypes
		}
		if bits>>11&3 == 3 {
			d.flaps = rand.New(rand.NewPCG(seed, 1))
		}
		draw := &Draw{IntN: rand.New(rand.NewPCG(seed, 0)).IntN, Client: netip.MustParsePrefix("192.0.2.0/24"), Now: uint64(now.UnixMilli())}
		if bits>>14&1 == 0 {
			draw.Near = byOctet{}
		}
		before := snap(m)
		out, report := Thin(m, d, draw)
		if after := snap(m); !before.equal(after) {
			t.Fatalf("changed:\n%s\nwas\n%s", after.text, before.text)
		}
		thinning{m, out, report, d, draw}.assertAll(t)
	})
}

// thinning is a call of Thin, with what it was given and what it returned.
type thinning struct {
	in, out *dns.Msg
	report  Report
	d       *dice
	draw    *Draw
}

func (x thinning) assertAll(t *testing.T) {
	defer func() {
		if t.Failed() {
			t.Logf("%+v, %+v:\n%s\nof\n%s", x.d.rule.Policy, x.report, x.out, x.in)
		}
	}()
	p := &x.d.rule.Policy
	if x.out == nil {
		if x.report.Outcome != Closed || p.AllDown != ServFail || p.DryRun {
			t.Error("no answer")
		}
		return
	}
	if p.DryRun && x.out != x.in {
		t.Error("a dry run changed the answer")
	}
	if x.d.flaps == nil && !p.DryRun && isFilterable(x.in) {
		x.checkDrained(t)
		x.checkNearest(t)
	}
	if x.out == x.in {
		return
	}
	if wellFormed(x.out.Answer) < wellFormed(x.in.Answer) && x.out.AuthenticatedData {
		t.Error("AD is set, but the remaining answer was not validated")
	}
	if len(x.out.Answer) == 0 && x.report.Outcome != Closed {
		t.Error("the answer is empty")
	}
	x.checkAnswer(t)
	x.checkSets(t)
	x.checkAuthority(t)
	x.checkAdditional(t)
	if x.d.flaps == nil {
		x.checkReports(t)
		x.checkGlue(t)
		x.checkLimit(t)
	}
}

// checkDrained: if one fit address is enough, no drained one is served with it.
func (x thinning) checkDrained(t *testing.T) {
	var buf [maxSets]set
	sets := findSets(x.in.Answer, buf[:0])
	if p := &x.d.rule.Policy; p.MinUp.Count > 1 || p.MinUp.Percent > 0 || len(sets) == maxSets || p.AllDown == Named {
		return // what is served may be another name's, which are judged by another rule or by none
	}
	for i := range sets {
		s, tiers := &sets[i], [2]int{}
		if s.signed || !x.d.rule.Types.Has(s.rrtype) {
			continue
		}
		for _, rr := range x.out.Answer {
			if addr, ok := Address(rr); ok && s.contains(rr.Header()) {
				switch v := x.d.Look(verdict.RecordSet{}, addr, 0, 0); {
				case v.Drained():
					tiers[1]++
				case v.State().Fit():
					tiers[0]++
				}
			}
		}
		if tiers[0] > 0 && tiers[1] > 0 {
			t.Errorf("%d drained addresses of %s went out beside %d healthy ones", tiers[1], s.owner, tiers[0])
		}
	}
}

// checkNearest: if one address is enough, and one of the client's own site is fit, neither backup nor drained, all are of that
// site.
func (x thinning) checkNearest(t *testing.T) {
	var buf [maxSets]set
	sets := findSets(x.in.Answer, buf[:0])
	p := &x.d.rule.Policy
	if p.MinUp.Count > 1 || p.MinUp.Percent > 0 || len(p.Backup) > 0 || !p.bySite(x.draw) || len(sets) == maxSets {
		return
	}
	for i := range sets {
		s := &sets[i]
		if s.signed || !x.d.rule.Types.Has(s.rrtype) {
			continue
		}
		own, other := 0, 0
		for _, rr := range x.in.Answer {
			addr, ok := Address(rr)
			if v := x.d.Look(verdict.RecordSet{}, addr, 0, 0); ok && s.contains(rr.Header()) && v.State().Fit() && !v.Drained() && x.draw.Near.Place(addr, 0) == 0 {
				own++
			}
		}
		for _, rr := range x.out.Answer {
			if addr, ok := Address(rr); ok && s.contains(rr.Header()) && x.draw.Near.Place(addr, 0) != 0 {
				other++
			}
		}
		if own > 0 && other > 0 {
			t.Errorf("%d addresses of other sites went out, and %d of the own site are fit", other, own)
		}
	}
}

// checkReports: weights that backends report do not change which addresses are served if there is no limit, only their order.
func (x thinning) checkReports(t *testing.T) {
	served := func(even bool) []string {
		d := *x.d
		d.rule.Policy.Limit, d.rule.Health, d.even = 0, &d, even
		draw := *x.draw
		draw.IntN = rand.New(rand.NewPCG(d.seed, 2)).IntN // which sites without an order come first is chance
		out, _ := Thin(x.in, &d, &draw)
		if out == nil {
			return nil
		}
		texts := make([]string, len(out.Answer))
		for i, rr := range out.Answer {
			texts[i] = rr.String()
		}
		slices.Sort(texts)
		return texts
	}
	if is, was := served(false), served(true); !slices.Equal(is, was) {
		t.Errorf("reported weights change what is served: %q, without them %q", is, was)
	}
}

// wellFormed counts the records, without address records whose data has a wrong length: they may be removed with the others.
func wellFormed(section []dns.RR) int {
	n := 0
	for _, rr := range section {
		if _, ok := Address(rr); ok || !slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA}, rr.Header().Rrtype) {
			n++
		}
	}
	return n
}

// key is the text of a record without its TTL.
func key(rr dns.RR) string {
	c := dns.Copy(rr)
	c.Header().Ttl = 0
	return c.String()
}

// highest returns the highest TTL of each record in a section.
func highest(section []dns.RR) map[string]uint32 {
	ttls := make(map[string]uint32)
	for _, rr := range section {
		ttls[key(rr)] = max(ttls[key(rr)], rr.Header().Ttl)
	}
	return ttls
}

// checkAnswer: every record came in with a TTL that was not lower, or is a fixed address, or has lost hints.
func (x thinning) checkAnswer(t *testing.T) {
	known := highest(x.in.Answer)
	for _, rr := range x.out.Answer {
		addr, _ := Address(rr)
		ttl, ok := known[key(rr)]
		switch {
		case ok && rr.Header().Ttl <= ttl:
		case slices.Contains(x.d.rule.Policy.Instead, addr) && x.d.rule.Policy.AllDown == Fixed && x.report.Outcome == Closed:
		case x.isAnother(rr):
		case slices.ContainsFunc(x.in.Answer, func(from dns.RR) bool { return lostHints(from, rr) }):
		default:
			t.Errorf("this went out: %s", rr)
		}
	}
}

// isAnother reports whether a record has an address of the name that takes over, a TTL that is not higher than that one's or the
// set's, and took the place of a set.
func (x thinning) isAnother(rr dns.RR) bool {
	p, rrtype := &x.d.rule.Policy, rr.Header().Rrtype
	if p.AllDown != Named || x.report.Outcome < Open || rrtype != dns.TypeA && rrtype != dns.TypeAAAA {
		return false
	}
	addr, _ := Address(rr)
	f := x.d.Fallback("", p.Another, rrtype)
	lowest, its := f.TTL, set{owner: rr.Header().Name, rrtype: rrtype}
	for _, old := range x.in.Answer {
		if _, ok := Address(old); ok && its.contains(old.Header()) {
			lowest = min(lowest, old.Header().Ttl)
		}
	}
	return f.Known && slices.Contains(f.Addresses, addr) && rr.Header().Ttl <= lowest
}

// lostHints reports whether to is from without some of its hints, but not without all addresses of a hint.
func lostHints(from, to dns.RR) bool {
	a, b := svcbOf(from), svcbOf(to)
	if a == nil || b == nil || len(a.Value) != len(b.Value) || b.Hdr.Ttl > a.Hdr.Ttl {
		return false
	}
	c := dns.Copy(from)
	c.Header().Ttl = b.Hdr.Ttl
	for i := range a.Value {
		all, left := hints(a.Value[i]), hints(b.Value[i])
		if (len(all) > 0) != (len(left) > 0) || slices.ContainsFunc(left, func(ip net.IP) bool {
			return !slices.ContainsFunc(all, func(other net.IP) bool { return other.Equal(ip) || len(ip) == 0 && len(other) == 0 })
		}) {
			return false
		}
		if len(left) > 0 {
			svcbOf(c).Value[i] = b.Value[i]
		}
	}
	return c.String() == to.String()
}

// checkSets: a filtered set has at most limit addresses. Other sets keep their order. Records of other types, signed sets, and
// HTTPS and SVCB records are all there.
func (x thinning) checkSets(t *testing.T) {
	var buf [maxSets]set
	sets := findSets(x.in.Answer, buf[:0])
	if len(sets) == maxSets {
		return // some may be beyond what Thin judges
	}
	for _, aliases := range []bool{true, false} { // which may move to the front
		var was, is []string
		for _, rr := range x.in.Answer {
			if bit(rr.Header().Rrtype) == 0 && isAlias(rr) == aliases {
				was = append(was, rr.String())
			}
		}
		for _, rr := range x.out.Answer {
			if bit(rr.Header().Rrtype) == 0 && isAlias(rr) == aliases {
				is = append(is, rr.String())
			}
		}
		if !slices.Equal(was, is) {
			t.Errorf("a set that cannot be judged became %q", is)
		}
	}
	if first := slices.IndexFunc(x.out.Answer, func(rr dns.RR) bool { return !isAlias(rr) }); x.out != x.in && first >= 0 && slices.ContainsFunc(x.out.Answer[first:], isAlias) {
		t.Errorf("an alias comes after what it leads to: %v", x.out.Answer)
	}
	for i := range sets {
		x.checkSet(t, &sets[i])
	}
}

func (x thinning) checkSet(t *testing.T, s *set) {
	p := &x.d.rule.Policy
	was, is := of(members(x.in.Answer), s, key), of(members(x.out.Answer), s, key)
	switch {
	case s.signed || !x.d.rule.Types.Has(s.rrtype):
		if !slices.Equal(of(x.in.Answer, s, dns.RR.String), of(x.out.Answer, s, dns.RR.String)) {
			t.Errorf("%s of %s should have stayed", dns.TypeToString[s.rrtype], s.owner)
		}
	case s.rrtype == dns.TypeHTTPS || s.rrtype == dns.TypeSVCB:
		if len(was) != len(is) {
			t.Errorf("%s of %s: %d records of %d", dns.TypeToString[s.rrtype], s.owner, len(is), len(was))
		}
	case s.rrtype == dns.TypeSRV || s.rrtype == dns.TypeMX:
		if !within(is, was) {
			t.Errorf("another order, %q of %q", is, was)
		}
	case len(is) == len(was) && x.report.Outcome < Open && len(of(x.in.Answer, s, key)) != len(of(x.out.Answer, s, key)):
		t.Errorf("all of %s is served, but not %q", s.owner, of(x.in.Answer, s, key))
	case p.Limit > 0 && len(is) > max(1, p.Limit) && !slices.Equal(was, is):
		t.Errorf("%d addresses of %s", len(is), s.owner)
	case len(is) == len(was) && !p.ordersAnswers(x.draw) && x.report.Outcome != Closed && !slices.Equal(was, is):
		t.Errorf("another order of %s: %q, not %q", s.owner, is, was)
	case len(is) == len(was) && x.report.Outcome != Closed && !slices.Equal(slices.Sorted(slices.Values(was)), slices.Sorted(slices.Values(is))):
		t.Errorf("other addresses of %s: %q, not %q", s.owner, is, was)
	}
}

// members returns the records without those whose data has a wrong length: they are no addresses.
func members(section []dns.RR) []dns.RR {
	return slices.DeleteFunc(slices.Clone(section), func(rr dns.RR) bool { return !isMember(rr) })
}

func of(section []dns.RR, s *set, text func(dns.RR) string) []string {
	var texts []string
	for _, rr := range section {
		if s.contains(rr.Header()) {
			texts = append(texts, text(rr))
		}
	}
	return texts
}

// within reports whether all of part is in whole, in this order.
func within(part, whole []string) bool {
	for _, s := range whole {
		if len(part) > 0 && part[0] == s {
			part = part[1:]
		}
	}
	return len(part) == 0
}

// denied reports whether the answer was turned into NODATA.
func (x thinning) denied() bool { return x.report.Outcome == Closed && onlyAliases(x.out.Answer) }

func (x thinning) checkAuthority(t *testing.T) {
	switch {
	case !x.denied():
		if !slices.Equal(x.out.Ns, x.in.Ns) {
			t.Errorf("authority %v", x.out.Ns)
		}
	case len(x.out.Ns) > 1, len(x.out.Ns) == 1 && x.out.Ns[0].Header().Rrtype != dns.TypeSOA:
		t.Errorf("denied by %v", x.out.Ns)
	}
}

// checkAdditional: every record was there, in the same order, with a TTL that was not lower. Only addresses and their signatures
// are removed.
func (x thinning) checkAdditional(t *testing.T) {
	if x.denied() {
		return
	}
	var was, is []string
	others := 0
	for _, rr := range x.in.Extra {
		was = append(was, key(rr))
		if _, glue := Address(rr); !glue && rr.Header().Rrtype != dns.TypeRRSIG {
			others++
		}
	}
	known := highest(x.in.Extra)
	for _, rr := range x.out.Extra {
		is = append(is, key(rr))
		if rr.Header().Ttl > known[key(rr)] {
			t.Errorf("TTL of %s", rr)
		}
		if _, glue := Address(rr); !glue && rr.Header().Rrtype != dns.TypeRRSIG {
			others--
		}
	}
	if !within(is, was) || others != 0 {
		t.Errorf("additional: %d missing, %q of %q", others, is, was)
	}
}

// checkGlue: hosts that only removed records named have no address left, and hosts of served records have their fit ones.
func (x thinning) checkGlue(t *testing.T) {
	if x.denied() {
		return
	}
	named, left := make(map[string]bool), highest(x.out.Extra)
	for _, rr := range slices.Concat(x.out.Answer, x.out.Ns) {
		host, port := targetHost(rr)
		named[strings.ToLower(host)] = true
		for _, glue := range x.in.Extra {
			addr, ok := Address(glue)
			if !ok || !sameName(glue.Header().Name, host) {
				continue
			}
			if v := x.d.Look(verdict.RecordSet{}, addr, port, 0); !v.State().Fit() || v.Drained() {
				continue
			}
			if _, ok := left[key(glue)]; !ok && host != "." {
				t.Errorf("%s lost %s", rr, glue)
			}
		}
	}
	stays := highest(x.out.Answer)
	for _, rr := range x.in.Answer {
		host, _ := targetHost(rr)
		if _, ok := stays[key(rr)]; ok || svcbOf(rr) != nil || host == "." || named[strings.ToLower(host)] {
			continue
		}
		for _, glue := range x.out.Extra {
			if _, ok := Address(glue); ok && glue.Header().Class == dns.ClassINET && sameName(glue.Header().Name, host) {
				t.Errorf("without %s, %s is an orphan", rr, glue)
			}
		}
	}
}

// checkLimit: the limit does not apply to SRV and MX records.
func (x thinning) checkLimit(t *testing.T) {
	unlimited := *x.d
	unlimited.rule.Policy.Limit, unlimited.rule.Health = 0, &unlimited
	out, _ := Thin(x.in, &unlimited, x.draw)
	named := func(section []dns.RR) (texts []string) {
		for _, rr := range section {
			if t := rr.Header().Rrtype; t == dns.TypeSRV || t == dns.TypeMX {
				texts = append(texts, rr.String())
			}
		}
		return texts
	}
	if is, was := named(x.out.Answer), named(out.Answer); !slices.Equal(is, was) {
		t.Errorf("the limit gave %q, without it %q", is, was)
	}
}
