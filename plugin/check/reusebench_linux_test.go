package check_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"

	"golang.org/x/sys/unix"
)

// BenchmarkProbeReusing asks on a connection that is kept, and every thirtieth time on a new one.
// Compare it with BenchmarkProbe, which asks on a new one each time. The work of the peers is
// included.
func BenchmarkProbeReusing(b *testing.B) {
	config := serverConfig(b, nil, www)
	for _, w := range ways(b) {
		if w.again == nil {
			continue
		}
		lines := [][]string{opt("reuse")}
		if w.tls {
			lines = append(lines, opt("insecure"))
		}
		b.Run(w.name(), func(b *testing.B) {
			m := new(meter)
			r := newReusing(b, w.check(b, www, lines...), listen(b, "127.0.0.1", m.on(w.serve(config, w.again))).addr)
			b.ReportAllocs()
			for b.Loop() {
				r.good(1)
			}
			m.report(b)
		})
	}
}

// backends, in the environment, makes the test binary a process that answers over HTTP and HTTPS, so
// that a benchmark measures our side alone.
const backends = "CHECK_TEST_BACKENDS"

func TestBackends(t *testing.T) {
	if os.Getenv(backends) == "" {
		t.SkipNow() // not a test: see backends
	}
	plain := listen(t, "127.0.0.1", sayAgain(ok))
	secret := listen(t, "127.0.0.1", overTLS(serverConfig(t, nil, www), sayAgain(ok)))
	fmt.Printf("%d %d\n", plain.addr.Port(), secret.addr.Port())
	io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// startBackends returns the addresses of backends in a process of their own.
func startBackends(b *testing.B) (plain, secret netip.AddrPort) {
	b.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^TestBackends$")
	child.Env = append(os.Environ(), backends+"=1")
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); child.Wait() })
	var ports [2]uint16
	if _, err := fmt.Fscanf(out, "%d %d\n", &ports[0], &ports[1]); err != nil {
		b.Fatal(err)
	}
	here := netip.MustParseAddr("127.0.0.1")
	return netip.AddrPortFrom(here, ports[0]), netip.AddrPortFrom(here, ports[1])
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// memory is what the heap, stacks and the runtime have in use, in bytes.
func memory() uint64 {
	var m runtime.MemStats
	for range 2 { // what a pool has is freed by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse + m.OtherSys
}

// BenchmarkKept measures our side of connections that are kept: the memory of one that rests, and
// the processor time of a probe. "kept" is what reuse does, with a goroutine for each probe. The
// other two were rejected: a goroutine for each connection, which always reads, and crypto/tls over
// a descriptor that an event loop polls.
func BenchmarkKept(b *testing.B) {
	plain, secret := startBackends(b)
	for _, bm := range []struct {
		name string
		addr netip.AddrPort
		make func(testing.TB, netip.AddrPort) keptConn
	}{
		{"http fresh", plain, freshly("http://")},
		{"https fresh", secret, freshly("https://")},
		{"http kept", plain, keeping("http://")},
		{"https kept", secret, keeping("https://")},
		{"https goroutine each", secret, newReader},
		{"https event loop", secret, newPolled},
	} {
		b.Run(bm.name, func(b *testing.B) {
			const conns = 200
			all := make([]keptConn, conns)
			before := memory()
			for i := range all {
				all[i] = bm.make(b, bm.addr)
			}
			each := float64(memory()-before) / conns
			began := processorTime()
			for i := 0; b.Loop(); i++ {
				done := make(chan bool)
				go func() { all[i%conns].ask(b); close(done) }()
				<-done
			}
			b.ReportMetric(float64(processorTime()-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(each, "B/conn")
			for _, c := range all {
				c.end()
			}
		})
	}
}

// keptConn is a connection that can be asked, in one of the ways that are compared.
type keptConn struct {
	ask func(testing.TB)
	end func()
}

// freshly asks on a new connection each time.
func freshly(url string) func(testing.TB, netip.AddrPort) keptConn {
	return func(tb testing.TB, addr netip.AddrPort) keptConn {
		c := mustNew(tb, url, flags(url)...)
		return keptConn{func(tb testing.TB) {
			if err := probe(c, addr); err != nil {
				tb.Error(err)
			}
		}, func() {}}
	}
}

func flags(url string) [][]string {
	if url == "https://" {
		return [][]string{opt("insecure")}
	}
	return nil
}

// keeping asks as a check with reuse does.
func keeping(url string) func(testing.TB, netip.AddrPort) keptConn {
	var c *check.Check // one for all
	return func(tb testing.TB, addr netip.AddrPort) keptConn {
		if c == nil {
			c = mustNew(tb, url, append(flags(url), opt("reuse"))...)
		}
		var kept *check.Kept
		ask := func(tb testing.TB) {
			ctx, cancel := context.WithTimeout(context.Background(), patient)
			defer cancel()
			var err error
			if kept, err = c.ProbeReusing(ctx, addr, kept); err != nil {
				tb.Error(err)
			}
		}
		ask(tb)
		return keptConn{ask, func() { kept.Close() }}
	}
}

const request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: coredns-multivalue\r\n\r\n"

// newReader has a goroutine read the connection at all times.
func newReader(tb testing.TB, addr netip.AddrPort) keptConn {
	conn, err := tls.Dial("tcp", addr.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		tb.Fatal(err)
	}
	answers := make(chan int)
	go func() {
		for buf := make([]byte, 512); ; {
			n, err := conn.Read(buf)
			if err != nil {
				close(answers)
				return
			}
			answers <- n
		}
	}()
	ask := func(testing.TB) { io.WriteString(conn, request); <-answers }
	ask(tb)
	return keptConn{ask, func() { conn.Close(); <-answers }}
}

// polled is a descriptor that is read and written without the poller of the runtime.
type polled struct {
	net.Conn // nil: what is not below panics
	fd       int
}

func (p *polled) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, b)
		if err != unix.EAGAIN {
			return n, err
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, -1)
	}
}

func (p *polled) Write(b []byte) (int, error)        { return unix.Write(p.fd, b) }
func (p *polled) Close() error                       { return unix.Close(p.fd) }
func (p *polled) SetWriteDeadline(t time.Time) error { return nil }

// newPolled has crypto/tls speak over such a descriptor. The goroutine of the benchmark is the event
// loop, with one event at a time.
func newPolled(tb testing.TB, addr netip.AddrPort) keptConn {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		tb.Fatal(err)
	}
	conn := tls.Client(&polled{fd: fd}, &tls.Config{InsecureSkipVerify: true})
	buf := make([]byte, 512)
	ask := func(testing.TB) { io.WriteString(conn, request); conn.Read(buf) }
	ask(tb)
	return keptConn{ask, func() { conn.Close() }}
}
