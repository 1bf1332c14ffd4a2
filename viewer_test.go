package multivalue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// A snapshot has every target once, while others come and go, and no turn of the loop shows many more than it may (B75).
func TestSnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		p.life.Lock()
		p.record(true)
		p.life.Unlock()
		n.Kill(pooltest.Addr(7))
		lookAll(s, addrs(0, 10_000))
		pooltest.Elapse(time.Minute)
		shot, err := p.viewer.Snapshot(context.Background())
		if err != nil || len(shot.Targets) != 10_000 || shot.Summary.Down != 1 || shot.Summary.Up != 9_999 || shot.Summary.Names != 157 || !shot.Summary.Running {
			t.Fatalf("%d targets, %+v, %v", len(shot.Targets), shot.Summary, err)
		}
		dead := shot.Targets[7]
		if dead.Address.Addr() != pooltest.Addr(7) || dead.State != "down" || dead.Reason != pooltest.ErrRefused.Error() || dead.Name != owners(7) || dead.Since.IsZero() || len(dead.Probes.Probes()) < 4 {
			t.Errorf("%+v", dead)
		}
		if dead.Pace != pooltest.Pace.String() || dead.Check != "tcp://:80" || !dead.NextProbe.After(shot.Taken) || dead.LastProbe.After(shot.Taken) {
			t.Errorf("%+v", dead)
		}
		if len(shot.Changes) == 0 || shot.Changes[len(shot.Changes)-1].Number < uint64(len(shot.Changes)) {
			t.Errorf("%d changes", len(shot.Changes))
		}
		if c := shot.Changes[0]; c.From != "unknown" || c.To != "down" || c.Name != owners(7) {
			t.Errorf("%+v", c)
		}
		if shot.Summary.Started != clock.Started || shot.Summary.Host == "" {
			t.Errorf("the status of %q, since %s", shot.Summary.Host, shot.Summary.Started)
		}
		most := 0
		for shard := 0; shard < table.Shards; {
			turn := new(status.Snapshot)
			_ = p.consult(context.Background(), func() { shard = p.rows(shard, turn) })
			most = max(most, len(turn.Targets))
		}
		if most > 2*rowsATurn {
			t.Errorf("%d targets in a turn of the loop, which may show %d", most, rowsATurn)
		}
		again, _ := p.viewer.Snapshot(context.Background())
		if again != shot {
			t.Error("a snapshot that has just been taken was taken again")
		}
		pooltest.Elapse(time.Second)
		if again, _ = p.viewer.Snapshot(context.Background()); again == shot {
			t.Error("an old snapshot is shown")
		}
		n.Kill(addrs(100, 3000)...)
		pooltest.Elapse(time.Minute)
		shot, _ = p.viewer.Snapshot(context.Background())
		first, last := shot.Changes[0].Number, shot.Changes[len(shot.Changes)-1].Number
		if len(shot.Changes) > keptChanges || last != 2901 || shot.Changed != last || last-first != uint64(len(shot.Changes)-1) {
			t.Errorf("%d changes, from %d to %d", len(shot.Changes), first, last)
		}
	})
}

// Nothing is kept for the status while nobody can look, and what was is dropped.
func TestNothingIsKeptForNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		h := serving(p, zoneOf(www...), s)
		ask := func() {
			w := dnstest.NewRecorder(&test.ResponseWriter{})
			_, _ = h.ServeDNS(context.Background(), w, query(owner, dns.TypeA))
			synctest.Wait()
			pooltest.Elapse(30 * time.Second)
		}
		kept := func() (n int) {
			p.life.Lock()
			defer p.life.Unlock()
			p.do(func() {
				for _, w := range p.monitors {
					if w.history != nil {
						n++
					}
				}
				n += len(p.changes)
			})
			return n
		}
		on := func(on bool) { p.life.Lock(); p.record(on); p.life.Unlock() }
		if ask(); kept() != 0 || p.sightings.Load() != nil {
			t.Errorf("%d kept without a listener", kept())
		}
		on(true)
		if ask(); kept() != 2 || len(p.sightings.Load().names(nil)) != 1 {
			t.Errorf("%d kept, %v", kept(), p.sightings.Load().names(nil))
		}
		on(false)
		if ask(); kept() != 0 || p.sightings.Load() != nil {
			t.Errorf("%d kept after the listener went", kept())
		}
	})
	if size := unsafe.Sizeof(status.History{}); size > 144 {
		t.Errorf("a history takes %d bytes", size)
	}
}

// A name that was seen costs nothing more, whatever its case; the table is bounded; and what nobody asks for is forgotten as
// a target is.
func TestSightings(t *testing.T) {
	s := new(sightings)
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
	s.note(q, r, eight, 0)
	if allocs := testing.AllocsPerRun(100, func() { s.note(q, r, eight, 0); s.note(odd, r, turned, 0) }); allocs != 0 {
		t.Errorf("%v allocations for a name that is known", allocs)
	}
	s.note(&dns.Question{Name: "www.example.org.", Qtype: dns.TypeAAAA}, answer.Report{Outcome: answer.Closed, Total: 2}, new(dns.Msg), 0)
	names := s.names([]status.Target{{Name: "other.example.org."}, {Name: "www.example.org."}})
	if got := fmt.Sprint(names); got != "[{other.example.org. []} {www.example.org. [{A thin 3 70000} {AAAA closed 0 2}]}]" {
		t.Error(got)
	}
	for range sightingSweeps {
		s.sweep()
		s.note(odd, r, new(dns.Msg), 0)
	}
	s.sweep()
	s.sweep()
	if got := fmt.Sprint(s.names(nil)); got != "[{www.example.org. [{A thin 3 70000}]}]" {
		t.Errorf("after a quarter of an hour: %s", got)
	}
	for i := range 3 * sightingSlots {
		s.note(&dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}, r, new(dns.Msg), 0)
	}
	if n := len(s.names(nil)); n > sightingSlots || n < sightingSlots*3/4 {
		t.Errorf("%d names in a table for %d", n, sightingSlots)
	}
}

// A name stays where it is, though a place before it becomes free.
func TestSightingStays(t *testing.T) {
	s := new(sightings)
	r := answer.Report{Outcome: answer.Whole, Total: 2}
	var neighbours []*dns.Question // whose first place is the same
	for i := 0; len(neighbours) < 2; i++ {
		q := &dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}
		if len(neighbours) == 0 || sightingHash(q)%sightingSlots == sightingHash(neighbours[0])%sightingSlots {
			neighbours = append(neighbours, q)
		}
	}
	s.note(neighbours[0], r, new(dns.Msg), 0)
	s.note(neighbours[1], r, new(dns.Msg), 0)
	for range sightingSweeps + 2 {
		s.sweep()
		s.note(neighbours[1], r, new(dns.Msg), 0)
	}
	s.note(neighbours[1], answer.Report{Outcome: answer.Closed, Total: 2}, new(dns.Msg), 0)
	if got, want := fmt.Sprint(s.names(nil)), "[{"+neighbours[1].Name+" [{A closed 0 2}]}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Where an answer leads is told apart whatever the records are, and taken down once for each owner.
func TestLeads(t *testing.T) {
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
		print := leadsPrint(m)
		var got []string
		for _, x := range leadsOf(m, print).all {
			got = append(got, fmt.Sprint("{", x.owner, " ", x.host, " ", x.port, " ", x.addrs, "}"))
		}
		if got := fmt.Sprint(got); got != want {
			t.Errorf("%s: %s, want %s", records, got, want)
		}
		if other, ok := seen[print]; ok {
			t.Errorf("%s is taken for %s", records, other)
		}
		seen[print] = records
	}
	m := new(dns.Msg)
	for i := range maxLeads + 1 {
		if m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "a."}, A: pooltest.Addr(i).AsSlice()}); i == maxLeads-1 && len(leadsOf(m, 0).all[0].addrs) != maxLeads {
			t.Errorf("of %d addresses some are not taken down", maxLeads)
		}
	}
	if l := leadsOf(m, 0); l.all != nil {
		t.Errorf("%d addresses are taken down", len(m.Answer))
	}
}

// A snapshot tells of each target which names lead to it, also one that was not the first, over an alias or a host, and no
// longer one that leads elsewhere by now.
func TestLinks(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Types |= answer.TypesOf(dns.TypeSRV)
		zone := map[string][]string{
			"www":  {"www.example.org. 30 IN A 10.0.0.1", "www.example.org. 30 IN A 10.0.0.2"},
			"api":  {"api.example.org. 30 IN A 10.0.0.2", "api.example.org. 30 IN A 10.0.0.3"},
			"aka":  {"aka.example.org. 30 IN CNAME api.example.org.", "api.example.org. 30 IN A 10.0.0.2", "api.example.org. 30 IN A 10.0.0.3"},
			"_s":   {"_s.example.org. 30 IN SRV 1 1 80 h.example.org.", "_s.example.org. 30 IN SRV 1 1 80 i.example.org."},
			"_s h": {"h.example.org. 30 IN A 10.0.0.3", "i.example.org. 30 IN A 10.0.0.4"},
		}
		h := serving(p, plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			m := new(dns.Msg).SetReply(r)
			first, _, _ := strings.Cut(r.Question[0].Name, ".")
			for _, text := range zone[first] {
				rr, _ := dns.NewRR(text)
				m.Answer = append(m.Answer, rr)
			}
			for _, text := range zone[first+" h"] {
				rr, _ := dns.NewRR(text)
				m.Extra = append(m.Extra, rr)
			}
			return dns.RcodeSuccess, w.WriteMsg(m)
		}), s)
		p.life.Lock()
		p.record(true)
		p.life.Unlock()
		ask := func(name string, qtype uint16) {
			_, _ = h.ServeDNS(context.Background(), dnstest.NewRecorder(&test.ResponseWriter{}), query(name+".example.org.", qtype))
			pooltest.Elapse(5 * time.Second)
		}
		links := func() (text string) {
			shot, err := p.viewer.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range shot.Targets {
				text += fmt.Sprintf("%d %s; ", x.Address.Addr().As4()[3], strings.ReplaceAll(strings.Join(x.Names, " "), ".example.org.", ""))
			}
			return text
		}
		ask("www", dns.TypeA)
		ask("api", dns.TypeA)
		ask("aka", dns.TypeA)
		ask("_s", dns.TypeSRV)
		if got, want := links(), "1 www; 2 aka api www; 3 _s aka api; 4 _s; "; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		zone["www"] = []string{"www.example.org. 30 IN A 10.0.0.2", "www.example.org. 30 IN A 10.0.0.5"}
		ask("www", dns.TypeA)
		if got, want := links(), "1 ; 2 aka api www; 3 _s aka api; 4 _s; 5 www; "; got != want {
			t.Errorf("after a move %s, want %s", got, want)
		}
	})
}

// Changes are counted while nobody can look, so that whoever can again is told how many are lost.
func TestChangesAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		pass(20*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		n.Kill(pooltest.Addr(1))
		pass(time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
		p.life.Lock()
		p.record(true)
		p.life.Unlock()
		shot, err := p.viewer.Snapshot(context.Background())
		if err != nil || shot.Changed != 1 || len(shot.Changes) != 0 {
			t.Errorf("%d changes, of which %d are kept, %v; want one and none", shot.Changed, len(shot.Changes), err)
		}
	})
}

// Where names led is forgotten when the server blocks change.
func TestRelead(t *testing.T) {
	s := new(sightings)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	m := new(dns.Msg)
	m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name}, A: pooltest.Addr(1).AsSlice()})
	s.note(q, answer.Report{Total: 1}, m, 1)
	led := func() (n int) {
		for i := range s {
			if x := s[i].Load(); x != nil && x.leads[1].Load() != nil {
				n++
			}
		}
		return n
	}
	if led() != 1 {
		t.Errorf("%d names lead somewhere, want one", led())
	}
	s.relead()
	if led() != 0 || len(s.names(nil)) != 1 {
		t.Errorf("%d of %d names lead somewhere after the blocks changed", led(), len(s.names(nil)))
	}
}

// Many queries may note, and somebody list, at once.
func TestSightingsInParallel(t *testing.T) {
	s := new(sightings)
	t.Run("all", func(t *testing.T) {
		for range 4 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				for i := range 2000 {
					s.note(&dns.Question{Name: fmt.Sprintf("n%d.example.org.", i%100), Qtype: dns.TypeA}, answer.Report{Outcome: answer.Outcome(i % answer.Outcomes)}, new(dns.Msg), 0)
					if i%500 == 0 {
						_ = s.names(nil)
					}
				}
			})
		}
	})
	if n := len(s.names(nil)); n != 100 {
		t.Errorf("%d names, want 100", n)
	}
}

// What an explanation believes of an address is what a query does, in every state and with every order; but an explanation
// leaves nothing to be watched, and notes nothing.
func TestPeekingIsLooking(t *testing.T) {
	for name, second := range map[string]func(*CheckSpec){
		"a port":   func(*CheckSpec) {},
		"no ports": func(c *CheckSpec) { c.port, c.portNamed = 0, true },
		"nowhere":  func(c *CheckSpec) { c.port = 0 },
		"an owner": func(c *CheckSpec) { c.forOwner = func(string) Prober { return nil } },
	} {
		t.Run(name, func(t *testing.T) { peekAndLook(t, second) })
	}
}

func peekAndLook(t *testing.T, second func(*CheckSpec)) {
	s := upBoard(8)
	two := testStanza("tcp://:81", pooltest.NewNetwork(), pooltest.Pace)
	second(&two.checks[0])
	s.checks = append(s.checks, two.checks[0])
	s.account.checks = s.checks
	s.pool.reconcile(time.Now())
	random := rand.New(rand.NewPCG(1, 2))
	measured := []verdict.State{verdict.Unknown, verdict.Up, verdict.Down}
	for n := range 500 {
		at := pooltest.Addr(random.IntN(12))
		if n%7 == 0 {
			at = netip.MustParseAddr("192.0.2.1") // outside
		}
		word := []string{"", "up 10.0.0.0/8", "down 10.0.0.0/9", "drain 10.0.0.0/8"}[random.IntN(4)]
		states, err := force.Parse([]byte(word))
		if err != nil {
			t.Fatal(err)
		}
		s.forced = force.Static(states)
		s.account.full.Store(random.IntN(2) == 0)
		s.need = random.IntN(2)
		if e := s.pool.table.Find(&verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(at, 80)}, table.Hash(&verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(at, 80)}, s.checks[0].seed)); e != nil {
			e.Store(verdict.Verdict{State: measured[random.IntN(3)], Holds: time.Minute})
			e.TakeAsked()
			if (peeking{&s.stanza}).Look(owner, at, 0, 30); e.TakeAsked() {
				t.Fatal("a look at the status counts as a query")
			}
		}
		waiting := len(s.pool.requests)
		got := peeking{&s.stanza}.Look(owner, at, 0, 30)
		if len(s.pool.requests) != waiting {
			t.Fatal("a look at the status has an address watched")
		}
		if want := s.stanza.Look(owner, at, 0, 30); got != want {
			t.Fatalf("%s, %q: explained as %x, looked up as %x", at, word, got, want)
		}
	}
}

// A name with a strange owner, and what is forced, come out in words; isolation is told of.
func TestStory(t *testing.T) {
	d := decision{Decision: answer.Decision{Outcome: answer.Whole, Primaries: 2}, stanza: &upBoard(1).stanza}
	for _, c := range []answer.Tier{0, 0, 1, 2, 2} {
		d.Candidates = append(d.Candidates, answer.Candidate{Tier: c})
	}
	if got := d.reason(nil); got != "2 of 2 are not down, and served; 1 backup is not needed; 2 drained ones are not needed" {
		t.Error(got)
	}
	d.Outcome, d.Candidates = answer.Thinned, d.Candidates[:2]
	for primaries, want := range map[int]string{3: "2 of 3 are not down, and the other is left out", 4: "2 of 4 are not down, and the others are left out"} {
		d.Primaries = primaries
		if got := d.reason(nil); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		serving(p, zoneOf(www...), s)
		lookAll(s, addrs(0, 20))
		pooltest.Elapse(time.Minute)
		n.Kill(addrs(0, 20)...)
		pooltest.Elapse(20 * time.Second)
		all, err := p.viewer.Explain(context.Background(), status.Question{Name: owner, Type: "A"})
		if err != nil || len(all) != 1 || !strings.Contains(fmt.Sprint(all[0].Steps), "no target answers just now") {
			t.Errorf("%+v, %v", all, err)
		}
		shot, err := p.viewer.Snapshot(context.Background())
		if err != nil || shot.Summary.IsolatedSince.IsZero() {
			t.Errorf("%+v, %v", shot, err)
		}
	})
}

// A panic below is an error to whoever looks, not an answer in which nothing is wrong.
func TestExplainTellsOfAPanic(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		serving(p, plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			panic("below")
		}), forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org."))
		all, err := p.viewer.Explain(context.Background(), status.Question{Name: owner, Type: "A"})
		if err == nil || len(all) != 0 || strings.Contains(err.Error(), "below") {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// However many addresses each of however many records leads to, an explanation stays small, and says what it leaves out.
func TestExplainIsBounded(t *testing.T) {
	const records, addresses = 600, 800
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:0", n, pooltest.Pace), "example.org.")
		s.rule.Types |= answer.TypesOf(dns.TypeSRV)
		m := new(dns.Msg)
		for i := range records {
			m.Answer = append(m.Answer, test.SRV(fmt.Sprintf("%s 300 IN SRV 1 1 %d host.example.org.", owner, i+1)))
		}
		for i := range addresses {
			m.Extra = append(m.Extra, test.A(fmt.Sprintf("host.example.org. 300 IN A %s", pooltest.Addr(i))))
		}
		serving(p, plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			return dns.RcodeSuccess, w.WriteMsg(m.Copy().SetReply(r))
		}), s)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		all, err := p.viewer.Explain(context.Background(), status.Question{Name: owner, Type: "SRV"})
		runtime.ReadMemStats(&after)
		if err != nil || len(all) != 1 || len(all[0].Sets) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		set := all[0].Sets[0]
		listed := 0
		for _, m := range set.Members {
			listed += 1 + len(m.Checks)
		}
		last := set.Members[len(set.Members)-1]
		if listed > maxShown || listed < maxShown/2 || len(set.Members[0].Checks) != addresses || set.Total != records || set.More != records-len(set.Members) || last.More == 0 {
			t.Errorf("%d listed, %d of %d members, %d more, %d checks of the first, %d more of the last", listed, len(set.Members), set.Total, set.More, len(set.Members[0].Checks), last.More)
		}
		if !strings.Contains(set.Why, fmt.Sprintf("and %d more", set.More)) || !strings.Contains(last.Why, "not listed") {
			t.Errorf("%q, %q", set.Why, last.Why)
		}
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 64<<20 {
			t.Errorf("%d MiB are allocated for an explanation", taken>>20)
		}
	})
}

// However many want to know the same, the plugins below are asked once; of all that is asked, so much at a time as may be; and
// nobody waits for ever, though a plugin does not heed its context.
func TestExplainAsksLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		var asked, busy atomic.Int64
		release := make(chan struct{})
		answers := zoneOf(www...)
		serving(p, plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			asked.Add(1)
			busy.Add(1)
			<-release
			busy.Add(-1)
			return answers.ServeDNS(ctx, w, r)
		}), forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org."))
		var failed atomic.Int64
		var all sync.WaitGroup
		explain := func(name string) {
			all.Go(func() {
				if _, err := p.viewer.Explain(context.Background(), status.Question{Name: name, Type: "A"}); err != nil {
					failed.Add(1)
				}
			})
		}
		for range 50 {
			explain(owner)
		}
		if synctest.Wait(); asked.Load() != 1 {
			t.Errorf("50 who want to know the same ask %d times", asked.Load())
		}
		for i := range 2 * maxTold {
			explain(fmt.Sprintf("n%d.example.org.", i))
		}
		if synctest.Wait(); busy.Load() != maxTelling || len(p.viewer.told) > maxTold {
			t.Errorf("%d questions at a time, %d kept", busy.Load(), len(p.viewer.told))
		}
		began := time.Now()
		all.Wait()
		if waited := time.Since(began); waited > tellWithin || failed.Load() != 50+2*maxTold {
			t.Errorf("%d gave up after %v", failed.Load(), waited)
		}
		close(release)
		pooltest.Elapse(time.Minute)
		for range 2 {
			explain(owner)
			all.Wait()
		}
		if before := int64(1 + maxTelling - 1); asked.Load() != before+1 || failed.Load() != 50+2*maxTold {
			t.Errorf("%d asked, want %d", asked.Load(), before+1)
		}
	})
}

// BenchmarkTurn is what a turn of the loop takes that shows targets, among many.
func BenchmarkTurn(b *testing.B) {
	s := upBoard(100_000)
	shot := new(status.Snapshot)
	shard := 0
	for b.Loop() {
		if shard >= table.Shards {
			shard, shot.Targets = 0, shot.Targets[:0]
		}
		shard = s.pool.rows(shard, shot)
	}
}

// BenchmarkSighting is what a query pays to note a name that is known.
func BenchmarkSighting(b *testing.B) {
	s := new(sightings)
	q := &dns.Question{Name: "www.example.org.", Qtype: dns.TypeA}
	r := answer.Report{Outcome: answer.Thinned, Kept: 3, Total: 4}
	m := new(dns.Msg)
	for i := range 4 {
		m.Answer = append(m.Answer, test.A(fmt.Sprintf("%s 300 IN A %s", q.Name, pooltest.Addr(i))))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.note(q, r, m, 0)
	}
}

// BenchmarkLink is what it takes to link as many names to targets as are listed, with four addresses each.
func BenchmarkLink(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			s := upBoard(n)
			s.pool.blocks.Store(&[]*block{{zones: zones{"example.org.": {name: "example.org.", stanza: &s.stanza}}}})
			seen := new(sightings)
			for i := range sightingSlots {
				q := &dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}
				m := new(dns.Msg)
				for k := range 4 {
					m.Answer = append(m.Answer, test.A(fmt.Sprintf("%s 300 IN A %s", q.Name, pooltest.Addr((4*i+k)%n))))
				}
				seen.note(q, answer.Report{}, m, 0)
			}
			s.pool.sightings.Store(seen)
			shot := new(status.Snapshot)
			for shard := 0; shard < table.Shards; {
				shard = s.pool.rows(shard, shot)
			}
			shot.Sort()
			links := 0
			for b.Loop() {
				for i := range shot.Targets {
					shot.Targets[i].Names = nil
				}
				s.pool.viewer.link(shot)
			}
			for i := range shot.Targets {
				links += len(shot.Targets[i].Names)
			}
			b.ReportMetric(float64(links), "links")
		})
	}
}
