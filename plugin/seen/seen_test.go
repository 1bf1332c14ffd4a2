package seen

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// Noting a known name allocates nothing, whatever its case. The table has a limit, and a name is forgotten after the
// number of sweeps that New got.
func TestNames(t *testing.T) {
	s := New(sweeps)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	odd := &dns.Question{Name: "wWw.eXample.org.", Qtype: dns.TypeA}
	r := answer.Report{Outcome: answer.Thinned, Kept: 3, Total: 70_000}
	eight := new(dns.Msg)
	for i := range 8 {
		eight.Answer = append(eight.Answer, test.A(fmt.Sprintf("%s 300 IN A %s", q.Name, pooltest.Addr(i))))
	}
	turned := eight.Copy()
	slices.Reverse(turned.Answer)
	turned.Answer[0].Header().Name = odd.Name
	s.Note(q, r, eight, 0)
	if allocs := testing.AllocsPerRun(100, func() { s.Note(q, r, eight, 0); s.Note(odd, r, turned, 0) }); allocs != 0 {
		t.Errorf("%v allocations for a name that is known", allocs)
	}
	s.Note(&dns.Question{Name: "www.example.org.", Qtype: dns.TypeAAAA}, answer.Report{Outcome: answer.Closed, Total: 2}, new(dns.Msg), 0)
	if got := strings.Join(namesIn(s), ", "); got != "www.example.org. A thin 3 70000, www.example.org. AAAA closed 0 2" {
		t.Error(got)
	}
	for range sweeps {
		s.Sweep()
		s.Note(odd, r, new(dns.Msg), 0)
	}
	s.Sweep()
	s.Sweep()
	if got := strings.Join(namesIn(s), ", "); got != "www.example.org. A thin 3 70000" {
		t.Errorf("after a quarter of an hour: %s", got)
	}
	for i := range 3 * slots {
		s.Note(&dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}, r, new(dns.Msg), 0)
	}
	if n := len(namesIn(s)); n > slots || n < slots*3/4 {
		t.Errorf("%d names in a table for %d", n, slots)
	}
}

// A name keeps its slot even if an earlier slot becomes free.
func TestNameStays(t *testing.T) {
	s := New(sweeps)
	r := answer.Report{Outcome: answer.Whole, Total: 2}
	var neighbours []*dns.Question // its first slot is the same
	for i := 0; len(neighbours) < 2; i++ {
		q := &dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}
		if len(neighbours) == 0 || slotHash(q)%slots == slotHash(neighbours[0])%slots {
			neighbours = append(neighbours, q)
		}
	}
	s.Note(neighbours[0], r, new(dns.Msg), 0)
	s.Note(neighbours[1], r, new(dns.Msg), 0)
	for range sweeps + 2 {
		s.Sweep()
		s.Note(neighbours[1], r, new(dns.Msg), 0)
	}
	s.Note(neighbours[1], answer.Report{Outcome: answer.Closed, Total: 2}, new(dns.Msg), 0)
	if got, want := strings.Join(namesIn(s), ", "), neighbours[1].Name+" A closed 0 2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The addresses and hosts in an answer are kept apart by their records, and noted once for each owner.
func TestDestinations(t *testing.T) {
	answers := func(records ...string) *dns.Msg {
		m := new(dns.Msg)
		for _, text := range records {
			text, extra := strings.CutPrefix(text, "+")
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			if extra {
				m.Extra = append(m.Extra, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		return m
	}
	seen := make(map[uint64]string)
	for records, want := range map[string]string{
		"":                            "[]",
		"a. A 10.0.0.1|a. A 10.0.0.2": "[{a.  0 [10.0.0.1 10.0.0.2]}]",
		"a. A 10.0.0.1|a. A 10.0.0.3": "[{a.  0 [10.0.0.1 10.0.0.3]}]",
		"b. CNAME a.|A. A 10.0.0.1":   "[{a.  0 [10.0.0.1]}]",
		"b. A 10.0.0.1":               "[{b.  0 [10.0.0.1]}]",
		"a. AAAA 2001:db8::1":         "[{a.  0 [2001:db8::1]}]",
		"s. SRV 1 1 80 H.|+h. A 10.0.0.1|+s. TXT x":              "[{s. h. 80 []} {h.  0 [10.0.0.1]}]",
		"s. SRV 1 1 81 h.|+h. A 10.0.0.1":                        "[{s. h. 81 []} {h.  0 [10.0.0.1]}]",
		"s. MX 1 h.":                                             "[{s. h. 0 []}]",
		"s. HTTPS 1 . port=8443 ipv4hint=10.0.0.1 ipv6hint=::1":  "[{s. s. 8443 []} {s.  8443 [10.0.0.1 ::1]}]",
		"s. HTTPS 1 h. port=8443 ipv4hint=10.0.0.1 ipv6hint=::1": "[{s. h. 8443 []} {s.  8443 [10.0.0.1 ::1]}]",
	} {
		m := answers(strings.FieldsFunc(records, func(r rune) bool { return r == '|' })...)
		print := fingerprint(m)
		var got []string
		for _, x := range destinationsOf(m, print).All {
			got = append(got, fmt.Sprint("{", x.Owner, " ", x.Host, " ", x.Port, " ", x.Addrs, "}"))
		}
		if got := fmt.Sprint(got); got != want {
			t.Errorf("%s: %s, want %s", records, got, want)
		}
		if other, ok := seen[print]; ok {
			t.Errorf("%s is confused with %s", records, other)
		}
		seen[print] = records
	}
	m := new(dns.Msg)
	for i := range maxDestinations + 1 {
		if m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "a."}, A: pooltest.Addr(i).AsSlice()}); i == maxDestinations-1 && len(destinationsOf(m, 0).All[0].Addrs) != maxDestinations {
			t.Errorf("of %d addresses some are not noted", maxDestinations)
		}
	}
	if l := destinationsOf(m, 0); l.All != nil {
		t.Errorf("%d addresses are noted", len(m.Answer))
	}
}

// The targets of names are forgotten when the server blocks change.
func TestForgetDestinations(t *testing.T) {
	s := New(sweeps)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	m := new(dns.Msg)
	m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name}, A: pooltest.Addr(1).AsSlice()})
	s.Note(q, answer.Report{Total: 1}, m, 1)
	led := func() (n int) {
		for i := range s.slots {
			if x := s.slots[i].Load(); x != nil && x.destinations[1].Load() != nil {
				n++
			}
		}
		return n
	}
	if led() != 1 {
		t.Errorf("%d names have targets, want one", led())
	}
	s.ForgetDestinations()
	if led() != 0 || len(namesIn(s)) != 1 {
		t.Errorf("%d of %d names have targets after the blocks changed", led(), len(namesIn(s)))
	}
}

// Many queries may note names while another goroutine lists them.
func TestNamesInParallel(t *testing.T) {
	s := New(sweeps)
	t.Run("all", func(t *testing.T) {
		for range 4 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				for i := range 2000 {
					s.Note(&dns.Question{Name: fmt.Sprintf("n%d.example.org.", i%100), Qtype: dns.TypeA}, answer.Report{Outcome: answer.Outcome(i % answer.Outcomes)}, new(dns.Msg), 0)
					if i%500 == 0 {
						_ = namesIn(s)
					}
				}
			})
		}
	})
	if n := len(namesIn(s)); n != 100 {
		t.Errorf("%d names, want 100", n)
	}
}

// BenchmarkNote measures what a query pays to note a known name.
func BenchmarkNote(b *testing.B) {
	s := New(sweeps)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	r := answer.Report{Outcome: answer.Thinned, Kept: 3, Total: 4}
	m := new(dns.Msg)
	for i := range 4 {
		m.Answer = append(m.Answer, test.A(fmt.Sprintf("%s 300 IN A %s", q.Name, pooltest.Addr(i))))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Note(q, r, m, 0)
	}
}

// sweeps is the number of sweeps after which the names of these tests are forgotten.
const sweeps = 15

// namesIn lists the names in the set, each with its type and the last report.
func namesIn(s *Names) (all []string) {
	s.Each(func(x *Name) {
		r := x.Report()
		all = append(all, fmt.Sprint(x.Name, " ", dns.TypeToString[x.Type], " ", r.Outcome, " ", r.Kept, " ", r.Total))
	})
	slices.Sort(all)
	return all
}

// A report is kept as far as the status page shows it: every outcome, with all that is known of its health.
func TestReportIsKept(t *testing.T) {
	s := New(sweeps)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	for o := range answer.Outcome(answer.Outcomes) {
		for flags := range 8 {
			want := answer.Report{Outcome: o, Enforced: o, Kept: 3, Total: 1<<28 - 1, Checked: flags&1 != 0, Drained: flags&2 != 0, Forced: flags&4 != 0}
			s.Note(q, want, new(dns.Msg), 0)
			s.Each(func(x *Name) {
				if got := x.Report(); got != want {
					t.Errorf("%+v is kept as %+v", want, got)
				}
			})
		}
	}
}
