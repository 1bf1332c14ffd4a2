package check_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// starve, in the environment, makes the test binary a process that probes without a free
// descriptor. Its value is the URL of the check.
const starve = "CHECK_TEST_STARVE"

// TestMain checks that nothing outlives a probe: after all tests there are as many goroutines and
// descriptors as before the first.
func TestMain(m *testing.M) {
	if os.Getenv(starve) != "" {
		probeStarved()
		return
	}
	if os.Getenv(grpcServer) != "" {
		serveGRPCAlone()
	}
	warm, err := net.Listen("tcp", "127.0.0.1:0") // opens what the runtime keeps for polling
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	warm.Close()
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	code := m.Run()
	back := func() bool {
		runtime.GC() // io.Copy from socket to socket leaves a pipe in a pool
		return runtime.NumGoroutine() <= goroutines && openDescriptors() <= descriptors
	}
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	if code == 0 && !fuzzing && !wait(back) {
		fmt.Fprintf(os.Stderr, "goroutines %d, were %d; descriptors %d, were %d\n",
			runtime.NumGoroutine(), goroutines, openDescriptors(), descriptors)
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		links, _ := filepath.Glob("/proc/self/fd/*")
		for _, link := range links {
			to, _ := os.Readlink(link)
			fmt.Fprintln(os.Stderr, link, to)
		}
		code = 1
	}
	os.Exit(code)
}

func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// wait polls until the condition holds. The bound only ends a hang: neither the kernel nor another
// process announces what it has done.
func wait(condition func() bool) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

// A peer is a server written by a test.
type peer struct {
	addr netip.AddrPort

	mu    sync.Mutex
	conns []net.Conn

	stop func() // ends the listener and all connections
}

// listen serves connections on a loopback address until the test is over.
func listen(tb testing.TB, host string, serve func(net.Conn)) *peer {
	tb.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	p := &peer{addr: l.Addr().(*net.TCPAddr).AddrPort()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.keep(conn)
			all.Go(func() { serve(conn); conn.Close() })
		}
	})
	p.stop = func() {
		l.Close()
		for _, conn := range p.accepted() {
			conn.Close()
		}
		all.Wait()
	}
	tb.Cleanup(p.stop)
	return p
}

func (p *peer) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
}

func (p *peer) accepted() []net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]net.Conn(nil), p.conns...)
}

// answer reads a request and writes a text.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if readRequest(conn) != nil {
			fmt.Fprint(conn, text)
		}
	}
}

func readRequest(conn net.Conn) *http.Request {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil
	}
	return request
}

// hold keeps the connection open until the other side or the end of the test closes it.
func hold(conn net.Conn) {
	for buf := make([]byte, 1024); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// options writes options in short form: a flag, or a name and its values.
func options(lines ...[]string) (all []check.Option) {
	for _, line := range lines {
		all = append(all, check.Option{Name: line[0], Values: line[1:]})
	}
	return all
}

func opt(words ...string) []string { return words }

func mustNew(tb testing.TB, url string, lines ...[]string) *check.Check {
	tb.Helper()
	c, err := check.New(url, options(lines...)...)
	if err != nil {
		tb.Fatalf("New(%s, %v): %v", url, lines, err)
	}
	return c
}

// probe asks with a time-out that only a stuck probe reaches.
func probe(c *check.Check, addr netip.AddrPort) error { return probeFor(c, addr, 10*time.Second) }

func probeFor(c *check.Check, addr netip.AddrPort, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return c.Probe(ctx, addr)
}

// reason is the text of an error, "" for a good answer.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// lacking skips the test because something is missing. In CI that is a failure.
func lacking(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}
