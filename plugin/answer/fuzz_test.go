package answer

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// dice gives each address a verdict that follows from the address and a seed.
type dice struct {
	world
	seed uint64
}

func (d *dice) Rule(owner string) *Rule {
	d.rule.Health = d
	return &d.rule
}

func (d *dice) Look(addr netip.Addr, _ uint32) verdict.Brief {
	raw := addr.As16()
	rng := rand.New(rand.NewPCG(d.seed, uint64(raw[15])<<8|uint64(raw[3])))
	return verdict.Verdict{
		State: verdict.State(rng.IntN(4)),
		Since: now.Add(-time.Duration(rng.IntN(1000)) * time.Second),
		Holds: time.Duration(rng.IntN(200)) * time.Second,
	}.Brief()
}

// FuzzThin thins what it can unpack, under every policy. Whatever the message: no panic; nothing in it changes; every
// record that goes out came in, with a TTL that is no higher; no judged set is over the limit, or empty unless it was
// closed; what was no address stays.
func FuzzThin(f *testing.F) {
	for _, m := range []*dns.Msg{addresses(1, 30), addresses(3, 300), addresses(12, 300)} {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "www.example.org."})
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint64(1), uint8(2), uint8(1), uint8(0))
		f.Add(packed, uint64(2), uint8(0), uint8(50), uint8(1))
	}
	f.Fuzz(func(t *testing.T, packed []byte, seed uint64, limit, minUp, bits uint8) {
		m := new(dns.Msg)
		if m.Unpack(packed) != nil {
			return
		}
		d := &dice{seed: seed}
		d.rule.Policy = Policy{
			Limit: int(limit % 16), MinUp: Quorum{Count: int(minUp)},
			AllDown: AllDown(bits % 3), TTL: TTL{Max: uint32(bits), Min: uint32(bits / 2)}, DryRun: bits&64 != 0,
		}
		if bits&128 != 0 {
			d.rule.Policy.MinUp = Quorum{Percent: 1 + int(minUp%100)}
		}
		before := snap(m)
		out, report := Thin(m, d, rand.New(rand.NewPCG(seed, 0)).IntN)
		if after := snap(m); !before.equal(after) {
			t.Fatalf("changed:\n%s\nwas\n%s", after.text, before.text)
		}
		if out == nil {
			if report.Outcome != Closed || d.rule.Policy.AllDown != ServFail || d.rule.Policy.DryRun {
				t.Fatalf("no answer for %+v", report)
			}
			return
		}
		if d.rule.Policy.DryRun && out != m {
			t.Fatal("a dry run changed the answer")
		}
		checkRecords(t, m, out)
		if !report.Signed && !d.rule.Policy.DryRun && report.Outcome != None {
			checkSizes(t, out, d.rule.Policy, report)
		}
	})
}

// key is a record without its TTL.
func key(rr dns.RR) string {
	c := dns.Copy(rr)
	c.Header().Ttl = 0
	return c.String()
}

func checkRecords(t *testing.T, in, out *dns.Msg) {
	highest, others := make(map[string]uint32), 0
	for _, rr := range in.Answer {
		highest[key(rr)] = max(highest[key(rr)], rr.Header().Ttl)
		if _, ok := address(rr); !ok {
			others++
		}
	}
	for _, rr := range out.Answer {
		ttl, known := highest[key(rr)]
		if !known || rr.Header().Ttl > ttl {
			t.Fatalf("%s went out of\n%s", rr, in)
		}
		if _, ok := address(rr); !ok {
			others--
		}
	}
	if others > 0 && out != in {
		// A malformed address record may go with the set it is no part of; nothing else may.
		for _, rr := range in.Answer {
			switch rr.(type) {
			case *dns.A, *dns.AAAA:
				others--
			}
		}
		if others > 0 {
			t.Fatalf("%d records that hold no address are gone:\n%s\nof\n%s", others, out, in)
		}
	}
}

func checkSizes(t *testing.T, out *dns.Msg, p Policy, report Report) {
	var buf [maxSets]set
	sets := survey(out.Answer, buf[:0])
	if len(sets) == maxSets {
		return // some may be beyond what is judged
	}
	for _, s := range sets {
		if p.Limit > 0 && s.size > p.Limit && !s.signed {
			t.Fatalf("%d records of %s, limit %d, %+v:\n%s", s.size, s.owner, p.Limit, report, out)
		}
	}
	if len(sets) == 0 && report.Outcome != Closed {
		t.Fatalf("nothing is left, %+v", report)
	}
}
