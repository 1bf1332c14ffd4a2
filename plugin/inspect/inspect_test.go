package inspect

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

const owner = "www.example.org."

// fixture is a source for a pool with one stanza for example.org. The network of that stanza answers every probe.
type fixture struct {
	*Source
	pool       *pool.Pool
	generation *pool.Generation
	stanza     *rules.Stanza
	block      *rules.Block
	names      *seen.Names
}

// newFixture makes a fixture with next as the plugins below. Its pool does not run.
func newFixture(t testing.TB, next plugin.Handler) *fixture {
	t.Helper()
	c, err := check.New("tcp://:80")
	if err != nil {
		t.Fatal(err)
	}
	config := &corefile.Config{
		At: "Corefile:1", Zones: []string{"example.org."}, Checks: []*check.Check{c}, Pace: pooltest.Pace, MaxTargets: 200_000, Types: answer.DefaultTypes,
	}
	s := rules.NewStanza(config, func(c *check.Check) pool.CheckSpec { return pool.NewCheckSpec(c).WithProber(pooltest.NewNetwork()) })
	f := &fixture{pool: pool.New(), generation: new(pool.Generation), stanza: s, names: seen.New(15)}
	f.pool.AddGroup(f.generation, s.Group)
	f.pool.Join(f.generation)
	f.block = rules.NewBlock(nil, []*corefile.Config{config}, []*rules.Stanza{s})
	f.block.Resolver.SetNext(next)
	f.Source = New(f.pool, new(force.Watcher), func() []*rules.Block { return []*rules.Block{f.block} }, func() *seen.Names { return f.names })
	return f
}

// answers is a zone in which every name has two addresses.
var answers plugin.Handler = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.Answer = append(m.Answer, test.A(r.Question[0].Name+" 30 IN A 10.0.0.1"), test.A(r.Question[0].Name+" 30 IN A 10.0.0.2"))
	return dns.RcodeSuccess, w.WriteMsg(m)
})

// The reason for the outcome of a set is put into words, whatever its candidates are.
func TestStory(t *testing.T) {
	d := decision{Decision: answer.Decision{Outcome: answer.Whole, Primaries: 2}, stanza: newFixture(t, nil).stanza}
	for _, c := range []answer.Tier{0, 0, 1, 10, 10} {
		d.Candidates = append(d.Candidates, answer.Candidate{Tier: c})
	}
	if got := d.explain(nil); got != "2 of 2 are not down, and all are served; 1 backup is not needed; 2 drained addresses are not needed" {
		t.Error(got)
	}
	alone := decision{Decision: answer.Decision{Alone: true}, stanza: d.stanza}
	if got := alone.explain(nil); got != "it is the only address of the set, which is served whatever its health is, and not probed because of this set" {
		t.Error(got)
	}
	d.Outcome, d.Candidates = answer.Thinned, d.Candidates[:2]
	for primaries, want := range map[int]string{3: "2 of 3 are not down, and the other is left out", 4: "2 of 4 are not down, and the others are left out"} {
		d.Primaries = primaries
		if got := d.explain(nil); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Each name is listed once, with its answers by type: names from queries, and names under which targets were added.
func TestNamesOfASnapshot(t *testing.T) {
	targets := []status.Target{{Name: "other.example.org."}, {Name: owner}, {Name: owner}}
	if got := fmt.Sprint(names(nil, targets)); got != "[{other.example.org. []} {www.example.org. []}]" {
		t.Errorf("without a status page: %s", got)
	}
	s := seen.New(15)
	s.Note(&dns.Question{Name: owner, Qtype: dns.TypeAAAA}, answer.Report{Outcome: answer.Closed, Enforced: answer.Closed, Total: 2}, new(dns.Msg), 0)
	s.Note(&dns.Question{Name: owner, Qtype: dns.TypeA}, answer.Report{Outcome: answer.Thinned, Enforced: answer.Thinned, Kept: 3, Total: 70_000, Checked: true}, new(dns.Msg), 0)
	s.Note(&dns.Question{Name: owner, Qtype: dns.TypeSRV}, answer.Report{Outcome: answer.Thinned, Kept: 2, Total: 3, Checked: true}, new(dns.Msg), 0)
	if got := fmt.Sprint(names(s, targets)); got != "[{other.example.org. []} {www.example.org. [{A thin true  3 70000 false false} {AAAA closed false  0 2 false false} {SRV thin true  3 3 true false}]}]" {
		t.Error(got)
	}
}

// The plugins below get one question, however many clients request the same explanation. The number of concurrent
// questions is limited, and no client waits forever, even if a plugin ignores its context.
func TestExplainReusesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, busy atomic.Int64
		release := make(chan struct{})
		f := newFixture(t, plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			asked.Add(1)
			busy.Add(1)
			<-release
			busy.Add(-1)
			return answers.ServeDNS(ctx, w, r)
		}))
		f.pool.Confirm(f.generation)
		defer f.pool.Leave(f.generation)
		var failed atomic.Int64
		var all sync.WaitGroup
		explain := func(name string) {
			all.Go(func() {
				if _, err := f.Explain(context.Background(), status.Question{Name: name, Type: "A"}); err != nil {
					failed.Add(1)
				}
			})
		}
		for range 50 {
			explain(owner)
		}
		if synctest.Wait(); asked.Load() != 1 {
			t.Errorf("50 requests for the same explanation cause %d questions", asked.Load())
		}
		for i := range 2 * maxAnswers {
			explain(fmt.Sprintf("n%d.example.org.", i))
		}
		if synctest.Wait(); busy.Load() != 8 || len(f.Source.answers) > maxAnswers {
			t.Errorf("%d questions at a time, %d left", busy.Load(), len(f.Source.answers))
		}
		began := time.Now()
		all.Wait()
		if waited := time.Since(began); waited > askWait || failed.Load() != 50+2*maxAnswers {
			t.Errorf("%d gave up after %v", failed.Load(), waited)
		}
		close(release)
		pooltest.Elapse(time.Minute)
		for range 2 {
			explain(owner)
			all.Wait()
		}
		if before := int64(1 + maxAsking - 1); asked.Load() != before+1 || failed.Load() != 50+2*maxAnswers {
			t.Errorf("%d asked, want %d", asked.Load(), before+1)
		}
		for _, later := range []struct {
			wait time.Duration
			more int64
		}{{4 * time.Second, 0}, {time.Second, 1}} { // an answer is used for five seconds
			before := asked.Load()
			pooltest.Elapse(later.wait)
			explain(owner)
			all.Wait()
			if got := asked.Load() - before; got != later.more {
				t.Errorf("%d questions after another %s, want %d", got, later.wait, later.more)
			}
		}
	})
}

// many is a zone in which every name has as many addresses as its first label says, half of them in the hints of a record.
var many plugin.Handler = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	var n, id int
	if _, err := fmt.Sscanf(r.Question[0].Name, "a%d-%d.", &n, &id); err != nil {
		return dns.RcodeServerFailure, err
	}
	m := new(dns.Msg).SetReply(r)
	hints := new(dns.SVCBIPv4Hint)
	for i := range n / 2 {
		addr := pooltest.Addr(i).AsSlice()
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: addr})
		hints.Hint = append(hints.Hint, addr)
	}
	svcb := dns.SVCB{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 30}, Priority: 1, Target: "."}
	svcb.Value = append(svcb.Value, hints)
	m.Extra = append(m.Extra, &dns.HTTPS{SVCB: svcb})
	return dns.RcodeSuccess, w.WriteMsg(m)
})

// What is kept to explain with has a bound on the records of all answers together. A longer answer is explained, and not
// kept. After five seconds without a request nothing is left, and no timer runs.
func TestExplanationsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, many)
		f.pool.Confirm(f.generation)
		defer f.pool.Leave(f.generation)
		explain := func(n, id int) {
			t.Helper()
			all, err := f.Explain(t.Context(), status.Question{Name: fmt.Sprintf("a%d-%d.example.org.", n, id), Type: "A"})
			if err != nil || len(all) != 1 || len(all[0].Sets) != 1 {
				t.Fatalf("%d addresses: %d explanations, %v", n, len(all), err)
			}
		}
		kept := func() (records, counted, answers int) {
			f.Source.mu.Lock()
			defer f.Source.mu.Unlock()
			for _, k := range f.Source.kept {
				records += k.answer.records()
			}
			if len(f.Source.kept) != len(f.Source.answers) {
				t.Errorf("%d answers are kept, and %d are known", len(f.Source.kept), len(f.Source.answers))
			}
			return records, f.Source.records, len(f.Source.kept)
		}
		wantNothing := func(when string) {
			t.Helper()
			f.Source.mu.Lock()
			defer f.Source.mu.Unlock()
			if len(f.Source.kept) > 0 || len(f.Source.answers) > 0 || f.Source.records != 0 || f.Source.timer.Stop() {
				t.Errorf("%s: %d answers with %d records, or a timer", when, len(f.Source.answers), f.Source.records)
			}
		}
		for i := range 60 {
			explain(4000, i)
			if n, counted, answers := kept(); n > maxRecords || n != counted {
				t.Fatalf("%d records are kept, and %d are counted, of %d answers, want at most %d", n, counted, answers, maxRecords)
			}
		}
		if n, _, _ := kept(); n < maxRecords-4002 {
			t.Errorf("%d records are kept, which is fewer than there is room for", n)
		}
		explain(maxRecords, 0)
		if n, _, _ := kept(); n < maxRecords-4002 {
			t.Errorf("an answer that is too long to keep leaves %d records of others", n)
		}
		pooltest.Elapse(reuseFor - time.Second)
		explain(40, 0)
		pooltest.Elapse(time.Second)
		if _, _, n := kept(); n != 1 {
			t.Errorf("%d answers are kept, want the last one", n)
		}
		pooltest.Elapse(reuseFor - time.Second)
		wantNothing("five seconds after the last request")
		explain(40, 0)
		f.Forget()
		wantNothing("after the page is closed")
	})
}

// An explanation counts the addresses of a large set that are not judged, and says what becomes of them.
func TestExplainLargeSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, many)
		f.pool.Confirm(f.generation)
		defer f.pool.Leave(f.generation)
		for _, tc := range []struct {
			limit, kept int
			why         string
		}{
			{0, 5000, "4096 of 4096 are not down, and all are served; 904 after the first 4096 are not judged, and served after them; and 3976 more, not listed"},
			{8, 8, "4096 of 4096 are not down, and the limit is 8: each answer draws its own sample, and this is one; 904 after the first 4096 are not judged, and left out; and 3976 more, not listed"},
		} {
			f.stanza.Rule.Policy.Limit = tc.limit
			all, err := f.Explain(t.Context(), status.Question{Name: "a10000-0.example.org.", Type: "A"})
			if err != nil || len(all) != 1 || len(all[0].Sets) != 1 {
				t.Fatalf("%d explanations, %v", len(all), err)
			}
			if s := all[0].Sets[0]; s.Kept != tc.kept || s.Total != 5000 || len(s.Members)+s.More != 5000 || s.Why != tc.why || len(all[0].Records) != tc.kept {
				t.Errorf("%d of %d, %d records: %s", s.Kept, s.Total, len(all[0].Records), s.Why)
			}
		}
	})
}

// An answer that comes after the page was closed is given to the callers that wait for it, and is not kept.
func TestForgottenWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := newFixture(t, plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			<-release
			return answers.ServeDNS(ctx, w, r)
		}))
		f.pool.Confirm(f.generation)
		defer f.pool.Leave(f.generation)
		var asking sync.WaitGroup
		asking.Go(func() {
			if all, err := f.Explain(t.Context(), status.Question{Name: owner, Type: "A"}); err != nil || len(all) != 1 {
				t.Error(all, err)
			}
		})
		synctest.Wait()
		f.Forget()
		close(release)
		asking.Wait()
		if len(f.Source.answers) > 0 || len(f.Source.kept) > 0 || f.Source.timer != nil {
			t.Errorf("%d answers are left, or a timer", len(f.Source.answers))
		}
	})
}

// BenchmarkLink measures linking the maximum number of listed names to targets, with four addresses each.
func BenchmarkLink(b *testing.B) {
	const listed = 4096
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			f := newFixture(b, nil)
			for i := range listed {
				q := &dns.Question{Name: fmt.Sprintf("n%d.example.org.", i), Qtype: dns.TypeA}
				m := new(dns.Msg)
				for k := range 4 {
					m.Answer = append(m.Answer, test.A(fmt.Sprintf("%s 300 IN A %s", q.Name, pooltest.Addr((4*i+k)%n))))
				}
				f.names.Note(q, answer.Report{}, m, 0)
			}
			shot := new(status.Snapshot)
			for i := range n {
				k := f.stanza.Targets(owner, netip.AddrPortFrom(pooltest.Addr(i), 0))[0]
				shot.Targets = append(shot.Targets, status.Target{Address: k.Addr, Check: k.Check.Name, Pace: k.Check.PaceText(), Name: owner})
			}
			shot.Sort()
			links := 0
			for b.Loop() {
				for i := range shot.Targets {
					shot.Targets[i].Names = nil
				}
				f.link(shot)
			}
			for i := range shot.Targets {
				links += len(shot.Targets[i].Names)
			}
			b.ReportMetric(float64(links), "links")
		})
	}
}
