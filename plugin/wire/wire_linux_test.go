package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

const brief = 200 * time.Millisecond

// piecewise sends a text in pieces of that many bytes, each a segment of its own.
func piecewise(text string, size int) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		if !hear(conn) {
			return
		}
		for part := range slices.Chunk([]byte(text), size) {
			if _, err := conn.Write(part); err != nil {
				return
			}
			time.Sleep(200 * time.Microsecond) // or the kernel makes one of many
		}
		linger(conn)
	}
}

func endless(conn *net.TCPConn) {
	for more := bytes.Repeat([]byte("more"), 4096); ; {
		if _, err := conn.Write(more); err != nil {
			return
		}
	}
}

// The result of a conversation, by what the peer does (B33, B48).
func TestConversations(t *testing.T) {
	long, hello300 := dialogue{hello.request, 100_000}, dialogue{hello.request, 300}
	for name, tt := range map[string]struct {
		serve func(*net.TCPConn)
		talk  wire.Talk
		limit time.Duration
		want  []error // one of them
	}{
		"connection":            {linger, connection, patience, []error{nil}},
		"answer":                {says("hello"), hello, patience, []error{nil}},
		"in pieces":             {piecewise("hello", 2), hello, patience, []error{nil}},
		"byte by byte":          {piecewise(strings.Repeat("x", 300), 1), dialogue{hello.request, 300}, patience, []error{nil}},
		"in many pieces":        {piecewise(strings.Repeat("x", 1500), 1), dialogue{hello.request, 1500}, patience, []error{nil}},
		"many, and no more":     {piecewise(strings.Repeat("x", 200), 1), hello300, brief, []error{os.ErrDeadlineExceeded}},
		"long":                  {says(strings.Repeat("x", 100_000)), long, patience, []error{nil}},
		"endless":               {endless, dialogue{hello.request, 200_000}, patience, []error{nil}},
		"silent":                {linger, hello, brief, []error{os.ErrDeadlineExceeded}},
		"half an answer":        {says("hel"), hello, brief, []error{os.ErrDeadlineExceeded}},
		"closes at once":        {func(*net.TCPConn) {}, hello, patience, []error{io.EOF, syscall.ECONNRESET}},
		"closes when asked":     {func(c *net.TCPConn) { hear(c) }, hello, patience, []error{io.EOF}},
		"closes amid":           {func(c *net.TCPConn) { hear(c); io.WriteString(c, "hel") }, hello, patience, []error{io.EOF}},
		"answers, then closes":  {func(c *net.TCPConn) { hear(c); io.WriteString(c, "hello") }, hello, patience, []error{nil}},
		"closes its half first": {func(c *net.TCPConn) { hear(c); c.CloseRead(); io.WriteString(c, "hello") }, hello, patience, []error{nil}},
		"resets at once":        {reset, hello, patience, []error{syscall.ECONNRESET, syscall.EPIPE}},
		"resets when asked":     {func(c *net.TCPConn) { hear(c); reset(c) }, hello, patience, []error{syscall.ECONNRESET}},
		"resets amid":           {func(c *net.TCPConn) { hear(c); io.WriteString(c, "hel"); reset(c) }, hello, patience, []error{syscall.ECONNRESET}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, host := range []string{"127.0.0.1", ports.IPv6(t)} {
				a := newRecorder(t).askOne(listen(t, host, tt.serve), tt.talk, tt.limit, false)
				if !is(a.Err, tt.want...) || a.Held != nil || a.Lost {
					t.Errorf("%s: %+v, want %v", host, a, tt.want)
				}
				if tt.limit == brief && a.Took < brief {
					t.Errorf("%s: the timer ran out after %s", host, a.Took)
				}
			}
		})
	}
}

// listener counts how often it is asked to judge.
type listener struct {
	dialogue
	heard int
}

func (l *listener) Hear(received []byte, ended error) (bool, error) {
	l.heard++
	return l.dialogue.Hear(received, ended)
}

// An answer in very many pieces is not judged with each, because each time it is judged from the
// start. It is still judged to its end (B39).
func TestManyPieces(t *testing.T) {
	const size = 2000
	talk := &listener{dialogue: dialogue{hello.request, size}}
	a := newRecorder(t).askOne(listen(t, "127.0.0.1", piecewise(strings.Repeat("x", size), 1)), talk, patience, false)
	if a.Err != nil {
		t.Error(a.Err)
	}
	most := 64 + 70 + int(a.Took/(20*time.Millisecond)) // each, then as it grows by a sixteenth, and what the timer brings
	if talk.heard > most {
		t.Errorf("heard %d times, want %d at the most", talk.heard, most)
	}
	t.Logf("heard %d times, %s", talk.heard, a.Took)
}

// A request larger than the buffers of the kernel is sent completely. If the peer does not read it,
// the reason says so, even if the peer sends something or leaves.
func TestLargeRequest(t *testing.T) {
	large := dialogue{bytes.Repeat([]byte("0123456789abcdef"), 1<<20), 5}
	var got atomic.Int64
	a := newRecorder(t).askOne(listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		n, _ := io.Copy(io.Discard, io.LimitReader(conn, int64(len(large.request))))
		got.Store(n)
		io.WriteString(conn, "hello")
		linger(conn)
	}), large, patience, false)
	if a.Err != nil || got.Load() != int64(len(large.request)) {
		t.Errorf("%v, and %d of %d bytes", a.Err, got.Load(), len(large.request))
	}
	release := make(chan struct{})
	defer close(release)
	for name, tt := range map[string]struct {
		serve func(*net.TCPConn)
		want  []error
	}{
		"deaf":               {func(*net.TCPConn) { <-release }, []error{os.ErrDeadlineExceeded}},
		"deaf and talkative": {func(c *net.TCPConn) { io.WriteString(c, "hello"); <-release }, []error{os.ErrDeadlineExceeded}},
		"gone":               {reset, []error{syscall.ECONNRESET, syscall.EPIPE}},
	} {
		a := newRecorder(t).askOne(listen(t, "127.0.0.1", tt.serve), large, brief, false)
		early := name == "gone" && strings.HasPrefix(fmt.Sprint(a.Err), "connect: ") // it may be gone before the loop looks
		if !is(a.Err, tt.want...) || !early && !strings.HasPrefix(a.Err.Error(), "send: ") {
			t.Errorf("%s: %v", name, a.Err)
		}
	}
}

// An answer that arrives before the request is sent completely is not overlooked.
func TestEarlyAnswer(t *testing.T) {
	large := dialogue{bytes.Repeat([]byte("x"), 16<<20), 5}
	a := newRecorder(t).askOne(listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		io.WriteString(conn, "hello")
		time.Sleep(50 * time.Millisecond) // it is there while the request is stuck
		linger(conn)
	}), large, patience, false)
	if a.Err != nil {
		t.Error(a.Err)
	}
}

// full is an address whose listen queue is full.
func full(t *testing.T) netip.AddrPort {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	for refused := 0; refused < 3; { // one may be the machine's own slowness
		conn, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(func() { conn.Close() })
	}
	return addr
}

// refusing is an address without a listener.
func refusing(t testing.TB) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(ports.Free(t)))
}

func TestUnconnected(t *testing.T) {
	d := newRecorder(t)
	for _, talk := range []wire.Talk{connection, hello} {
		if a := d.askOne(refusing(t), talk, patience, true); !is(a.Err, syscall.ECONNREFUSED) || a.Held != nil {
			t.Errorf("refused: %+v", a)
		}
		a := d.askOne(full(t), talk, brief, false)
		if !is(a.Err, os.ErrDeadlineExceeded) || !strings.HasPrefix(a.Err.Error(), "connect: ") || a.Took < brief {
			t.Errorf("black hole: %+v", a)
		}
	}
	if a := d.askOne(netip.MustParseAddrPort("255.255.255.255:9"), connection, patience, false); a.Err == nil {
		t.Error("the broadcast address answers")
	}
	if a := d.askOne(netip.AddrPort{}, connection, patience, false); a.Err == nil {
		t.Error("no address at all answers")
	}
}

// Holding must not bound the time to connect, which keep-alive would bound at five seconds.
func TestHoldLeavesConnectingAlone(t *testing.T) {
	t.Parallel()
	const limit = 6 * time.Second
	if a := newRecorder(t).askOne(full(t), connection, limit, true); !is(a.Err, os.ErrDeadlineExceeded) || a.Took < limit {
		t.Errorf("%v after %s", a.Err, a.Took)
	}
}

// Connecting to a closed port of this host may get that very port as the source, and so connect to
// itself. Done often enough, that happens.
func TestConnectionToItselfIsRefused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	var low, high uint16
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		t.Fatal(err)
	}
	d := newRecorder(t)
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), low+(high-low)/4*2) // connect prefers the ports that are even so
	met := 0
	for round := 0; met < 5 && round < 60; round++ {
		met += meet(addr, 2000)
		var questions []wire.Question
		for range 2000 {
			questions = append(questions, wire.Question{Addr: addr, Timeout: patience, Talk: connection, Tag: round})
		}
		d.Ask(questions)
		if !reached(func() bool { return len(d.reports(round)) == len(questions) }) {
			t.Fatal("questions without an answer")
		}
		for _, a := range d.reports(round) {
			if a.Err == nil {
				t.Fatalf("%s met itself, and called it a peer", addr)
			}
		}
	}
	t.Logf("of as many connections beside it, %d met themselves", met)
}

// meet dials in the plain way, and counts how often it is connected to itself: the loop has had as
// many occasions.
func meet(addr netip.AddrPort, n int) (met int) {
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return met
		}
		if syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}) == nil {
			met++
		}
		syscall.Close(fd)
	}
	return met
}

// Two thousand peers at once (B65).
func TestManyPeers(t *testing.T) {
	const peers = 2000
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		if hear(conn) {
			io.WriteString(conn, "hello")
		}
	})
	dead := refusing(t)
	d := newRecorder(t)
	var questions []wire.Question
	for i := range peers {
		q := wire.Question{Addr: addr, Timeout: time.Minute, Talk: hello, Tag: i}
		if i%10 == 0 {
			q.Addr = dead
		}
		questions = append(questions, q)
	}
	d.Ask(questions)
	clear(questions) // it does not keep them
	for i := range peers {
		want := []error{nil}
		if i%10 == 0 {
			want = []error{syscall.ECONNREFUSED}
		}
		if a := d.await(i, 1); !is(a.Err, want...) {
			t.Fatalf("%d: %v", i, a.Err)
		}
	}
}

// starve, in the environment, makes the test binary a process that asks without a free descriptor.
const starve = "WIRE_TEST_STARVE"

func TestNoDescriptor(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), starve+"=yes")
	out, err := child.CombinedOutput()
	want := "connect: " + syscall.EMFILE.Error() + "\nepoll: " + syscall.EMFILE.Error() + "\n<nil>\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

// askStarved is the child: it asks, and starts another loop, with no descriptor free, and asks again when there is one.
func askStarved() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	answers := make(chan []wire.Answer, 1)
	loop, startErr := wire.Start(func(a []wire.Answer) { answers <- a })
	if err := errors.Join(err, startErr, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64})); err != nil {
		fmt.Println(err)
		return
	}
	var files []*os.File
	for err == nil {
		var f *os.File
		f, err = os.Open(os.DevNull)
		files = append(files, f)
	}
	question := []wire.Question{{Addr: l.Addr().(*net.TCPAddr).AddrPort(), Timeout: patience, Talk: connection}}
	loop.Ask(question)
	fmt.Println((<-answers)[0].Err)
	_, err = wire.Start(nil)
	fmt.Println(err)
	files[0].Close()
	loop.Ask(question)
	fmt.Println((<-answers)[0].Err)
}

// clumsy is a talk that panics in one of its methods.
type clumsy struct {
	dialogue
	in string
}

func (c clumsy) slip(method string) {
	if c.in == method {
		panic(method)
	}
}
func (c clumsy) Request(a netip.AddrPort) []byte { c.slip("Request"); return c.dialogue.Request(a) }
func (c clumsy) Unconnected(addr netip.AddrPort, err error) error {
	c.slip("Unconnected")
	return c.dialogue.Unconnected(addr, err)
}
func (c clumsy) Unsent(err error) error { c.slip("Unsent"); return c.dialogue.Unsent(err) }
func (c clumsy) Holds(b []byte) bool    { c.slip("Holds"); return c.dialogue.Holds(b) }
func (c clumsy) Hear(b []byte, ended error) (bool, error) {
	if ended != nil {
		c.slip("Hear the end")
	}
	c.slip("Hear")
	return c.dialogue.Hear(b, ended)
}

// A panic costs one answer, and the loop continues.
func TestPanics(t *testing.T) {
	good := listen(t, "127.0.0.1", says("hello"))
	silent := listen(t, "127.0.0.1", linger)
	release := make(chan struct{})
	defer close(release)
	deaf := listen(t, "127.0.0.1", func(*net.TCPConn) { <-release })
	d := newRecorder(t)
	large := dialogue{make([]byte, 16<<20), 5}
	for i, tt := range []struct {
		addr netip.AddrPort
		talk wire.Talk
	}{
		{good, clumsy{hello, "Request"}}, {good, clumsy{hello, "Hear"}}, {good, clumsy{hello, "Holds"}},
		{good, clumsy{connection, "Holds"}}, {silent, clumsy{hello, "Hear the end"}},
		{refusing(t), clumsy{hello, "Unconnected"}}, {full(t), clumsy{hello, "Unconnected"}}, {deaf, clumsy{large, "Unsent"}},
		{good, nil},
	} {
		if a := d.askOne(tt.addr, tt.talk, brief, true); !is(a.Err, wire.ErrPanic) || a.Held != nil {
			t.Errorf("%d: %+v", i, a)
		}
	}
	if a := d.askOne(good, hello, patience, false); a.Err != nil {
		t.Errorf("afterwards: %v", a.Err)
	}
}

// whim is a peer that does something at random.
func whim(conn *net.TCPConn) {
	switch rand.N(7) {
	case 0:
		reset(conn)
	case 1:
	case 2:
		hear(conn)
	case 3:
		hear(conn)
		io.WriteString(conn, "hel")
		reset(conn)
	case 4:
		linger(conn)
	case 5:
		hear(conn)
		io.WriteString(conn, "hello")
		time.Sleep(rand.N(20 * time.Millisecond))
	case 6:
		says("hello")(conn)
	}
}

// Each question gets exactly one answer, whatever peers and callers do, even if the loop is closed
// meanwhile; and a held connection is lost at most once (B71).
func TestEachQuestionHasOneAnswer(t *testing.T) {
	for round := range 10 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			addrs := []netip.AddrPort{listen(t, "127.0.0.1", whim), listen(t, ports.IPv6(t), whim), refusing(t)}
			d := newRecorder(t)
			var asked atomic.Int64
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 40 {
						var questions []wire.Question
						for range 1 + rand.N(5) {
							questions = append(questions, wire.Question{Addr: addrs[rand.N(len(addrs))], Talk: []wire.Talk{hello, connection}[rand.N(2)],
								Timeout: rand.N(100 * time.Millisecond), Hold: rand.N(2) == 0, Tag: asked.Add(1)})
						}
						d.Ask(questions)
						d.releaseSome()
						runtime.Gosched()
					}
				})
			}
			all.Wait()
			if round%2 == 0 {
				reached(func() bool { return d.answered() == int(asked.Load()) })
			}
			d.close()
			for tag := int64(1); tag <= asked.Load(); tag++ {
				d.checkAnswers(tag)
			}
		})
	}
}

// releaseSome releases half of the connections that are held.
func (d *recorder) releaseSome() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, all := range d.answers {
		for _, a := range all {
			if a.Held != nil && rand.N(2) == 0 {
				d.Release(a.Held) // perhaps not for the first time, which is no matter
			}
		}
	}
}

// answered counts the questions with an answer.
func (d *recorder) answered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.answers)
}

// checkAnswers wants one answer, which the loss of a held connection may follow.
func (d *recorder) checkAnswers(tag any) {
	d.Helper()
	all := d.reports(tag)
	ok := len(all) == 1 && !all[0].Lost
	if len(all) == 2 {
		ok = all[0].Held != nil && !all[0].Lost && all[1].Lost && all[1].Held == all[0].Held
	}
	if !ok {
		d.Errorf("question %v: %+v", tag, all)
	}
}

// Close with hundreds of conversations in each stage (B71).
func TestCloseAmid(t *testing.T) {
	before := openDescriptors()
	silent, hole := listen(t, "127.0.0.1", linger), full(t)
	d := newRecorder(t)
	var questions []wire.Question
	for i := range 600 {
		questions = append(questions, wire.Question{Addr: []netip.AddrPort{silent, hole, silent}[i%3], Timeout: time.Minute,
			Talk: []wire.Talk{hello, hello, connection}[i%3], Hold: true, Tag: i})
	}
	d.Ask(questions)
	for i := 2; i < 600; i += 3 {
		d.await(i, 1)
	}
	d.Ask([]wire.Question{{Addr: silent, Timeout: time.Minute, Talk: hello, Tag: 600}})
	began := time.Now()
	d.close()
	if took := time.Since(began); took > 30*time.Second { // half of what the last one may take
		t.Errorf("it took %s", took)
	}
	for i := range 601 {
		a := d.await(i, 1)
		if kept := i%3 == 2; kept && a.Held == nil || !kept && !is(a.Err, wire.ErrClosing) {
			t.Errorf("%d: %+v", i, a)
		}
	}
	if rest := d.Close(); len(rest) != 0 {
		t.Errorf("closed twice, it repeats %d answers", len(rest))
	}
	d.Ask(questions)
	d.Release(d.reports(2)[0].Held)
	if !reached(func() bool { return openDescriptors() < before+200 }) { // the listener's ends, and those that fill the hole
		t.Errorf("%d descriptors are open, %d were", openDescriptors(), before)
	}
}

// Close while report is blocked until the caller of Close lets it continue, as in the pool.
func TestCloseWhileReporting(t *testing.T) {
	addr := listen(t, "127.0.0.1", says("hello"))
	told := make(chan []wire.Answer)
	l, err := wire.Start(func(a []wire.Answer) { told <- a })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		l.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: hello, Tag: i}})
	}
	last := make(chan []wire.Answer)
	go func() { last <- l.Close() }()
	got := make(map[any]int)
	for open := true; open; {
		var answers []wire.Answer
		select {
		case answers = <-told:
		case answers = <-last:
			open = false
		case <-time.After(patience):
			t.Fatal("stuck")
		}
		for _, a := range answers {
			got[a.Tag]++
		}
	}
	for i := range 50 {
		if got[i] != 1 {
			t.Errorf("question %d has %d answers", i, got[i])
		}
	}
}
