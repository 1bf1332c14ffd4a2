package multivalue

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// record turns on or off what is recorded only for the status page, as a listener does.
func record(p *process, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record(on)
}

// namesSeen returns the number of names that are remembered for the status page.
func namesSeen(p *process) (n int) {
	p.seen.Load().Each(func(*seen.Name) { n++ })
	return n
}

// ownerOf spreads addresses over names. numberOf finds the number of an address again.
func ownerOf(i int) string { return fmt.Sprintf("www%d.example.org.", i/64) }

func numberOf(a netip.Addr) int {
	x := a.As4()
	return int(x[1])<<16 | int(x[2])<<8 | int(x[3])
}

// A snapshot has every target once, while other targets come and go, and one turn of the loop shows at most a fixed
// number (B75).
func TestSnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		record(p, true)
		n.Kill(pooltest.Addr(7))
		for part := range slices.Chunk(addrs(0, 10_000), 1000) {
			for _, a := range part {
				s.Look(ownerOf(numberOf(a)), a, 0, 30)
			}
			synctest.Wait()
		}
		pooltest.Elapse(time.Minute)
		shot, err := p.source.Snapshot(context.Background())
		if err != nil || len(shot.Targets) != 10_000 || shot.Summary.Down != 1 || shot.Summary.Up != 9_999 || shot.Summary.Names != 157 || !shot.Summary.Running {
			t.Fatalf("%d targets, %+v, %v", len(shot.Targets), shot.Summary, err)
		}
		dead := shot.Targets[7]
		if dead.Address.Addr() != pooltest.Addr(7) || dead.State != "down" || dead.Reason != pooltest.ErrRefused.Error() || dead.Name != ownerOf(7) || dead.Since.IsZero() || len(dead.Probes.Probes()) < 4 {
			t.Errorf("%+v", dead)
		}
		if dead.Pace != pooltest.Pace.String() || dead.Check != "tcp://:80" || !dead.NextProbe.After(shot.Taken) || dead.LastProbe.After(shot.Taken) {
			t.Errorf("%+v", dead)
		}
		if len(shot.Changes) == 0 || shot.Changes[len(shot.Changes)-1].Number < uint64(len(shot.Changes)) {
			t.Errorf("%d changes", len(shot.Changes))
		}
		if c := shot.Changes[0]; c.From != "unknown" || c.To != "down" || c.Name != ownerOf(7) {
			t.Errorf("%+v", c)
		}
		if shot.Summary.Started != clock.Started || shot.Summary.Host == "" {
			t.Errorf("the status of %q, since %s", shot.Summary.Host, shot.Summary.Started)
		}
		most := 0
		for shard := 0; shard < table.Shards; {
			turn := new(status.Snapshot)
			_ = p.pool.Do(context.Background(), func(v pool.View) { shard, _ = v.Rows(shard, turn) })
			most = max(most, len(turn.Targets))
		}
		if most > 2*pool.RowsAtOnce || most < pool.RowsAtOnce/2 {
			t.Errorf("%d targets in a turn of the loop, which may show %d", most, pool.RowsAtOnce)
		}
		again, _ := p.source.Snapshot(context.Background())
		if again != shot {
			t.Error("a snapshot that has just been taken was taken again")
		}
		pooltest.Elapse(time.Second)
		if again, _ = p.source.Snapshot(context.Background()); again == shot {
			t.Error("an old snapshot is shown")
		}
		n.Kill(addrs(100, 3000)...)
		pooltest.Elapse(time.Minute)
		shot, _ = p.source.Snapshot(context.Background())
		first, last := shot.Changes[0].Number, shot.Changes[len(shot.Changes)-1].Number
		if len(shot.Changes) > 1024 || last != 2901 || shot.Changed != last || last-first != uint64(len(shot.Changes)-1) {
			t.Errorf("%d changes, from %d to %d", len(shot.Changes), first, last)
		}
	})
}

// Nothing is recorded for the status page without a listener, and what was recorded is dropped when the listener
// closes.
func TestNothingIsRecordedWithoutAPage(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		h := serving(p, zoneOf(www...), s)
		ask := func() {
			w := dnstest.NewRecorder(&test.ResponseWriter{})
			_, _ = h.ServeDNS(context.Background(), w, query(owner, dns.TypeA))
			synctest.Wait()
			pooltest.Elapse(30 * time.Second)
		}
		kept := func() (n int) {
			var shot status.Snapshot
			err := p.pool.Do(context.Background(), func(v pool.View) {
				for shard, more := 0, true; more; {
					shard, more = v.Rows(shard, &shot)
				}
				v.Totals(&shot)
			})
			if err != nil || len(shot.Targets) != 2 {
				t.Errorf("%d targets, %v", len(shot.Targets), err)
			}
			for i := range shot.Targets {
				if len(shot.Targets[i].Probes.Probes()) > 0 {
					n++
				}
			}
			return n + len(shot.Changes)
		}
		if ask(); kept() != 0 || p.seen.Load() != nil {
			t.Errorf("%d recorded without a listener", kept())
		}
		record(p, true)
		if ask(); kept() != 2 || namesSeen(p) != 1 {
			t.Errorf("%d recorded, %d names", kept(), namesSeen(p))
		}
		record(p, false)
		if ask(); kept() != 0 || p.seen.Load() != nil {
			t.Errorf("%d recorded after the listener closed", kept())
		}
	})
	if size := unsafe.Sizeof(status.History{}); size > 144 {
		t.Errorf("a history takes %d bytes", size)
	}
}

// For each target a snapshot has the names that lead to it, also names after the first one and names with an alias or
// a host, and no longer a name that now leads elsewhere.
func TestLinks(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Types |= answer.TypesOf(dns.TypeSRV)
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
		record(p, true)
		ask := func(name string, qtype uint16) {
			_, _ = h.ServeDNS(context.Background(), dnstest.NewRecorder(&test.ResponseWriter{}), query(name+".example.org.", qtype))
			pooltest.Elapse(5 * time.Second)
		}
		links := func() (text string) {
			shot, err := p.source.Snapshot(context.Background())
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

// Changes are counted while there is no listener, so that a later reader sees how many changes are lost.
func TestChangesAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		pass(20*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		n.Kill(pooltest.Addr(1))
		pass(time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
		record(p, true)
		shot, err := p.source.Snapshot(context.Background())
		if err != nil || shot.Changed != 1 || len(shot.Changes) != 0 {
			t.Errorf("%d changes, %d of them recorded, %v; want one and none", shot.Changed, len(shot.Changes), err)
		}
	})
}

// A panic in a plugin below is an error in the explanation, not an answer without faults.
func TestExplainReportsAPanic(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		serving(p, plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			panic("below")
		}), forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org."))
		all, err := p.source.Explain(context.Background(), status.Question{Name: owner, Type: "A"})
		if err == nil || len(all) != 0 || strings.Contains(err.Error(), "below") {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// An explanation stays small, however many records there are and however many addresses each leads to, and it says
// what it leaves out.
func TestExplainIsBounded(t *testing.T) {
	const records, addresses = 600, 800
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://", n, pooltest.Pace), "example.org.")
		s.Rule.Types |= answer.TypesOf(dns.TypeSRV)
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
		all, err := p.source.Explain(context.Background(), status.Question{Name: owner, Type: "SRV"})
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
		if listed > 2048 || listed < 1024 || len(set.Members[0].Checks) != addresses || set.Total != records || set.More != records-len(set.Members) || last.More == 0 {
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

// An explanation and a snapshot say that no target answers.
func TestExplainReportsIsolation(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		serving(p, zoneOf(www...), s)
		lookAll(s, addrs(0, 20))
		pooltest.Elapse(time.Minute)
		n.Kill(addrs(0, 20)...)
		pooltest.Elapse(20 * time.Second)
		all, err := p.source.Explain(context.Background(), status.Question{Name: owner, Type: "A"})
		if err != nil || len(all) != 1 || !strings.Contains(fmt.Sprint(all[0].Steps), "no target answers at the moment") {
			t.Errorf("%+v, %v", all, err)
		}
		shot, err := p.source.Snapshot(context.Background())
		if err != nil || shot.Summary.IsolatedSince.IsZero() {
			t.Errorf("%+v, %v", shot, err)
		}
	})
}
