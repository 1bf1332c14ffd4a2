package answer

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// seated is a health that keeps its verdicts in seats, which an address can leave, and takes note of who was asked for.
type seated struct {
	seats map[netip.Addr]*place
	asked map[netip.Addr]uint32
	looks int
}

type place struct {
	*seated
	addr    netip.Addr
	verdict verdict.Brief
	left    bool
}

func (p *place) Verdict(ttl uint32) (verdict.Brief, bool) {
	if p.left {
		return 0, false
	}
	p.asked[p.addr] = ttl
	return p.verdict, true
}

func (s *seated) Look(_ string, addr netip.Addr, _ uint16, ttl uint32) verdict.Brief {
	s.looks++
	if p := s.seats[addr]; p != nil {
		v, _ := p.Verdict(ttl)
		return v
	}
	return 0
}

func (s *seated) Seat(addr netip.Addr) Seat {
	if p := s.seats[addr]; p != nil {
		return p
	}
	return nil
}

// settle gives an address a new seat, or takes it away.
func (s *seated) settle(addr netip.Addr, v verdict.Brief, stays bool) {
	if old := s.seats[addr]; old != nil {
		old.left = true
		delete(s.seats, addr)
	}
	if stays {
		s.seats[addr] = &place{seated: s, addr: addr, verdict: v}
	}
}

// ruled are rules that are one rule.
type ruled struct{ Rule }

func (r *ruled) SOA(string) *dns.SOA                           { return nil }
func (r *ruled) Follow(string, string) bool                    { return true }
func (r *ruled) Addresses(string, uint16) ([]netip.Addr, bool) { return nil, false }

// one is the rule for every owner.
type one struct{ *ruled }

func (o one) Rule(string) *Rule { return &o.ruled.Rule }

// Remembering where verdicts stand changes no answer, no report and nothing of what is noted as asked for: whatever
// verdicts change, addresses come, go and come back, and sets share a slot.
func TestRecallChangesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	health := &seated{seats: make(map[netip.Addr]*place)}
	policy := Policy{Limit: 4, MinUp: Quorum{Count: 2}, TTL: TTL{Min: 5}, Backup: []netip.Prefix{netip.MustParsePrefix("10.0.0.4/30")}}
	plain := one{&ruled{Rule{Types: DefaultTypes, Policy: policy, Health: health}}}
	recalling := one{&ruled{Rule{Types: DefaultTypes, Policy: policy, Health: health, Recall: new(Recall)}}}
	all := addresses(20, 30).Answer
	looks := [2]int{}
	for round := range 20_000 {
		addr, _ := Address(all[rng.IntN(6)])
		if round < 20 || rng.IntN(40) == 0 {
			v := verdict.Verdict{State: verdict.State(rng.IntN(4)), Holds: time.Duration(rng.IntN(60)) * time.Second}
			health.settle(addr, v.Brief(), rng.IntN(8) > 0)
		}
		from := rng.IntN(2)
		m := addresses(0, 0)
		for _, rr := range all[from : from+2+rng.IntN(4)] {
			rr := dns.Copy(rr)
			rr.Header().Ttl = uint32(10 + round%3)
			m.Answer = append(m.Answer, rr)
		}
		switch last := len(m.Answer) - 1; rng.IntN(10) {
		case 0:
			m.Answer = append(m.Answer, m.Answer[0]) // one that stands twice
		case 1:
			m.Answer[rng.IntN(last)] = dns.Copy(all[15]) // another in the middle
		case 2:
			m.Answer[rng.IntN(last)] = test.CNAME("www.example.org. 30 IN CNAME www.example.net.")
		case 3:
			m.Answer[last].Header().Name = "mail.example.org."
		}
		var texts [2]string
		var reports [2]Report
		var asked [2]map[netip.Addr]uint32
		seed := rng.Uint64()
		for i, rules := range []Rules{plain, recalling} {
			health.asked = make(map[netip.Addr]uint32)
			before := health.looks
			out, report := Thin(m, rules, &Draw{IntN: rand.New(rand.NewPCG(seed, 1)).IntN})
			texts[i], reports[i], asked[i] = out.String(), report, health.asked
			looks[i] += health.looks - before
		}
		if texts[0] != texts[1] || reports[0] != reports[1] || !reflect.DeepEqual(asked[0], asked[1]) {
			t.Fatalf("round %d: %+v, asked %v\n%s\nwith a recall %+v, asked %v\n%s",
				round, reports[0], asked[0], texts[0], reports[1], asked[1], texts[1])
		}
	}
	if looks[1] >= looks[0] { // by how much is luck: where sets share a slot differs from process to process
		t.Errorf("%d look-ups, %d without a recall: it was never used", looks[1], looks[0])
	}
}

// A set that comes by again is not looked up, until one of its addresses leaves its seat.
func TestRecallSparesLookUps(t *testing.T) {
	health := &seated{seats: make(map[netip.Addr]*place), asked: make(map[netip.Addr]uint32)}
	rules := one{&ruled{Rule{Types: DefaultTypes, Policy: Policy{Limit: 8}, Health: health, Recall: new(Recall)}}}
	m := addresses(5, 30)
	up := verdict.Verdict{State: verdict.Up}.Brief()
	for _, rr := range m.Answer {
		addr, _ := Address(rr)
		health.settle(addr, up, true)
	}
	looked := func() int {
		before := health.looks
		Thin(m, rules, new(Draw))
		return health.looks - before
	}
	if n := looked(); n != 5 {
		t.Errorf("%d look-ups for the first answer, want one an address", n)
	}
	if n := looked(); n != 0 {
		t.Errorf("%d look-ups for the second answer, want none", n)
	}
	moved, _ := Address(m.Answer[2])
	health.settle(moved, up, true)
	if n := looked(); n != 5 {
		t.Errorf("%d look-ups after an address left its seat, want one an address", n)
	}
	if n := looked(); n != 0 {
		t.Errorf("%d look-ups once it has a seat again, want none", n)
	}
	health.settle(moved, up, false)
	if first, second := looked(), looked(); first != 5 || second != 5 {
		t.Errorf("%d and %d look-ups for a set with an address that has no seat, want one an address", first, second)
	}
}
