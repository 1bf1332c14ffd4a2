package pool

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

// These tests use real sockets and real time, because they test the kernel's part.

// slowPace has an interval so long that nothing in a test is caused by a regular probe.
var slowPace = verdict.Pace{Interval: 10 * time.Minute, Fast: 100 * time.Millisecond, Timeout: 5 * time.Second, Rise: 2, Fall: 3}

const patience = 20 * time.Second

// eventually polls, because the kernel and other processes send no signal when they are done.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still waiting for: " + what)
		}
	}
}

// host is a peer that can be killed. It keeps its connections open.
type host struct {
	net.Listener
	addr     netip.AddrPort
	accepted atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
	all      sync.WaitGroup
}

// newHost listens on a port that all hosts of a test share. The port of the first one is 0.
func newHost(t *testing.T, octet int, port uint16, serve func(*host, net.Conn)) *host {
	t.Helper()
	if port == 0 {
		port = uint16(ports.Free(t))
	}
	l := ports.Listen(t, fmt.Sprintf("127.0.0.%d:%d", octet, port))
	h := &host{Listener: l, addr: l.Addr().(*net.TCPAddr).AddrPort(), open: make(map[net.Conn]bool)}
	h.all.Go(func() {
		for {
			conn, err := h.Accept()
			if err != nil {
				return
			}
			h.accepted.Add(1)
			h.mark(conn, true)
			h.all.Go(func() {
				serve(h, conn)
				conn.Close()
				h.mark(conn, false)
			})
		}
	})
	t.Cleanup(func() { h.kill(); h.all.Wait() })
	return h
}

func (h *host) mark(conn net.Conn, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[conn] = open; !open {
		delete(h.open, conn)
	}
}

func (h *host) kill() {
	h.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.open {
		conn.Close()
	}
}

// visitors returns the number of open connections.
func (h *host) visitors() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// polite answers each request on the connection until the other side closes it.
func polite(_ *host, conn net.Conn) {
	for buf := make([]byte, 4096); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

// realStanza returns a stanza with a real check.
func realStanza(t *testing.T, url string, pace verdict.Pace, hold bool) *stanza {
	t.Helper()
	var options []check.Option
	if hold {
		options = append(options, check.Option{Name: "hold"})
	}
	c, err := check.New(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	s := newStanza(NewCheckSpec(c), pace)
	s.within = network.List{network.New(netip.MustParsePrefix("127.0.0.0/8"))}
	return s
}

// holdPool is a pool with one stanza.
type holdPool struct {
	*Pool
	*testing.T
	stanza     *stanza
	generation *Generation
	flight     float64 // probes of other tests that were under way before it began
}

func newHoldPool(t *testing.T, url string, pace verdict.Pace, mostly int) *holdPool {
	t.Helper()
	p := &holdPool{New(), t, realStanza(t, url, pace, true), nil, testutil.ToFloat64(metrics.ProbesInFlight)}
	p.prober.maxHeld = mostly
	p.generation = begin(p.Pool, p.stanza)
	t.Cleanup(p.end)
	return p
}

// end stops the pool.
func (p *holdPool) end() {
	for len(p.generations) > 0 {
		p.Leave(p.generations[0])
	}
	if held := testutil.ToFloat64(metrics.Held.Connections); held != 0 {
		p.Errorf("%v connections are held after the stop, by the metric", held)
	}
	if flight := testutil.ToFloat64(metrics.ProbesInFlight) - p.flight; flight != 0 {
		p.Errorf("%v probes are under way after the stop, by the metric", flight)
	}
}

func (p *holdPool) state(h *host) verdict.State {
	return p.stanza.Look(owner, h.addr.Addr(), 0, 30).State()
}

// on runs a function with a watch, on the pool's loop.
func (p *holdPool) on(h *host, f func(w *monitor)) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		c := &p.stanza.checks[0]
		if w := p.find(&verdict.Target{Identity: c.identity, Addr: h.addr}, c.seed); w != nil {
			f(w)
		}
	})
}

// holds waits until the host is up, its connection is held, and no probe is under way.
func (p *holdPool) holds(hosts ...*host) {
	p.Helper()
	for _, h := range hosts {
		eventually(p.T, "held", func() (ok bool) {
			if p.state(h) == verdict.Up {
				p.on(h, func(w *monitor) { ok = w.held != nil && w.held.conn != nil && w.position >= 0 && w.settled })
			}
			return ok
		})
	}
}

// probeNow makes the host due.
func (p *holdPool) probeNow(h *host) {
	p.on(h, func(w *monitor) {
		p.schedule.remove(w)
		p.schedule.add(w, clock.At(time.Now()), time.Now())
	})
}

// probeFirst makes a host due that no query has asked for.
func (p *holdPool) probeFirst(h *host) {
	p.Helper()
	eventually(p.T, "watched", func() (ok bool) {
		p.state(h)
		p.on(h, func(*monitor) { ok = true })
		return ok
	})
	p.probeNow(h)
}

// later moves the next probe of a host by a whole interval, so that only an alarm can start one earlier.
func (p *holdPool) later(h *host) {
	p.on(h, func(w *monitor) {
		p.schedule.remove(w)
		p.schedule.add(w, clock.At(time.Now()).Add(w.check.pace.Interval), time.Now())
	})
}

func url(scheme string, h *host) string { return fmt.Sprintf("%s://:%d", scheme, h.addr.Port()) }

// A host that dies is down long before its next probe is due (B53, B54).
func TestAlarm(t *testing.T) {
	for _, scheme := range []string{"tcp", "http"} {
		h := newHost(t, 1, 0, polite)
		pace := slowPace
		pace.Fast = time.Minute // during an alarm the pace is faster than that
		p := newHoldPool(t, url(scheme, h), pace, 10)
		p.probeFirst(h)
		p.holds(h)
		p.later(h)
		before := testutil.ToFloat64(metrics.Held.Alarms)
		h.kill()
		eventually(t, "down", func() bool { return p.state(h) == verdict.Down })
		if got := testutil.ToFloat64(metrics.Held.Alarms) - before; got != 1 {
			t.Errorf("%s: %v alarms", scheme, got)
		}
		if got := testutil.ToFloat64(metrics.Held.Connections); got != 0 {
			t.Errorf("%s: %v connections held", scheme, got)
		}
		p.end()
	}
}

// A target that goes down although its connection is open is no longer held.
func TestDownIsNotHeld(t *testing.T) {
	var ill atomic.Bool
	h := newHost(t, 1, 0, func(_ *host, conn net.Conn) {
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			status := "200 OK"
			if ill.Load() {
				status = "503 No"
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		}
	})
	p := newHoldPool(t, url("http", h), slowPace, 10)
	p.holds(h)
	ill.Store(true)
	p.probeNow(h)
	eventually(t, "down", func() bool { return p.state(h) == verdict.Down })
	eventually(t, "the end of the hold", func() bool { return h.visitors() == 0 && testutil.ToFloat64(metrics.Held.Connections) == 0 })
}

// An alarm during a probe starts another probe, because the reply to the first one may be older than the failure.
func TestAlarmAmidAProbe(t *testing.T) {
	asked, answer := make(chan bool), make(chan bool)
	var n atomic.Int64
	h := newHost(t, 1, 0, func(h *host, conn net.Conn) {
		if n.Add(1) == 1 {
			polite(h, conn)
			return
		}
		_, _ = conn.Read(make([]byte, 4096))
		asked <- true
		<-answer
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	})
	p := newHoldPool(t, url("http", h), slowPace, 10)
	p.holds(h)
	var first net.Conn
	h.mu.Lock()
	for first = range h.open {
	}
	h.mu.Unlock()
	p.probeNow(h)
	<-asked
	h.Close()
	first.Close()
	eventually(t, "alarm", func() (alarmed bool) {
		p.on(h, func(w *monitor) { alarmed = w.held.alarmed })
		return alarmed
	})
	answer <- true
	eventually(t, "down", func() bool { return p.state(h) == verdict.Down })
}

// A peer that closes idle connections regularly stays up, and is probed at most three times an interval (B65).
func TestPeerThatClosesIdleConnections(t *testing.T) {
	h := newHost(t, 1, 0, func(_ *host, conn net.Conn) {
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 1))
	})
	pace := verdict.Pace{Interval: time.Second, Fast: 100 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}
	p := newHoldPool(t, url("tcp", h), pace, 10)
	eventually(t, "up", func() bool { return p.state(h) == verdict.Up })
	before, began := h.accepted.Load(), time.Now()
	eventually(t, "eight probes", func() bool {
		if p.state(h) != verdict.Up {
			t.Fatal("the target is not up")
		}
		return h.accepted.Load() >= before+8
	})
	// There are three probes in an interval: two for the alarm, 100 ms apart, and the regular one at least nine
	// tenths of an interval later. Among eight probes there are two such waits and two such pauses between the first
	// and the last.
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("eight probes in %s", took)
	}
}

// At most the permitted number of connections is held, even if many are requested at once. The other targets are
// probed as without hold.
func TestHoldBound(t *testing.T) {
	first := newHost(t, 1, 0, polite)
	hosts := []*host{first}
	for i := 2; i <= 40; i++ {
		hosts = append(hosts, newHost(t, i, first.addr.Port(), polite))
	}
	pace := verdict.Pace{Interval: 200 * time.Millisecond, Fast: 100 * time.Millisecond, Timeout: 200 * time.Millisecond, Rise: 2, Fall: 3}
	pace.Fall = 1000 // a slow machine does not matter here
	before := testutil.ToFloat64(metrics.SkippedHold)
	p := newHoldPool(t, url("tcp", first), pace, 5)
	probed := func() bool {
		for _, h := range hosts {
			p.state(h)
			if h.accepted.Load() < 4 {
				return false
			}
		}
		return true
	}
	eventually(t, "all probed", func() bool {
		if held := testutil.ToFloat64(metrics.Held.Connections); held > 5 {
			t.Fatalf("%v are held", held)
		}
		done := true
		for _, h := range hosts {
			done = p.state(h) == verdict.Up && done
		}
		return done && probed()
	})
	if held := testutil.ToFloat64(metrics.Held.Connections); held != 5 {
		t.Errorf("%v are held", held)
	}
	if testutil.ToFloat64(metrics.SkippedHold) == before {
		t.Error("the others are not counted")
	}
	// One held connection ends, and another target takes its place.
	p.life.Lock()
	p.do(func() {
		for _, w := range p.monitors {
			p.dropConn(w)
		}
	})
	p.life.Unlock()
	eventually(t, "held again", func() bool { return testutil.ToFloat64(metrics.Held.Connections) == 5 })
}

// Probes use up to a quarter of the descriptors that the process may have, as the manual says. Probes and held
// connections together use up to half.
func TestShareOfDescriptors(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) }()
	for _, tc := range []struct {
		descriptors   uint64
		probes, keeps int
	}{{1024, 256, 256}, {8192, 2048, 2048}, {100_000, 4096, 28_672}, {400, 100, 100}, {200, 64, 36}, {100, 64, 0}} {
		if tc.descriptors > before.Max {
			t.Logf("the limit cannot be set above %d descriptors here", before.Max)
			continue
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: tc.descriptors, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		if p := New(); p.schedule.bound != tc.probes || p.prober.maxHeld != tc.keeps || cap(p.probed) != tc.probes {
			t.Errorf("with %d descriptors %d probes may be under way and %d connections kept, want %d and %d",
				tc.descriptors, p.schedule.bound, p.prober.maxHeld, tc.probes, tc.keeps)
		}
	}
}

// A target is no longer held if no query asks for it, if its check has no hold any more, or if its pool has stopped
// (B71).
func TestHoldEnds(t *testing.T) {
	for name, end := range map[string]func(p *holdPool, h *host){
		"stop":   func(p *holdPool, _ *host) { p.end() },
		"forget": func(p *holdPool, h *host) { p.on(h, func(w *monitor) { p.forget(w, time.Now()) }) },
		"reset":  func(p *holdPool, _ *host) { p.life.Lock(); p.do(p.reset); p.life.Unlock() },
		"a reload without hold": func(p *holdPool, h *host) {
			next := begin(p.Pool, realStanza(p.T, url("tcp", h), slowPace, false))
			p.Leave(p.generation)
			p.generation = next
		},
		"a reload to another check": func(p *holdPool, h *host) {
			begin(p.Pool, realStanza(p.T, url("http", h), slowPace, true))
			p.Leave(p.generation)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, 1, 0, polite)
			p := newHoldPool(t, url("tcp", h), slowPace, 10)
			p.holds(h)
			end(p, h)
			eventually(t, "the end of the hold", func() bool { return h.visitors() == 0 })
			if held := testutil.ToFloat64(metrics.Held.Connections); held != 0 {
				t.Errorf("%v connections held, by the metric", held)
			}
		})
	}
}

// A reload that changes nothing keeps the connection.
func TestReloadKeepsHolding(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := newHoldPool(t, url("tcp", h), slowPace, 10)
	p.holds(h)
	p.later(h)
	begin(p.Pool, realStanza(t, url("tcp", h), slowPace, true))
	p.Leave(p.generation)
	if h.accepted.Load() > 2 || testutil.ToFloat64(metrics.Held.Connections) != 1 {
		t.Errorf("%d connections made, %v held", h.accepted.Load(), testutil.ToFloat64(metrics.Held.Connections))
	}
	h.kill()
	eventually(t, "down", func() bool { return p.state(h) == verdict.Down })
}

// The pool stops while peers close the held connections and while probes are under way. It ends in time, nothing is
// held, also by the metrics, and its own cancelled probes are not logged (B71, B74).
func TestStopAmidLosses(t *testing.T) {
	for range 20 {
		first := newHost(t, 1, 0, polite)
		hosts := []*host{first}
		for i := 2; i <= 10; i++ {
			hosts = append(hosts, newHost(t, i, first.addr.Port(), polite))
		}
		p := newHoldPool(t, url("tcp", first), slowPace, 100)
		for _, h := range hosts {
			p.state(h)
		}
		p.holds(first)
		c := p.checks[p.stanza.checks[0].identity]
		for _, h := range hosts {
			h.kill()
		}
		p.end() // this would take forever, or until the end of a probe that gets no reply
		if !c.abstains.First() {
			t.Error("it logs its own cancelled probes")
		}
	}
}

// A stop does not wait for silent peers, and does not log the probes that it cancels.
func TestStopCutsConversations(t *testing.T) {
	h := newHost(t, 1, 0, func(_ *host, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	p := newHoldPool(t, url("http", h), slowPace, 10)
	p.state(h)
	eventually(t, "asked", func() bool { return h.accepted.Load() > 0 })
	c := p.checks[p.stanza.checks[0].identity]
	p.end()
	if !c.abstains.First() {
		t.Error("it logs its own cancelled probe")
	}
}

// If the pool panics while it handles several results at once, the other results still free their places.
func TestPanicAmidAnswers(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := newHoldPool(t, url("tcp", h), slowPace, 10)
	p.holds(h)
	before := testutil.ToFloat64(metrics.Panics)
	p.life.Lock()
	p.do(func() {
		p.schedule.inFlight[doubt] += 3
		p.schedule.total += 3
		metrics.ProbesInFlight.Add(3)
	})
	p.life.Unlock()
	faulty := new(monitor) // without a check
	p.prober.results <- []wire.Answer{{Tag: faulty, Err: errors.New("x")}, {Tag: faulty, Err: errors.New("x")}, {Tag: &monitor{removed: true}}}
	eventually(t, "all places freed", func() (ok bool) {
		p.life.Lock()
		defer p.life.Unlock()
		p.do(func() { ok = p.schedule.inFlight == [lanes]int{} })
		return ok
	})
	if got := testutil.ToFloat64(metrics.Panics) - before; got != 2 {
		t.Errorf("%v panics, want 2", got)
	}
	eventually(t, "probed again", func() bool { return p.state(h) == verdict.Up })
}

// A talk that panics counts as an abstention, and the target is probed again.
func TestPanicOfATalk(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := &holdPool{New(), t, realStanza(t, url("tcp", h), slowPace, false), nil, testutil.ToFloat64(metrics.ProbesInFlight)}
	p.stanza.checks[0].talk = panicking{}
	p.generation = begin(p.Pool, p.stanza)
	defer p.end()
	before := testutil.ToFloat64(metrics.Panics)
	eventually(t, "probed again", func() bool { return p.state(h) == verdict.Unknown && testutil.ToFloat64(metrics.Panics) >= before+3 })
}

type panicking struct{ wire.Talk }

func (panicking) Request(netip.AddrPort) []byte { panic("a fault in the talk") }

// A target that becomes idle while it is probed holds no connection, and the pool does not panic over the one that the probe
// brings (B84).
func TestIdleHoldsNoConnection(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := newHoldPool(t, url("tcp", h), slowPace, 10)
	p.holds(h)
	before := testutil.ToFloat64(metrics.Panics)
	var last clock.Instant
	p.on(h, func(m *monitor) {
		last = m.started
		p.rest(m, time.Now())
		if p.prober.held != 0 || m.held.conn != nil {
			t.Errorf("%d connections are held to an idle target", p.prober.held)
		}
		p.schedule.remove(m)
		p.schedule.add(m, clock.At(time.Now()), time.Now())
	})
	started := func() (at clock.Instant) {
		p.on(h, func(m *monitor) { at = m.started })
		return at
	}
	eventually(t, "probed while idle", func() bool { return started() != last })
	p.on(h, func(m *monitor) { // as if a probe had begun before it became idle
		conn, err := net.Dial("tcp", h.addr.String())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		held, err := wire.Take(conn.(*net.TCPConn))
		if err != nil {
			t.Error(err)
			return
		}
		p.adoptConn(m, held)
		if p.prober.held != 0 || m.held.conn != nil {
			t.Error("the connection is held")
		}
	})
	if got := testutil.ToFloat64(metrics.Panics); got != before {
		t.Errorf("%v panics", got-before)
	}
}
