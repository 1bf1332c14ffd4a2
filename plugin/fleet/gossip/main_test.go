package gossip

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
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

// writeKeys writes a file with keys, and returns its path.
func writeKeys(t testing.TB, keys ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	replaceKeys(t, path, keys...)
	return path
}

func replaceKeys(t testing.TB, path string, keys ...string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func newKey() string {
	raw := make([]byte, keyBytes)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// event is a call of the listener.
type event struct {
	what     string // met, left, heard, silent, restarted or said
	name     string
	epoch    uint64
	isolated bool
	ports    []int // of the votes of a batch
	wants    int
	calls    int
	groups   fleet.Groups
	member   fleet.Member
}

// recorder is a listener that keeps what it was told, and the lines of the log.
type recorder struct {
	mu     sync.Mutex
	all    []event
	latest map[[2]string]event // by name, and whether it is about presence or well-being
	lines  []string
	inside atomic.Int32
	races  atomic.Int32 // calls that overlapped
	panics string       // the event that it panics at
}

func (r *recorder) add(e event) {
	if r.inside.Add(1) > 1 {
		r.races.Add(1)
	}
	defer r.inside.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
	if r.latest == nil {
		r.latest = make(map[[2]string]event)
	}
	switch e.what {
	case "met", "left":
		r.latest[[2]string{e.name, "there"}] = e
	case "heard", "silent", "restarted":
		r.latest[[2]string{e.name, "well"}] = e
	}
	if e.what == r.panics {
		r.panics = ""
		panic("a fault of the listener")
	}
}

func (r *recorder) Met(m fleet.Member) {
	r.add(event{what: "met", name: m.Name, epoch: m.Epoch, groups: m.Groups, member: m})
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
		Vote: func(v fleet.Vote) { e.ports = append(e.ports, portOf(v)) },
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

// votes are the votes of a member, in the order in which they were told.
func (r *recorder) votes(name string) (all []int) {
	for _, e := range r.events("said", name) {
		all = append(all, e.ports...)
	}
	return all
}

// last is the last event about a member of these kinds, or empty.
func (r *recorder) last(name string, kinds ...string) event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Backward(r.all) {
		if e.name == name && slices.Contains(kinds, e.what) {
			return e
		}
	}
	return event{}
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

// vote is the vote with a number, which is in its address and port.
func vote(number int) fleet.Vote {
	addr := netip.AddrFrom4([4]byte{192, 0, byte(number >> 24), byte(number >> 16)})
	return fleet.Vote{Target: fleet.Target{Group: fleet.Group{1}, Addr: netip.AddrPortFrom(addr, uint16(number))}, State: verdict.Up}
}

func portOf(v fleet.Vote) int {
	raw := v.Target.Addr.Addr().As4()
	return int(raw[2])<<24 | int(raw[3])<<16 | int(v.Target.Addr.Port())
}

// votesUpTo are votes with the numbers from one to another.
func votesUpTo(from, to int) (all []fleet.Vote) {
	for n := from; n <= to; n++ {
		all = append(all, vote(n))
	}
	return all
}

// testMember is a member with a process around it, which turns.
type testMember struct {
	*engine
	*recorder
	config membership.Config
	hung   atomic.Bool
	stop   chan struct{}
	ended  sync.WaitGroup
	gone   bool
}

var noGroups = fleet.Groups{{1}: {}}

// anyPort is an address to listen on that nothing else has, over TCP and UDP.
func anyPort(t testing.TB, host string) string {
	t.Helper()
	return net.JoinHostPort(host, strconv.Itoa(ports.Free(t)))
}

// open opens a member without a start.
func open(t testing.TB, c membership.Config) *testMember {
	t.Helper()
	if c.Name == "" {
		c.Name = "test"
	}
	r := new(recorder)
	m, err := Open(c, r.fleetHost())
	if err != nil {
		t.Fatal(err)
	}
	return &testMember{engine: m.(*engine), recorder: r, config: c, stop: make(chan struct{})}
}

func (r *recorder) fleetHost() membership.Host {
	return membership.Host{Warnf: r.logf, Infof: r.logf, Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
		return nil, fmt.Errorf("no such name %s", name)
	}}
}

// start starts a member, whose loop turns until it leaves.
func (m *testMember) start(t testing.TB) *testMember {
	m.engine.Start(noGroups, m.recorder)
	m.ended.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			if !m.hung.Load() {
				m.Turn(false)
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

// kill ends the process without a word.
func (m *testMember) kill() {
	if m.gone {
		return
	}
	m.gone = true
	m.left.Store(true)
	m.t.Shutdown()
	m.list.Shutdown()
	m.engine.mu.Lock()
	m.list = nil
	m.engine.mu.Unlock()
	m.Leave()
	close(m.stop)
	m.ended.Wait()
}

// name is the name that others know the member by.
func (m *testMember) name() string { return m.Self().Name }

// start begins a fleet with so many members.
func startFleet(t testing.TB, n int, key string) []*testMember {
	t.Helper()
	ports.Need(t, "127.0.0.1", "127.0.0.2")
	var all []*testMember
	port := ports.Free(t)
	first := fmt.Sprintf("127.0.0.1:%d", port)
	for i := range n {
		listen := fmt.Sprintf("127.0.%d.%d:%d", i/200, i%200+1, port)
		c := membership.Config{Listen: listen, Key: key, Peers: []string{first}, Site: fmt.Sprint("site", i), Version: "1.0"}
		all = append(all, open(t, c).start(t))
	}
	complete(t, all...)
	return all
}

// complete waits until all have heard all.
func complete(t testing.TB, all ...*testMember) {
	t.Helper()
	eventually(t, "all hear all", func() bool {
		for _, a := range all {
			for _, b := range all {
				if a != b && !a.hears(b) {
					return false
				}
			}
		}
		return true
	})
}

// hears reports whether another member is there for this one, and well.
func (m *testMember) hears(other *testMember) bool {
	m.recorder.mu.Lock()
	met, well := m.latest[[2]string{other.name(), "there"}], m.latest[[2]string{other.name(), "well"}]
	m.recorder.mu.Unlock()
	return met.what == "met" && well.what == "heard" && well.epoch == other.Self().Epoch && met.epoch == well.epoch
}
