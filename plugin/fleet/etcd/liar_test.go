//go:build unix

package etcd

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// put writes keys, as fast as etcd takes them.
func put(t testing.TB, client *clientv3.Client, all map[string]string) {
	t.Helper()
	jobs := make(chan [2]string)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for job := range jobs {
				if _, err := client.Put(context.Background(), job[0], job[1]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for key, value := range all {
		jobs <- [2]string{key, value}
	}
	close(jobs)
	running.Wait()
}

// A user that can write the prefix may write anything: the others go on, do not panic, and have bounds.
func TestLiar(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	client, ctx := c.Client(t), context.Background()
	config := configOf(c)
	all := startMembers(t, config, 2)
	all[0].Say(votes(verdict.Up, 1, 100))
	panics := testutil.ToFloat64(metrics.Panics)
	k := all[0].writer.keys
	random := make([]byte, 1<<20)
	rand.Read(random)
	good := string(fact{epoch: 1, uptime: time.Hour, groups: listOf(testGroups)}.encode())
	lies := map[string]string{
		k.base + "x": "x", k.base: "x", k.base + "members/": "x", k.base + "votes/a/b/c": "x", k.base + strings.Repeat("long/", 1000): "x",
		k.memberKey("garbage"): string(random[:1000]), k.memberKey("empty"): "", k.memberKey("huge"): string(random), k.memberKey("liar"): good,
		k.wants("liar"): string(random), k.wants(all[0].name()): string(random), k.wants("absent"): "",
		k.part("liar", 1): string(random), k.part("liar", 2): string([]byte{fleet.Protocol}), k.part("other", 1): string(random[:10]),
		k.memberKey("groups"): string(fact{epoch: 2, groups: strings.Repeat("g", 16*maxGroups)}.encode()),
		k.memberKey("more"):   string(fact{epoch: 2, groups: strings.Repeat("g", 16*(maxGroups+1))}.encode()),
	}
	for n := range 300 {
		lies[k.memberKey(fmt.Sprint("groups-", n))] = string(fact{epoch: 2, groups: string(random[n*160:][:160])}.encode())
	}
	put(t, client, lies)
	// One that says more than it may, and changes it all the time.
	var targets [4][]fleet.Target
	for part := range targets {
		targets[part] = inPart(uint8(part), 3000)
	}
	for range 20 {
		for part, targets := range targets {
			said := make([]fleet.Vote, len(targets))
			for i := range said {
				said[i] = fleet.Vote{Target: targets[i], State: verdict.Up, Shed: uint8(time.Now().UnixNano() % 100)}
			}
			if _, err := client.Put(ctx, k.part("liar", uint8(part)), string(value(said...))); err != nil {
				t.Fatal(err)
			}
		}
	}
	all = append(all, open(t, config).start(t))
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 101, 150))
	agree(t, all[0], 150, all[1])
	eventually(t, "the liar itself is heard, when it has calmed down", func() bool {
		all[1].recorder.mu.Lock()
		defer all[1].recorder.mu.Unlock()
		return all[1].well["liar"].what == "heard" && all[1].there["garbage"].what == ""
	})
	for _, name := range []string{"garbage", "empty", "huge", "other", "more"} {
		if n := all[1].count("met", name); n > 0 {
			t.Errorf("%s is a member", name)
		}
	}
	if n := testutil.ToFloat64(metrics.Panics) - panics; n > 0 {
		t.Errorf("%v panics", n)
	}
	if n := testutil.ToFloat64(metrics.Fleet.Drops.WithLabelValues("malformed")); n == 0 {
		t.Error("nothing is counted")
	}
}

// No more of an author is told than the pool takes.
func TestFlood(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 2)
	r := fleet.NewRoster(fleet.Member{Name: "self"}, time.Now())
	r.Meet(fleet.Member{Name: all[0].name()}, time.Now())
	const n = 20000
	for i := range 3 {
		all[0].Say(votes(verdict.State(1+i%2), 1, n))
		all[1].Ask([]string{all[0].name()}, fleet.Want{Target: target(1)})
	}
	eventually(t, "all is told", func() bool { return len(all[1].statesOf(all[0].name())) == n && all[1].hears(all[0]) })
	for _, e := range all[1].events("said", all[0].name()) {
		if got := r.Admit(e.name, len(e.votes), e.at); got != len(e.votes) {
			t.Fatalf("%d of %d votes are taken", got, len(e.votes))
		}
	}
}

// A fleet of the largest size, of which one member says much.
func TestManyMembers(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	config := configOf(c)
	m := open(t, config)
	m.recorder.quiet = true
	k := m.writer.keys
	keys := make(map[string]string)
	for n := range fleet.MaxMembers + 100 {
		keys[k.memberKey(fmt.Sprint("member-", n))] = string(fact{epoch: uint64(n + 1), uptime: time.Hour, groups: listOf(testGroups)}.encode())
		keys[k.part(fmt.Sprint("dead-", n%5000), uint8(n))] = "garbage"
	}
	put(t, client, keys)
	m.start(t)
	eventually(t, "as many as there can be", func() bool {
		m.recorder.mu.Lock()
		defer m.recorder.mu.Unlock()
		return len(m.well) == fleet.MaxMembers
	})
	last := open(t, config).start(t)
	eventually(t, "the first one hears all that it can", func() bool { return len(last.Contacts()) == fleet.MaxMembers })
}

// What is kept of the votes of others has an end, and who says more is silent.
func TestMemoryIsBounded(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	all := startMembers(t, configOf(c), 2)
	k := all[0].writer.keys
	huge := strings.Repeat("x", maxPart)
	for liar := range 3 {
		id := fmt.Sprint("liar-", liar)
		keys := map[string]string{k.memberKey(id): string(fact{epoch: 1, uptime: time.Hour, term: 1 << 62}.encode())}
		for part := range maxCachedOf/maxPart + 8 {
			keys[k.part(id, uint8(part))] = huge
		}
		put(t, client, keys)
	}
	// What is said last is heard last. A liar that was heard while there was room is silent then; the others never were heard.
	all[0].Say(votes(verdict.Up, 1, 1))
	agree(t, all[0], 1, all[1])
	all[1].recorder.mu.Lock()
	for liar := range 3 {
		id := fmt.Sprint("liar-", liar)
		if there, well := all[1].there[id], all[1].well[id]; there.what != "met" || well.what == "heard" {
			t.Errorf("%s is %q and %q", id, there.what, well.what)
		}
	}
	all[1].recorder.mu.Unlock()
	complete(t, all...)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d MiB in use, with the client of the test", memory.HeapAlloc>>20)
	if memory.HeapAlloc > 2*maxCached+(256<<20) {
		t.Errorf("%d MiB of two members", memory.HeapAlloc>>20)
	}
}

// A listener that panics ends nothing.
func TestListenerPanics(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 2)
	all[1].recorder.mu.Lock()
	all[1].recorder.panics = "said"
	all[1].recorder.mu.Unlock()
	before := testutil.ToFloat64(metrics.Panics)
	all[0].Say(votes(verdict.Up, 1, 1))
	agree(t, all[0], 1, all[1])
	all[0].Say(votes(verdict.Up, 2, 2))
	agree(t, all[0], 2, all[1])
	if n := testutil.ToFloat64(metrics.Panics) - before; n != 1 {
		t.Errorf("%v panics", n)
	}
}

// statesOf are the targets that a member was told to have a vote on.
func (r *recorder) statesOf(name string) map[fleet.Target]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[fleet.Target]bool)
	for t := range r.states[name] {
		all[t] = true
	}
	return all
}

// What a member says of itself costs no more than what is used of it: neither the value that a text was cut from, nor a list of groups
// for each member that has the same.
func TestFactsAreSmall(t *testing.T) {
	if _, ok := readFact(fact{site: strings.Repeat("s", maxFact)}.encode()); ok {
		t.Error("a fact of more bytes than groups may have is read")
	}
	long := strings.Repeat("s", maxFact/2)
	if cut := printable(long); len(cut) != maxText || unsafe.StringData(cut) == unsafe.StringData(long) {
		t.Errorf("%d bytes, in the memory of the whole text", len(cut))
	}
	l := &loop{lists: make(groupLists), authors: make(map[string]*author), touched: make(map[*author]struct{}), listener: new(recorder), left: new(atomic.Bool)}
	for n := range maxLists + 10 {
		list := strings.Repeat(string(rune(n)), maxGroups)[:16*16] // another one for each two members
		for _, id := range []string{fmt.Sprint("a", n), fmt.Sprint("b", n)} {
			l.meet(id, fact{epoch: 1, groups: strings.Clone(list)}.encode(), 1, time.Now())
		}
		a, b := l.authors[fmt.Sprint("a", n)], l.authors[fmt.Sprint("b", n)]
		if len(a.fact.groups) > 0 && unsafe.StringData(a.fact.groups) != unsafe.StringData(b.fact.groups) {
			t.Fatalf("members %d have a list each", n)
		}
		if full := n >= maxLists; full != (a.fact.groups == "") || full != (a.groups == nil) {
			t.Fatalf("members %d: a list of %d bytes, %d groups", n, len(a.fact.groups), len(a.groups))
		}
	}
}
