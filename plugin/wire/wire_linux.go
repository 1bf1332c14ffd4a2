package wire

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supported reports whether [Start] works on this system.
const Supported = true

const (
	// eventBatch is how many events are taken from the kernel at once. It is large so that, if the
	// loop was kept from running, everybody who has answered meanwhile is heard before timers
	// expire.
	eventBatch = 4096
	// receiveSize is the size of the buffer for reading, in bytes.
	receiveSize = 16 << 10
	// panicPause is how long the loop rests after a panic of its own. A panic that comes again and
	// again must not keep a processor busy.
	panicPause = 100 * time.Millisecond
	// yieldAfter is how many connections are opened before other goroutines may run: on a host with one processor, queries
	// would wait for all of them.
	yieldAfter = 16
	// timerSlack is how late a timer may be, so that several expire in one turn.
	timerSlack = 5 * time.Millisecond
)

// past is a deadline that has passed; setting it wakes the goroutine.
var past = time.Now()

// A Loop asks peers and holds connections. One goroutine owns all of them. The methods only leave
// work for it in the fields under mu, and wake it, so they never wait for the network.
type Loop struct {
	report func([]Answer)  // receives the answers, on the goroutine
	file   *os.File        // the epoll descriptor, polled by the runtime
	raw    syscall.RawConn // of file, to wait on it
	epoll  int             // the same descriptor, for system calls
	ended  chan struct{}   // closed when the goroutine has ended

	mu        sync.Mutex
	pending   []Question // from Ask
	toHold    []*conn    // from Keep
	toRelease []*Held    // from Release
	closing   bool       // from Close; never reset
	waiting   bool       // the goroutine waits, and must be woken

	// Everything below belongs to the goroutine. First the connections by descriptor; nil where
	// there is none.
	conns   []*conn
	opened  int32 // the last serial number given out
	timers  timers
	answers []Answer   // not reported yet
	opening []Question // taken from pending, and not opened yet
	holding []*conn    // taken from toHold, and not in conns yet
	events  [eventBatch]unix.EpollEvent
	buffer  [receiveSize]byte // what was read last; valid until the next read
	spare   []Question        // the memory of the last pending slice, to use again
}

// A Held is a connection that is held. It ends by [Loop.Release], or when the peer ends it.
type Held struct{ conn *conn }

// Start starts a loop. It calls report with the answers from its goroutine, and does nothing else
// while report runs. A panic in report is survived, like every other panic in the loop, but those
// answers are lost. The caller must call [Loop.Close].
func Start(tell func([]Answer)) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		closeSocket(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &Loop{report: tell, epoll: fd, file: os.NewFile(uintptr(fd), "epoll"), ended: make(chan struct{})}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = l.file.SetReadDeadline(time.Time{}) // fails if the runtime cannot poll the descriptor
	}
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go l.serve()
	return l, nil
}

// Ask queues questions. It does not wait, and does not keep the slice. After [Loop.Close] the
// questions are never answered.
func (l *Loop) Ask(questions []Question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, questions...)
	l.wake()
}

// Release ends a held connection. There is no answer to it.
func (l *Loop) Release(h *Held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toRelease = append(l.toRelease, h)
	l.wake()
}

// Close ends all conversations, all held connections, and the goroutine. It returns the answers
// that were not reported yet, including one for each question without a result (ErrClosing). Until
// Close returns, report may still be called, and must not wait for Close.
func (l *Loop) Close() []Answer {
	l.mu.Lock()
	l.closing = true
	l.wake()
	l.mu.Unlock()
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failQuestions(l.pending, ErrClosing) // asked after the goroutine last looked
	rest := l.answers
	l.pending, l.answers = nil, nil
	return rest
}

// wake ends the wait of the goroutine. The caller must hold mu.
func (l *Loop) wake() {
	if l.waiting {
		l.waiting = false
		_ = l.file.SetReadDeadline(past)
	}
}

// serve is the goroutine. It starts again after a panic, with no connections left.
func (l *Loop) serve() {
	defer close(l.ended)
	defer l.file.Close()
	for !l.runTurns() {
		time.Sleep(panicPause)
	}
}

// runTurns runs turns until the loop is closed, and returns true. If a turn panics, every
// conversation fails, and it returns false.
func (l *Loop) runTurns() (closed bool) {
	defer func() {
		if r := recover(); r != nil {
			l.failAll(fmt.Errorf("%w: %v", ErrPanic, r))
		}
	}()
	for !l.turn() {
	}
	return true
}

// turn runs once around: events first, then new work, then timers, then the report. The order
// matters: an answer that has arrived counts, even if its timer has run out as well. It returns
// true when the loop is closed.
func (l *Loop) turn() (closed bool) {
	n := l.waitEvents()
	for i := range n {
		l.handle(int(l.events[i].Fd), l.events[i].Pad, l.events[i].Events)
	}
	parting, closing := l.takeQueued()
	for ; len(l.holding) > 0; l.holding = l.holding[1:] {
		l.startHolding(l.holding[0])
	}
	for _, h := range parting {
		l.releaseHeld(h)
	}
	if closing {
		l.abort(ErrClosing)
		return true
	}
	now := time.Now()
	for i := 1; len(l.opening) > 0; i++ {
		if i%yieldAfter == 0 {
			runtime.Gosched()
		}
		q := &l.opening[0]
		l.opening = l.opening[1:]
		if !l.askAgain(q, now) {
			l.openConn(q, now, nil)
		}
	}
	for len(l.timers) > 0 && !l.timers[0].deadline.After(now) {
		l.expire(l.timers[0])
	}
	if told := l.answers; len(told) > 0 {
		l.answers = nil
		l.report(told)
	}
	return false
}

// takeQueued takes the work that other goroutines have left.
func (l *Loop) takeQueued() (parting []*Held, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening, l.holding, parting = l.pending, l.toHold, l.toRelease
	clear(l.spare)
	l.pending, l.toHold, l.toRelease = l.spare[:0], nil, nil
	l.spare = l.opening
	return parting, l.closing
}

// waitEvents waits until there are events, work or an expired timer, and returns how many events
// there are. The runtime polls the epoll descriptor for us, so that waiting costs no thread.
func (l *Loop) waitEvents() (n int) {
	l.mu.Lock()
	if len(l.pending)+len(l.toHold)+len(l.toRelease)+len(l.answers) > 0 || l.closing {
		l.mu.Unlock()
		n, _ = unix.EpollWait(l.epoll, l.events[:], 0)
		return max(n, 0)
	}
	var until time.Time
	if len(l.timers) > 0 {
		until = l.timers[0].deadline.Add(timerSlack)
	}
	_ = l.file.SetReadDeadline(until)
	l.waiting = true
	l.mu.Unlock()
	err := l.raw.Read(func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), l.events[:], 0)
		return n > 0
	})
	l.mu.Lock()
	l.waiting = false
	l.mu.Unlock()
	if err != nil { // the deadline passed; events that are there by now are in time
		n, _ = unix.EpollWait(l.epoll, l.events[:], 0)
	}
	return max(n, 0)
}

// abort closes every connection, and answers every question with why.
func (l *Loop) abort(why error) {
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		if c.stage != holding && (!c.again || c.twin == nil) { // of twins, the new one answers
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Err: why})
		}
		l.closeConn(c)
	}
	l.failQuestions(l.opening, why)
	l.opening = nil
}

// failAll ends everything after a panic, so that the loop can go on with nothing. Held connections
// are reported as lost.
func (l *Loop) failAll(why error) {
	for _, c := range l.conns {
		if c != nil && c.held != nil {
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
		}
	}
	for _, c := range l.holding {
		if !slices.Contains(l.conns, c) {
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
			closeSocket(c.fd)
		}
	}
	l.abort(why)
	l.holding, l.timers = nil, nil
}

// failQuestions answers questions that were never asked.
func (l *Loop) failQuestions(questions []Question, why error) {
	for i := range questions {
		l.answers = append(l.answers, Answer{Tag: questions[i].Tag, Err: why})
	}
}

// closeConn closes the descriptor. The kernel removes it from the epoll set.
func (l *Loop) closeConn(c *conn) {
	if c.fd < 0 {
		return
	}
	l.conns[c.fd] = nil
	closeSocket(c.fd)
}

// register asks epoll for all events of a connection, once for its whole life. They are
// edge-triggered: each is reported when it occurs, and not again.
func (l *Loop) register(c *conn) error {
	if c.registered {
		return nil
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.fd), Pad: c.serial}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
		return err
	}
	c.registered = true
	return nil
}
