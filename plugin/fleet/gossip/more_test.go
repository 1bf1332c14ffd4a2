package gossip

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// manyGroups are so many that their list goes over a connection.
func manyGroups(n int) fleet.Groups {
	groups := make(fleet.Groups)
	for i := range n {
		groups[fleet.Group{byte(i >> 8), byte(i), 7}] = struct{}{}
	}
	return groups
}

// A list of groups is exchanged when it changes, whatever its length. Members with equal lists have one between them.
func TestGroups(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 3, writeKeys(t, newKey()))
	for _, n := range []int{0, 1, 500, maxGroups} {
		for _, m := range all[1:] {
			m.Announce(manyGroups(n))
		}
		for _, m := range all[1:] {
			eventually(t, fmt.Sprint(n, " groups"), func() bool { return len(all[0].last(m.name(), "met").groups) == n })
		}
	}
	a, b := all[0].last(all[1].name(), "met").groups, all[0].last(all[2].name(), "met").groups
	a[fleet.Group{255, 255}] = struct{}{}
	if len(b) != maxGroups+1 {
		t.Error("equal lists are kept twice")
	}
}

// Recorded packets change nothing, neither those of the same epoch nor those of one that has ended.
func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	w.record = true
	all := wiredFleet(t, w, 2, writeKeys(t, newKey()))
	all[0].Say(votesUpTo(1, 5))
	sameStream(t, all[0], all, 5)
	w.mu.Lock()
	w.record = false
	recorded := w.recorded
	w.mu.Unlock()
	all[0].hung.Store(true)
	replay := func() {
		conn, err := net.Dial("udp", w.real(2).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, data := range recorded {
			conn.Write(data)
		}
	}
	// A hung member does not seem alive by its old beats.
	eventually(t, "it is silent", func() bool { replay(); return all[1].last(all[0].name(), "heard", "silent").what == "silent" })
	replay()
	all[0].hung.Store(false)
	complete(t, all...)
	// A former epoch does not take the place of the living one.
	old := all[0].Self().Epoch
	all[0].kill()
	again := open(t, w.config(1, all[0].config.Key)).start(t)
	eventually(t, "the new one is there", func() bool { replay(); return all[1].hears(again) })
	for range 20 {
		replay()
	}
	again.Say(votesUpTo(6, 6))
	// What was replayed is handled before this, or was dropped.
	eventually(t, "its vote", func() bool { return len(all[1].votes(again.name())) == 6 })
	if e := all[1].last(again.name(), "met"); e.epoch == old || !all[1].hears(again) {
		t.Errorf("epoch %x came back: %+v", old, e)
	}
}

// A panic of the listener is counted, and all goes on.
func TestListenerPanics(t *testing.T) {
	all := startFleet(t, 2, writeKeys(t, newKey()))
	before := testutil.ToFloat64(metrics.Panics)
	all[1].recorder.mu.Lock()
	all[1].panics = "said"
	all[1].recorder.mu.Unlock()
	all[0].Say(votesUpTo(1, 1))
	eventually(t, "the first vote", func() bool { return len(all[1].votes(all[0].name())) == 1 })
	all[0].Say(votesUpTo(2, 2))
	sameStream(t, all[0], all, 2)
	if n := testutil.ToFloat64(metrics.Panics) - before; n != 1 {
		t.Errorf("%v panics", n)
	}
}

// Names are looked up again until they have an address, which is warned of once, and peers can be changed.
func TestPeers(t *testing.T) {
	t.Parallel()
	ports.Need(t, "127.0.0.2")
	key := writeKeys(t, newKey())
	port := ports.Free(t)
	a := open(t, membership.Config{Listen: fmt.Sprintf("127.0.0.1:%d", port), Key: key, Peers: []string{fmt.Sprintf("none.example.org:%d", port)}})
	b := open(t, membership.Config{Listen: fmt.Sprintf("127.0.0.2:%d", port), Key: key})
	resolved := make(chan struct{}, 1)
	b.join.host.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != "peers.example.org" {
			return nil, nil
		}
		select {
		case resolved <- struct{}{}: // the first time, there is none
			return nil, nil
		default:
			return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
		}
	}
	a.start(t)
	b.start(t)
	eventually(t, "a warning", func() bool { return a.logged("no address of the peer none.example.org: no such name") == 1 })
	b.Update(membership.Config{Key: key, Peers: []string{"nonsense", fmt.Sprintf("peers.example.org:%d", port)}})
	complete(t, a, b)
	if b.logged("peers.example.org: it has no address") != 1 || b.logged("no address of the peer nonsense") != 1 || a.logged("none.example.org") != 1 {
		t.Errorf("%q, %q", a.lines, b.lines)
	}
	if err := b.Update(membership.Config{Key: "/nowhere"}); err == nil {
		t.Error("a key file that does not exist")
	}
}

// Garbage costs no memory, and members go on hearing each other.
func TestGarbage(t *testing.T) {
	all := startFleet(t, 2, writeKeys(t, newKey()))
	at := all[0].as.addr.String()
	sizes := []int{0, 1, 2, 29, 45, 100, 1400, 4000, 9000}
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flood := func(n int) {
		for i := range n {
			data := make([]byte, sizes[i%len(sizes)])
			rand.Read(data)
			if len(data) > 10 && i%2 == 0 {
				copy(data, all[0].t.labelled(nil))
			}
			conn.Write(data)
		}
	}
	flood(2000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	large := testutil.ToFloat64(all[0].t.large)
	var streams []net.Conn
	for range maxStreams + 20 { // connections that say nothing, or announce two megabytes
		if c, err := net.Dial("tcp", at); err == nil {
			c.Write(append(all[0].t.labelled(nil), sealedType, 0, 31, 255, 255))
			streams = append(streams, c)
		}
	}
	flood(20000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes more", grown)
	}
	for _, c := range streams {
		c.Close()
	}
	if testutil.ToFloat64(all[0].t.large) == large {
		t.Error("large packets are not counted")
	}
	all[1].Say(votesUpTo(1, 100))
	sameStream(t, all[1], all, 100)
	complete(t, all...)
	if n := all[0].logged("is sealed with no key of this server"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// What memberlist and members send in the life of a fleet passes the look, and nothing of a member is left behind when it has gone: no
// goroutine, no gauge.
func TestWhatIsLeft(t *testing.T) {
	refusals := func(m *testMember) float64 {
		return testutil.ToFloat64(m.t.malformed) + testutil.ToFloat64(m.t.unsealed) + testutil.ToFloat64(m.t.rate)
	}
	eventually(t, "no goroutine of other tests is left", func() bool { return !strings.Contains(stacks(), "gossip.(*loop)") })
	key := writeKeys(t, newKey())
	var before float64
	all := startFleet(t, 5, key)
	before = refusals(all[0])
	all[4].kill()
	eventually(t, "it is dead", func() bool { return all[0].last(all[4].name(), "met", "left").what == "left" })
	all[3].leave()
	eventually(t, "it has left", func() bool { return all[0].last(all[3].name(), "met", "left").what == "left" })
	if n := refusals(all[0]) - before; n > 0 {
		t.Errorf("%v of what members send is refused", n)
	}
	eventually(t, "gauges", func() bool { return testutil.ToFloat64(metrics.Fleet.Members.WithLabelValues("alive")) == 2 })
	for _, m := range all[:3] {
		m.leave()
	}
	if n := testutil.CollectAndCount(metrics.Fleet.Members); n > 0 {
		t.Errorf("%d gauges are left", n)
	}
	if left := stacks(); strings.Contains(left, "plugin/fleet/gossip.(*") && strings.Contains(left, "gossip.(*transport)") {
		t.Errorf("goroutines of ours are left: %s", left)
	}
	eventually(t, "memberlist has ended", func() bool { return !strings.Contains(stacks(), "memberlist.(*Memberlist)") })
}

// stacks are those of all goroutines.
func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// A member that another one takes for dead, though it lives, is there again.
func TestStrangersJoin(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	key := writeKeys(t, newKey())
	w.relay(t, 1)
	w.relay(t, 2)
	a, b := open(t, w.config(1, key)), open(t, w.config(2, key))
	a.join.setPeers(nil)
	b.join.setPeers(nil)
	a.start(t)
	b.start(t)
	eventually(t, "a is there", func() bool {
		// b says a beat to a, of which it knows only the address, as after a long cut.
		b.t.sendTo(beat{uptime: time.Millisecond, groups: hash{1}}.appendTo(b.as.header(nil, kindBeat)), w.reached(1))
		return a.hears(b) && b.hears(a)
	})
}

// A process that listens everywhere says an address that others can reach.
func TestAdvertised(t *testing.T) {
	for _, c := range []struct{ advertise, listens, want string }{
		{"", "127.0.0.1:7", "127.0.0.1:7"}, {"192.0.2.1", "127.0.0.1:7", "192.0.2.1:7"}, {"192.0.2.1:9", "127.0.0.1:7", "192.0.2.1:9"},
		{"2001:db8::1", "127.0.0.1:7", "[2001:db8::1]:7"}, {"[2001:db8::1]:9", "127.0.0.1:7", "[2001:db8::1]:9"}, {"", "[::]:7", "127.0.0.1:7"},
	} {
		at, err := advertised(membership.Config{Advertise: c.advertise, Peers: []string{"name.example.org:7", "127.0.0.1:7"}}, netip.MustParseAddrPort(c.listens))
		if err != nil || at.String() != c.want {
			t.Errorf("%+v: %s, %v", c, at, err)
		}
	}
	if at := likeliest(nil); !at.IsValid() || at.IsUnspecified() {
		t.Errorf("%s", at)
	}
}

// Of the addresses of a machine, one that others can reach comes before those of networks inside it, which may be the same everywhere.
func TestSuitability(t *testing.T) {
	order := []struct{ name, addr string }{
		{"eth0", "169.254.0.1"}, {"lo", "127.0.0.1"}, {"docker0", "172.17.0.1"}, {"eth0", "2001:db8::1"}, {"eth0", "192.0.2.1"}, {"br0", "10.0.0.1"},
	}
	for i, a := range order {
		if got := suitability(a.name, netip.MustParseAddr(a.addr)); got != i {
			t.Errorf("%s on %s: %d, want %d", a.addr, a.name, got, i)
		}
	}
	for _, name := range []string{"br-0123456789ab", "cni0", "virbr0", "vethabcd"} {
		if got := suitability(name, netip.MustParseAddr("10.88.0.1")); got != 2 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// Two servers with the same address do not hear each other, and the log says why. What was dialled in vain is in it, too.
func TestTwins(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	key := writeKeys(t, newKey())
	w.relay(t, 1)
	first, second := w.config(1, key), w.config(2, key)
	second.Advertise = first.Advertise
	first.Peers = []string{w.real(2).String()}
	a, b := open(t, first).start(t), open(t, second).start(t)
	want := fmt.Sprintf("another server (epoch %016x, at site site2) says that it is reached at %s, as this one does", b.Self().Epoch, w.reached(1))
	eventually(t, "the same address is told of", func() bool { return a.logged(want) == 1 })
	// What is sent to that address goes to the first, so the first is never dead for the second.
	b.join.findTwin(time.Now().Add(twinAfter / 2))
	if n := b.logged("another server"); n != 0 {
		t.Errorf("%d lines before it is known to live", n)
	}
	for range 2 {
		b.join.findTwin(time.Now().Add(2 * twinAfter))
	}
	if b.logged(fmt.Sprintf("another server (epoch %016x, at site site1)", a.Self().Epoch)) != 1 || a.logged("another server") != 1 {
		t.Errorf("%q, %q", a.lines, b.lines)
	}
	none := fmt.Sprintf("none of the peers answers, at %s: this server, which others would reach at %s", w.real(2), w.reached(1))
	if a.logged(none) != 1 {
		t.Errorf("%q", a.lines)
	}
}

// A former process of a server was at the same address, and is no twin of it: it dies once, and stays dead.
func TestFormerProcessIsNoTwin(t *testing.T) {
	r, now := new(recorder), time.Now()
	j := &joiner{host: r.fleetHost(), self: testSender.addr}
	for epoch := range uint64(3 * maxPast) {
		for _, alive := range []bool{true, true, false, false} {
			j.meetTwin(epoch, nodeState{alive: alive}, now)
		}
	}
	j.findTwin(now.Add(time.Hour))
	if len(r.lines) > 0 || len(j.twins) > maxPast {
		t.Errorf("%q, %d are known", r.lines, len(j.twins))
	}
}

// What others send on connections before their seal is known to be good has a bound in all.
func TestStreamMemory(t *testing.T) {
	m := open(t, membership.Config{Listen: anyPort(t, "127.0.0.1"), Key: writeKeys(t, newKey())}).start(t)
	const size = maxFrame - 1000
	var refused atomic.Int32
	var running sync.WaitGroup
	var all []net.Conn
	for range maxStreams - 2 {
		conn, err := net.Dial("tcp", m.as.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
		running.Go(func() {
			data := binary.BigEndian.AppendUint32(append(m.t.labelled(nil), sealedType), maxFrame)
			conn.Write(append(data, make([]byte, size)...)) // and no more, so it is not complete
			conn.Read(data)
			refused.Add(1)
		})
	}
	eventually(t, "some are refused", func() bool {
		if n := m.t.pending.Load(); n > streamBytes+2*maxFrame {
			t.Errorf("%d bytes", n)
		}
		return int(refused.Load()) >= maxStreams-2-streamBytes/size
	})
	for _, conn := range all {
		conn.Close()
	}
	running.Wait()
	eventually(t, "all is given back", func() bool { return m.t.pending.Load() == 0 && len(m.t.slots) == 0 })
}
