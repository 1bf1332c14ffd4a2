package wire

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supported tells whether there is an implementation for this system.
const Supported = true

const (
	// atOnce is how many events are taken from the kernel together: so many that, after the loop was kept from running,
	// those who have answered meanwhile are heard before the timers are looked at.
	eventBatch = 4096
	// receiveSize is the most that is read together.
	receiveSize = 16 << 10
	// collapsed is how long the loop rests after a panic: one that comes again and again must not keep a processor busy.
	panicPause = 100 * time.Millisecond
	// grain is how long a timer may be late, so that timers come in batches.
	timerSlack = 5 * time.Millisecond
)

// past is a deadline that is over.
var past = time.Now()

// Loop holds the conversations. Its goroutine owns them; others only leave questions for it.
type Loop struct {
	report func([]Answer)
	file   *os.File // the epoll descriptor, in the care of the runtime's own poller
	raw    syscall.RawConn
	epoll  int
	ended  chan struct{}

	mu        sync.Mutex
	pending   []Question
	toHold    []*conn
	toRelease []*Held
	closing   bool
	waiting   bool

	// The rest is the goroutine's.
	conns   []*conn // by descriptor
	opened  int32
	timers  timers
	answers []Answer
	opening []Question // taken, and not opened yet
	holding []*conn    // taken, and not among conns yet
	events  [eventBatch]unix.EpollEvent
	buffer  [receiveSize]byte
	spare   []Question
}

// Held is a connection that is kept. It is released by [Loop.Release], or lost when the peer ends it.
type Held struct{ conn *conn }

// Start starts a loop. It calls tell with answers, from its goroutine: it asks nobody while tell lasts. What tell panics with
// is survived, as every panic is, but those answers are lost.
func Start(tell func([]Answer)) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &Loop{report: tell, epoll: fd, file: os.NewFile(uintptr(fd), "epoll"), ended: make(chan struct{})}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = l.file.SetReadDeadline(time.Time{}) // fails if the runtime cannot poll it
	}
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go l.serve()
	return l, nil
}

// Ask leaves questions. It does not wait, and does not keep the slice. After [Loop.Close] nothing is answered any more.
func (l *Loop) Ask(questions []Question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, questions...)
	l.wake()
}

// Release ends a held connection.
func (l *Loop) Release(h *Held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toRelease = append(l.toRelease, h)
	l.wake()
}

// Close ends all conversations, held ones too, and the goroutine. It returns what was not told yet, among it every question
// that has no answer so far. Until it returns, tell may be called, and must not wait for it.
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

// wake ends the goroutine's rest. It needs mu held.
func (l *Loop) wake() {
	if l.waiting {
		l.waiting = false
		_ = l.file.SetReadDeadline(past)
	}
}

// run is the goroutine.
func (l *Loop) serve() {
	defer close(l.ended)
	defer l.file.Close()
	for !l.runTurns() {
		time.Sleep(panicPause)
	}
}

// rounds goes round until the loop is closed. A panic ends that sooner, and every conversation with it, and must not end the
// program.
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

// turn goes round once: what has happened, what is new, what has lasted too long. It returns true when the loop is closed.
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
	for len(l.opening) > 0 {
		q := &l.opening[0]
		l.opening = l.opening[1:]
		l.openConn(q, now)
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

// collect takes what others have left.
func (l *Loop) takeQueued() (parting []*Held, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening, l.holding, parting = l.pending, l.toHold, l.toRelease
	clear(l.spare)
	l.pending, l.toHold, l.toRelease = l.spare[:0], nil, nil
	l.spare = l.opening
	return parting, l.closing
}

// rest waits until something happens, and returns how many events there are.
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
	if err != nil { // the deadline; what has come by now has come in time
		n, _ = unix.EpollWait(l.epoll, l.events[:], 0)
	}
	return max(n, 0)
}

// abort ends every connection, and leaves an answer for each question.
func (l *Loop) abort(why error) {
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		if c.stage != holding {
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Err: why})
		}
		l.closeConn(c)
	}
	l.failQuestions(l.opening, why)
	l.opening = nil
}

// collapse ends everything, for the loop to go on with nothing. What was held counts as lost.
func (l *Loop) failAll(why error) {
	for _, c := range l.conns {
		if c != nil && c.held != nil {
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
		}
	}
	for _, c := range l.holding {
		if !slices.Contains(l.conns, c) {
			l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
			unix.Close(c.fd)
		}
	}
	l.abort(why)
	l.holding, l.timers = nil, nil
}

func (l *Loop) failQuestions(questions []Question, why error) {
	for i := range questions {
		l.answers = append(l.answers, Answer{Tag: questions[i].Tag, Err: why})
	}
}

// drop closes the descriptor, which also takes it out of the epoll set.
func (l *Loop) closeConn(c *conn) {
	if c.fd < 0 {
		return
	}
	l.conns[c.fd] = nil
	unix.Close(c.fd)
}

// watch asks for the events of a connection, once for all: each is told when it comes, and not again.
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
