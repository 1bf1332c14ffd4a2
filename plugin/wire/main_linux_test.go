package wire_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// TestMain checks that after all tests there are as many goroutines and descriptors as before
// (B71).
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(starve) != "":
		askStarved()
		return
	case os.Getenv(victim) != "":
		waitToDie()
		return
	}
	warm, err := net.Listen("tcp", "127.0.0.1:0") // opens what the runtime keeps for polling
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	warm.Close()
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	code := m.Run()
	back := func() bool { return runtime.NumGoroutine() <= goroutines && openDescriptors() <= descriptors+1 } // os/exec keeps one
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	if code == 0 && !fuzzing && !reached(back) {
		fmt.Fprintf(os.Stderr, "goroutines %d, were %d; descriptors %d, were %d\n",
			runtime.NumGoroutine(), goroutines, openDescriptors(), descriptors)
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		code = 1
	}
	os.Exit(code)
}

func openDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// patience is a time that only something stuck needs.
const patience = 20 * time.Second

func reached(condition func() bool) bool {
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// dialogue is a talk for tests: it sends a text, and is over when it has received enough.
type dialogue struct {
	request []byte
	enough  int // bytes
}

func (d dialogue) Request(netip.AddrPort) []byte { return d.request }
func (d dialogue) Unconnected(_ netip.AddrPort, err error) error {
	return fmt.Errorf("connect: %w", err)
}
func (d dialogue) Unsent(err error) error { return fmt.Errorf("send: %w", err) }
func (d dialogue) HearAll(received []byte, ended error) (over, stays, complete bool, result error) {
	over, result = d.Hear(received, ended)
	return over, true, true, result
}

func (d dialogue) Holds(received []byte) bool { return !bytes.Contains(received, []byte("bye")) }
func (d dialogue) Hear(received []byte, ended error) (bool, error) {
	if n := min(len(received), 5); d.enough == 5 && string(received[:n]) != "hello"[:n] {
		return true, fmt.Errorf("not what was sent: %q", received)
	}
	if len(received) >= d.enough {
		return true, nil
	}
	if ended != nil {
		return true, fmt.Errorf("%d bytes: %w", len(received), ended)
	}
	return false, nil
}

var (
	connection = dialogue{}
	hello      = dialogue{[]byte("hello\n"), 5}
)

// A recorder runs a loop, and keeps what it reports by the tags of the questions.
type recorder struct {
	testing.TB
	*wire.Loop
	mu      sync.Mutex
	answers map[any][]wire.Answer
	closed  bool
}

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	d := &recorder{TB: t, answers: make(map[any][]wire.Answer)}
	var err error
	if d.Loop, err = wire.Start(d.record); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func (d *recorder) record(answers []wire.Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range answers {
		d.answers[a.Tag] = append(d.answers[a.Tag], a)
	}
}

// close closes the loop.
func (d *recorder) close() {
	if !d.closed {
		d.closed = true
		d.record(d.Close())
	}
}

// reports are the answers to a question so far.
func (d *recorder) reports(tag any) []wire.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]wire.Answer(nil), d.answers[tag]...)
}

// await waits for n reports on a question, and returns the last.
func (d *recorder) await(tag any, n int) wire.Answer {
	d.Helper()
	if !reached(func() bool { return len(d.reports(tag)) >= n }) {
		d.Fatalf("%v: %d answers, want %d", tag, len(d.reports(tag)), n)
	}
	all := d.reports(tag)
	if len(all) > n {
		d.Fatalf("%v: %d answers, want %d: %v", tag, len(all), n, all)
	}
	return all[n-1]
}

// askOne asks one question, and waits for its answer.
func (d *recorder) askOne(addr netip.AddrPort, talk wire.Talk, timeout time.Duration, hold bool) wire.Answer {
	d.Helper()
	tag := new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: timeout, Talk: talk, Hold: hold, Tag: tag}})
	return d.await(tag, 1)
}

// listen serves connections until the test is over.
func listen(t testing.TB, host string, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	open := make(map[net.Conn]bool)
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() {
				serve(conn.(*net.TCPConn))
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// linger reads until the other side closes.
func linger(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// hear reads the request.
func hear(conn *net.TCPConn) bool {
	_, err := io.ReadFull(conn, make([]byte, len(hello.request)))
	return err == nil
}

// says answers a request.
func says(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		if hear(conn) {
			_, _ = io.WriteString(conn, text)
			linger(conn)
		}
	}
}

func is(err error, targets ...error) bool {
	for _, target := range targets {
		if target == nil && err == nil || target != nil && errors.Is(err, target) {
			return true
		}
	}
	return false
}
