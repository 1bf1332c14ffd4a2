//go:build unix

package etcd

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// deadline is far more than anything takes here, on a machine that is busy with other tests.
const deadline = 2 * time.Minute

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", deadline, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestMain has more tests run beside each other than there are processors: most of their time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

// event is a call of the listener.
type event struct {
	what     string // met, left, heard, silent, restarted or said
	name     string
	epoch    uint64
	isolated bool
	votes    []fleet.Vote
	wants    int
	calls    int
	member   fleet.Member
	at       time.Time
}

// recorder is a listener that keeps what it was told, and the lines of the log.
type recorder struct {
	mu     sync.Mutex
	all    []event
	there  map[string]event // the last met or left of a member
	well   map[string]event // the last heard, silent or restarted
	states map[string]map[fleet.Target]fleet.Vote
	lines  []string
	inside atomic.Int32
	races  atomic.Int32 // calls that overlapped
	panics string       // the event that it panics at
	quiet  bool         // events that are said are counted only
	said   int
}

func (r *recorder) add(e event) {
	if r.inside.Add(1) > 1 {
		r.races.Add(1)
	}
	defer r.inside.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.there == nil {
		r.there, r.well, r.states = make(map[string]event), make(map[string]event), make(map[string]map[fleet.Target]fleet.Vote)
	}
	e.at = time.Now()
	switch e.what {
	case "met", "left":
		r.there[e.name] = e
	case "heard", "silent":
		r.well[e.name] = e
	case "restarted":
		r.well[e.name] = e
		delete(r.states, e.name)
	case "said":
		if r.states[e.name] == nil {
			r.states[e.name] = make(map[fleet.Target]fleet.Vote)
		}
		for _, v := range e.votes {
			r.states[e.name][v.Target] = v
		}
		r.said += len(e.votes)
	}
	if !r.quiet || e.what != "said" && e.what != "heard" {
		r.all = append(r.all, e)
	}
	if e.what == r.panics {
		r.panics = ""
		panic("a fault of the listener")
	}
}

func (r *recorder) Met(m fleet.Member) {
	r.add(event{what: "met", name: m.Name, epoch: m.Epoch, member: m})
}
func (r *recorder) Left(name string) { r.add(event{what: "left", name: name}) }
func (r *recorder) Heard(name string, epoch uint64, isolated bool) {
	r.add(event{what: "heard", name: name, epoch: epoch, isolated: isolated})
}
func (r *recorder) Silent(name string) { r.add(event{what: "silent", name: name}) }
func (r *recorder) Restarted(name string, epoch uint64) {
	r.add(event{what: "restarted", name: name, epoch: epoch})
}
func (r *recorder) Said(name string, epoch uint64, batch []byte) {
	e := event{what: "said", name: name, epoch: epoch}
	fleet.Decode(batch, fleet.Reader{
		Vote: func(v fleet.Vote) { e.votes = append(e.votes, v) },
		Want: func(fleet.Want) { e.wants++ },
		Call: func(fleet.Call) { e.calls++ },
	})
	r.add(e)
}

// events are those of a kind about a member.
func (r *recorder) events(what, name string) (some []event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.what == what && (name == "" || e.name == name) {
			some = append(some, e)
		}
	}
	return some
}

// count is how many events there are of a kind about a member.
func (r *recorder) count(what, name string) int { return len(r.events(what, name)) }

// state is what a member was told to have voted last on a target.
func (r *recorder) state(name string, t fleet.Target) fleet.Vote {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[name][t]
}

// ups is how many targets a member was told to find up.
func (r *recorder) ups(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.states[name] {
		if v.State == verdict.Up {
			n++
		}
	}
	return n
}

func (r *recorder) logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// logged counts lines with a text.
func (r *recorder) logged(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// log is all lines.
func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

var testGroup = fleet.Group{1}

// target is the target with a number.
func target(number int) fleet.Target {
	addr := netip.AddrFrom4([4]byte{192, 0, byte(number >> 24), byte(number >> 16)})
	return fleet.Target{Group: testGroup, Addr: netip.AddrPortFrom(addr, uint16(number))}
}

// votes are votes on the targets with numbers from one to another.
func votes(state verdict.State, from, to int) (all []fleet.Vote) {
	for n := from; n <= to; n++ {
		all = append(all, fleet.Vote{Target: target(n), State: state, Age: time.Minute, Holds: 30 * time.Second})
	}
	return all
}

// testMember is a member with a process around it, which turns.
type testMember struct {
	*engine
	*recorder
	config   membership.Config
	hung     atomic.Bool
	isolated atomic.Bool
	stop     chan struct{}
	ended    sync.WaitGroup
	gone     bool
}

var testGroups = fleet.Groups{testGroup: {}}

// configOf is that of a fleet over an etcd.
func configOf(c *realetcd.Cluster) membership.Config {
	return membership.Config{Name: "test", Site: "here", Version: "1.0", Store: membership.Store{Endpoints: c.Endpoints()}}
}

// open opens a member without a start.
func open(t testing.TB, c membership.Config) *testMember {
	t.Helper()
	r := new(recorder)
	m, err := Open(c, membership.Host{Warnf: r.logf, Infof: r.logf, Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
		return nil, fmt.Errorf("no such name %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &testMember{engine: m.(*engine), recorder: r, config: c, stop: make(chan struct{})}
}

// start starts a member, whose loop turns until it leaves.
func (m *testMember) start(t testing.TB) *testMember {
	m.engine.Start(testGroups, m.recorder)
	m.ended.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			if !m.hung.Load() {
				m.Turn(m.isolated.Load())
			}
			select {
			case <-m.stop:
				return
			case <-ticker.C:
			}
		}
	})
	t.Cleanup(m.leave)
	return m
}

// leave stops the process.
func (m *testMember) leave() {
	if m.gone {
		return
	}
	m.gone = true
	m.Leave()
	close(m.stop)
	m.ended.Wait()
}

// kill ends the process without a word: its key stays until its lease runs out.
func (m *testMember) kill() {
	if m.gone {
		return
	}
	m.gone = true
	m.left.Store(true)
	m.cancel() // before the writer could say goodbye
	m.Leave()
	close(m.stop)
	m.ended.Wait()
}

// name is the name that others know the member by.
func (m *testMember) name() string { return m.Self().Name }

// startMembers starts members, and waits until all have heard all.
func startMembers(t testing.TB, c membership.Config, n int) []*testMember {
	t.Helper()
	var all []*testMember
	for range n {
		all = append(all, open(t, c).start(t))
	}
	complete(t, all...)
	return all
}

// complete waits until all hear all.
func complete(t testing.TB, all ...*testMember) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b && !waitFor(func() bool { return a.hears(b) }) {
				t.Fatalf("%s does not hear %s: there %+v, well %+v, log %s", a.name(), b.name(), a.there[b.name()], a.well[b.name()], a.log())
			}
		}
	}
}

func waitFor(holds func() bool) bool {
	for end := time.Now().Add(deadline); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// hears reports whether another member is there for this one, and well.
func (m *testMember) hears(other *testMember) bool {
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	met, well := m.there[other.name()], m.well[other.name()]
	return met.what == "met" && well.what == "heard" && well.epoch == other.Self().Epoch && met.epoch == well.epoch
}

// isSilent reports whether another member does not count for this one, because it is not well or not there.
func (m *testMember) isSilent(other *testMember) bool {
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	return m.there[other.name()].what != "met" || m.well[other.name()].what != "heard"
}

// agree waits until others know so many targets that an author finds up, and no others.
func agree(t testing.TB, author *testMember, ups int, others ...*testMember) {
	t.Helper()
	for _, m := range others {
		if m != author && !waitFor(func() bool { return m.ups(author.name()) == ups }) {
			t.Fatalf("%s knows %d targets, not %d, that %s finds up; log %s / %s", m.name(), m.ups(author.name()), ups, author.name(), m.log(), author.log())
		}
	}
}

// keysIn are the keys below a prefix.
func keysIn(t testing.TB, c *clientv3.Client, prefix string) (all []string) {
	t.Helper()
	got, err := c.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range got.Kvs {
		all = append(all, string(kv.Key))
	}
	slices.Sort(all)
	return all
}

// write writes a file, in one step, as those do who replace one that is in use.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func tempFile(t testing.TB, text string) string {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, text)
	return path
}
