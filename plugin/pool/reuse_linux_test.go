package pool

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// reuseStanza returns a stanza with a real check that has these flags, and reuse.
func reuseStanza(t *testing.T, url string, pace verdict.Pace, flags ...string) *stanza {
	t.Helper()
	var options []check.Option
	for _, flag := range append([]string{"reuse"}, flags...) {
		words := strings.Fields(flag)
		options = append(options, check.Option{Name: words[0], Values: words[1:]})
	}
	c, err := check.New(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	s := newStanza(NewCheckSpec(c), pace)
	s.within = network.List{network.New(netip.MustParsePrefix("127.0.0.0/8"))}
	return s
}

func newReusePool(t *testing.T, s *stanza, mostly int) *holdPool {
	t.Helper()
	p := &holdPool{New(), t, s, nil, testutil.ToFloat64(metrics.ProbesInFlight)}
	p.prober.maxHeld = mostly
	p.generation = begin(p.Pool, p.stanza)
	t.Cleanup(p.end)
	return p
}

// keeps waits until the hosts are up, their connections are kept, and no probe is under way.
func (p *holdPool) keeps(hosts ...*host) {
	p.Helper()
	for _, h := range hosts {
		eventually(p.T, "kept", func() (ok bool) {
			if p.state(h) == verdict.Up {
				p.on(h, func(m *monitor) { ok = m.held.keeps() && m.position >= 0 })
			}
			return ok
		})
	}
}

// keeps reports whether there is a connection for the next probe.
func (h *heldConn) keeps() bool { return h != nil && (h.conn != nil || h.kept != nil) }

// ask has a host probed, and waits for the result.
func (p *holdPool) ask(h *host) {
	p.Helper()
	var before uint64
	p.life.Lock()
	p.do(func() { before = p.settled })
	p.life.Unlock()
	p.probeNow(h)
	eventually(p.T, "probed", func() (done bool) {
		p.on(h, func(m *monitor) { done = p.settled > before && m.position >= 0 })
		return done
	})
}

// secret is polite over TLS.
func secret(t *testing.T) func(*host, net.Conn) { return serve(t, "https", polite) }

// serve has a peer speak over TLS if that is the scheme.
func serve(t *testing.T, scheme string, inner func(*host, net.Conn)) func(*host, net.Conn) {
	if scheme == "http" {
		return inner
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(h *host, conn net.Conn) { inner(h, tls.Server(conn, config)) }
}

// One probe after the other is asked on one connection, in the clear and over TLS, with and without hold. One that the peer
// has closed is replaced, and that is no failure. A peer that is gone goes down (B114).
func TestReuse(t *testing.T) {
	for _, tt := range []struct{ scheme, flags string }{{"http", ""}, {"http", "hold"}, {"https", "insecure"}, {"https", "insecure hold"}} {
		t.Run(tt.scheme+" "+tt.flags, func(t *testing.T) {
			h := newHost(t, 1, 0, serve(t, tt.scheme, polite))
			p := newReusePool(t, reuseStanza(t, url(tt.scheme, h), slowPace, strings.Fields(tt.flags)...), 10)
			p.keeps(h)
			for range 10 {
				p.ask(h)
			}
			if n := h.accepted.Load(); n != 1 {
				t.Errorf("%d connections for more than ten probes", n)
			}
			if held := testutil.ToFloat64(metrics.Held.Connections); held != 1 {
				t.Errorf("%v connections are kept, by the metric", held)
			}
			h.hangUp()
			if !strings.Contains(tt.flags, "hold") { // or the end of the connection has it probed
				p.ask(h)
			}
			eventually(t, "another connection", func() bool { return h.accepted.Load() > 1 })
			p.keeps(h)
			var streak int
			p.on(h, func(m *monitor) { streak = m.machine.Streak() })
			if streak > 0 || p.state(h) != verdict.Up {
				t.Errorf("%d failures in a row, %v", streak, p.state(h))
			}
			eventually(t, "the end of the alarm", func() (over bool) {
				p.on(h, func(m *monitor) { over = !m.held.alarmed && m.position >= 0 })
				return over
			})
			h.kill()
			p.probeNow(h) // because there was an alarm in this interval, if there is hold
			eventually(t, "down", func() bool { return p.state(h) == verdict.Down })
			if held := testutil.ToFloat64(metrics.Held.Connections); held != 0 || p.prober.held != 0 {
				t.Errorf("%v and %d connections are kept to a dead target", held, p.prober.held)
			}
		})
	}
}

// A connection is replaced after thirty probes, in the event loop as elsewhere (B114).
func TestReuseIsReplaced(t *testing.T) {
	for _, kind := range []string{"http", "http hold", "https insecure", "https insecure hold"} {
		words := strings.Fields(kind)
		h := newHost(t, 1, 0, serve(t, words[0], polite))
		p := newReusePool(t, reuseStanza(t, url(words[0], h), slowPace, words[1:]...), 10)
		p.keeps(h)
		for range 65 {
			p.ask(h)
		}
		if n := h.accepted.Load(); n != 3 {
			t.Errorf("%s: %d connections for 66 probes", kind, n)
		}
		eventually(t, "the end of those before", func() bool { return h.visitors() == 1 })
		if held := testutil.ToFloat64(metrics.Held.Connections); held != 1 || p.state(h) != verdict.Up {
			t.Errorf("%s: %v connections are kept, by the metric; it is %v", kind, held, p.state(h))
		}
		p.end()
	}
}

// hangUp closes all connections, and listens on.
func (h *host) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.open {
		conn.Close()
	}
}

// A connection is not kept if no query asks for its target any more, if its check has no reuse any more, or if its pool has
// stopped (B71, B84, B114).
func TestReuseEnds(t *testing.T) {
	for name, end := range map[string]func(p *holdPool, h *host){
		"stop":   func(p *holdPool, _ *host) { p.end() },
		"forget": func(p *holdPool, h *host) { p.on(h, func(m *monitor) { p.forget(m, time.Now()) }) },
		"idle":   func(p *holdPool, h *host) { p.on(h, func(m *monitor) { p.rest(m, time.Now()) }) },
		"reset":  func(p *holdPool, _ *host) { p.life.Lock(); p.do(p.reset); p.life.Unlock() },
		"a reload without reuse": func(p *holdPool, h *host) {
			next := begin(p.Pool, realStanza(p.T, url("http", h), slowPace, false)) // which nothing asks for
			p.Leave(p.generation)
			p.generation = next
		},
	} {
		for _, kind := range []string{"http", "http hold", "https insecure", "https insecure hold"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				words := strings.Fields(kind)
				h := newHost(t, 1, 0, serve(t, words[0], polite))
				p := newReusePool(t, reuseStanza(t, url(words[0], h), slowPace, words[1:]...), 10)
				p.keeps(h)
				end(p, h)
				eventually(t, "the end of the connection", func() bool { return h.visitors() == 0 })
				if held := testutil.ToFloat64(metrics.Held.Connections); held != 0 {
					t.Errorf("%v connections are kept, by the metric", held)
				}
			})
		}
	}
}

// A probe that is under way when its target becomes idle, is forgotten, or when its pool is reset, leaves no connection.
func TestReuseEndsAmidAProbe(t *testing.T) {
	for name, end := range map[string]func(p *holdPool, m *monitor){
		"idle":   func(p *holdPool, m *monitor) { p.rest(m, time.Now()) },
		"forget": func(p *holdPool, m *monitor) { p.forget(m, time.Now()) },
		"reset":  func(p *holdPool, _ *monitor) { p.reset() },
		"drop":   func(p *holdPool, m *monitor) { p.dropConn(m) },
	} {
		for _, kind := range []string{"http", "http hold", "https insecure", "https insecure hold"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				words := strings.Fields(kind)
				var stall atomic.Bool
				asked, answer := make(chan bool), make(chan bool)
				h := newHost(t, 1, 0, serve(t, words[0], func(_ *host, conn net.Conn) {
					for buf := make([]byte, 4096); ; {
						if _, err := conn.Read(buf); err != nil {
							return
						}
						if stall.Load() {
							asked <- true
							<-answer
						}
						_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
					}
				}))
				p := newReusePool(t, reuseStanza(t, url(words[0], h), slowPace, words[1:]...), 10)
				p.keeps(h)
				stall.Store(true)
				p.probeNow(h)
				<-asked
				p.on(h, func(m *monitor) { end(p, m) })
				stall.Store(false)
				answer <- true
				if name != "drop" { // which is about the count alone
					eventually(t, "the end of the connection", func() bool { return h.visitors() == 0 })
				} else {
					eventually(t, "the result", func() (done bool) {
						p.on(h, func(m *monitor) { done = m.position >= 0 })
						return done
					})
					p.ask(h)
					p.keeps(h)
				}
				want := 0
				if name == "drop" {
					want = 1
					if kind == "https insecure hold" {
						want = 2 // descriptors
					}
				}
				counted := -1
				eventually(t, "the count", func() bool {
					p.life.Lock()
					defer p.life.Unlock()
					p.do(func() { counted = p.prober.held })
					return counted == want
				})
			})
		}
	}
}

// A connection may be given up at the instant of its answer. It is not held after that, and that it ended proves nothing
// about its peer.
func TestReuseEndsWithTheAnswer(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := newReusePool(t, reuseStanza(t, url("http", h), slowPace), 10)
	p.keeps(h)
	p.on(h, func(m *monitor) {
		conn := m.held.lend(time.Now())
		if conn == nil {
			t.Error("no connection to ask on")
		}
		p.dropConn(m)
		if held := p.replaceConn(m, wire.Answer{Tag: m, Held: conn}); held != nil {
			t.Error("a connection that has been given up is held")
		}
		if m.held.futile != 0 {
			t.Error("it counts as one that gave no answer")
		}
	})
	for range 2 * futileMost { // and others are kept as before
		p.ask(h)
		p.keeps(h)
	}
}

// A hundred reloads change nothing about a connection, and leave none, nor a goroutine.
func TestReuseOverReloads(t *testing.T) {
	h := newHost(t, 1, 0, secret(t))
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	p := newReusePool(t, reuseStanza(t, url("https", h), slowPace, "insecure"), 10)
	p.keeps(h)
	for range 50 {
		next := begin(p.Pool, reuseStanza(t, url("https", h), slowPace, "insecure"))
		p.Leave(p.generation)
		p.generation = next
	}
	p.ask(h)
	if n := h.accepted.Load(); n != 1 {
		t.Errorf("%d connections after reloads that change nothing", n)
	}
	for range 50 {
		next := begin(p.Pool, reuseStanza(t, url("https", h), slowPace, "insecure", "expires 1s"))
		p.Leave(p.generation)
		p.stanza, p.generation = reuseStanza(t, url("https", h), slowPace, "insecure"), next
		next = begin(p.Pool, p.stanza)
		p.Leave(p.generation)
		p.generation = next
		p.probeFirst(h)
	}
	p.keeps(h)
	p.end()
	eventually(t, "the end of all connections", func() bool { return h.visitors() == 0 })
	eventually(t, "the end of all goroutines and descriptors", func() bool {
		return runtime.NumGoroutine() <= goroutines && openDescriptors() <= descriptors
	})
}

// openDescriptors is how many descriptors the process has.
func openDescriptors() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// No more connections are kept than may be; the other targets are asked as without reuse, and counted.
func TestReuseBound(t *testing.T) {
	first := newHost(t, 1, 0, polite)
	hosts := []*host{first}
	for i := 2; i <= 20; i++ {
		hosts = append(hosts, newHost(t, i, first.addr.Port(), polite))
	}
	pace := verdict.Pace{Interval: 300 * time.Millisecond, Fast: 100 * time.Millisecond, Timeout: 200 * time.Millisecond, Rise: 2, Fall: 1000}
	before := testutil.ToFloat64(metrics.Held.NoRoom)
	p := newReusePool(t, reuseStanza(t, url("http", first), pace), 5)
	eventually(t, "all are up, and five are kept", func() bool {
		if held := testutil.ToFloat64(metrics.Held.Connections); held > 5 {
			t.Fatalf("%v are kept", held)
		}
		up := true
		for _, h := range hosts {
			up = p.state(h) == verdict.Up && up
		}
		return up && testutil.ToFloat64(metrics.Held.Connections) == 5
	})
	if testutil.ToFloat64(metrics.Held.NoRoom) == before {
		t.Error("the others are not counted")
	}
	p.life.Lock()
	p.do(func() {
		for _, m := range p.monitors {
			p.dropConn(m)
		}
	})
	p.life.Unlock()
	eventually(t, "kept again", func() bool {
		for _, h := range hosts {
			p.state(h)
		}
		return testutil.ToFloat64(metrics.Held.Connections) == 5
	})
}

// A peer that closes its connections is asked as without reuse, and now and then as with it.
func TestReuseInVain(t *testing.T) {
	h := newHost(t, 1, 0, serve(t, "https", func(_ *host, conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	}))
	p := newReusePool(t, reuseStanza(t, url("https", h), slowPace, "insecure"), 10)
	eventually(t, "up", func() bool { return p.state(h) == verdict.Up })
	vain := func() (n int) {
		p.on(h, func(m *monitor) { n = int(m.held.vain) })
		return n
	}
	eventually(t, "known", func() bool { return vain() > 0 })
	before, seen := h.accepted.Load(), make(map[int]bool)
	for range vainFor + 5 {
		p.ask(h)
		seen[vain()] = true
	}
	if n := h.accepted.Load() - before; n != vainFor+5 {
		t.Errorf("%d connections for %d probes", n, vainFor+5)
	}
	if !seen[0] || !seen[vainFor] {
		t.Errorf("it is not tried again: %v", seen)
	}
}

// A target that is left to other members of a fleet has no connection here, nor has one whose probe was under way then.
func TestReuseIsLeftToOthers(t *testing.T) {
	h := newHost(t, 1, 0, secret(t))
	p := newReusePool(t, reuseStanza(t, url("https", h), slowPace, "insecure"), 10)
	p.keeps(h)
	p.on(h, func(m *monitor) {
		p.schedule.remove(m)
		m.position, m.shared = listening, new(shared) // without markProbes
		defer func() {
			m.position, m.shared = parked, nil
			p.schedule.add(m, clock.At(time.Now()).Add(time.Hour), time.Now())
		}()
		k := p.prober.reusing(m, time.Now())
		if k == nil || k.kept == nil || m.held.kept != nil {
			t.Fatal("there is no connection for the probe")
		}
		p.adoptKept(probeResult{monitor: m, kept: k.kept})
		if m.held.kept != nil || p.prober.held != 0 || len(p.prober.parting) != 1 {
			t.Errorf("%d are kept", p.prober.held)
		}
	})
	eventually(t, "the end of the connection", func() bool { return h.visitors() == 0 })
}

// Where kept connections give no answer, as behind a firewall that forgets them, a target is soon asked as without reuse, and now and then
// as with it. It stays up (B114).
func TestReuseIsFutile(t *testing.T) {
	for scheme, flags := range map[string][]string{"http": nil, "https": {"insecure"}} {
		t.Run(scheme, func(t *testing.T) {
			h := newHost(t, 1, 0, serve(t, scheme, func(_ *host, conn net.Conn) {
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
				}
				_, _ = io.Copy(io.Discard, conn) // it hears, and says no more
			}))
			pace := slowPace
			pace.Timeout = time.Second
			p := newReusePool(t, reuseStanza(t, url(scheme, h), pace, flags...), 10)
			p.keeps(h)
			// now waits until no probe is under way. On a busy machine one may fail, and others follow at once.
			now := func() (vain, kept int, settled uint64) {
				eventually(t, "no probe", func() (rests bool) {
					p.on(h, func(m *monitor) {
						rests, vain, kept, settled = m.position >= 0, int(m.held.vain), 0, p.settled
						if m.held.keeps() {
							kept = 1
						}
					})
					return rests
				})
				return vain, kept, settled
			}
			first, _, base := now()
			for asked := 0; first == 0; asked++ {
				if asked > 2*futileMost { // a new connection that was asked late is not kept
					t.Fatal("it is asked as with reuse again and again")
				}
				p.ask(h)
				first, _, base = now()
			}
			for left := first; left > 0; {
				vain, kept, settled := now()
				if left = first - int(settled-base); left < 0 {
					break // a probe has failed just now
				}
				if vain != left || kept != 0 {
					t.Fatalf("%d kept, in vain for %d probes, want 0 for %d", kept, vain, left)
				}
				p.ask(h)
			}
			vain, kept, _ := now()
			for tries := 0; kept == 0 && vain == 0 && tries < 5; tries++ {
				p.ask(h)
				vain, kept, _ = now()
			}
			if vain != 0 || kept != 1 || p.state(h) != verdict.Up {
				t.Errorf("%d kept, in vain for %d probes, %v", kept, vain, p.state(h))
			}
		})
	}
}

// within runs a function in the loop of the pool.
func (p *holdPool) within(f func()) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(f)
}

// The end of a held connection is an alarm also while it is being asked again: the process of the peer may be gone (B53, B114).
func TestAlarmAmidAReusedProbe(t *testing.T) {
	var dying atomic.Bool
	asked, gone := make(chan bool), make(chan bool)
	h := newHost(t, 1, 0, func(_ *host, conn net.Conn) {
		request := make([]byte, 4096)
		for {
			if _, err := conn.Read(request); err != nil {
				return
			}
			if dying.Load() {
				asked <- true
				<-gone
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	pace := slowPace
	pace.Fast, pace.Rise = pace.Interval, 1 // no failure brings the next probe, either
	p := newReusePool(t, reuseStanza(t, url("http", h), pace, "hold"), 10)
	p.probeFirst(h)
	p.keeps(h)
	dying.Store(true)
	p.probeNow(h)
	<-asked
	h.Close()
	gone <- true
	eventually(t, "alarm and down", func() bool { return p.state(h) == verdict.Down }) // in the pace of an alarm alone
	if n := h.accepted.Load(); n != 1 {
		t.Errorf("%d connections were accepted", n)
	}
}

// A connection that a goroutine has left, while the event loop could not be started, does not stay behind once it is there (B114).
func TestConnectionOfBeforeTheLoop(t *testing.T) {
	h := newHost(t, 1, 0, polite)
	p := newReusePool(t, reuseStanza(t, url("http", h), slowPace), 10)
	p.within(func() { p.prober.retryAt = time.Now().Add(time.Hour) })
	p.probeFirst(h)
	p.keeps(h)
	p.on(h, func(m *monitor) {
		if m.held.kept == nil || p.prober.loop != nil {
			t.Fatal("it was not a goroutine that asked")
		}
	})
	p.within(func() { p.prober.retryAt = time.Time{} })
	p.ask(h)
	p.on(h, func(m *monitor) {
		if m.held.kept != nil || m.held.conn == nil || p.prober.held != 1 {
			t.Errorf("%+v, %d are held", *m.held, p.prober.held)
		}
	})
	eventually(t, "closed", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.open) == 1
	})
}
