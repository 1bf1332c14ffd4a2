package gossip

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
)

// acceptStreams takes connections until the listener is closed. Each is served by a goroutine of its own, up to maxStreams.
func (t *transport) acceptStreams() {
	for {
		conn, err := t.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is free, or the peer has gone
			if !t.pause(50 * time.Millisecond) {
				return
			}
			continue
		}
		select {
		case t.slots <- struct{}{}:
			t.running.Add(1)
			go func() { defer t.running.Done(); t.serve(conn) }()
		default:
			t.busy.Inc()
			conn.Close()
		}
	}
}

// serve reads what another member says on its connection. What is for memberlist goes there, with the connection.
func (t *transport) serve(conn net.Conn) {
	defer rescue.Log("a connection of the fleet")
	s := &stream{Conn: conn, t: t, taken: true}
	release := t.hold(func() { conn.Close() })
	s.ended = func() { release(); <-t.slots }
	isTheirs := false
	defer func() {
		if !isTheirs {
			s.Close()
		}
	}()
	// The slot is given back when the connection is closed, here or by memberlist. Who holds slots with connections that say nothing
	// loses them after streamTime; packets do not need any.
	conn.SetDeadline(time.Now().Add(streamTime))
	plain, err := s.readFrame()
	if err != nil {
		s.refuse(err)
		return
	}
	switch way, ours := lookAtFrame(plain, false); way {
	case forUs:
		t.handOver(ours)
	case forMemberlist:
		s.rest = plain
		select {
		case t.streams <- s:
			isTheirs = true
		case <-t.done:
		}
	default:
		t.malformed.Inc()
	}
}

// stream is a connection on which memberlist reads and writes plain text. On each there is one frame each way.
type stream struct {
	net.Conn
	t        *transport // which seals
	isAnswer bool       // this process opened the connection, and what it reads is the answer
	taken    bool       // the frame has been read
	labelled bool       // the label has been written
	rest     []byte     // of the frame, for the reader

	once  sync.Once
	ended func() // when it is closed, once
}

// Close closes the connection.
func (s *stream) Close() error {
	err := s.Conn.Close()
	s.once.Do(s.ended)
	return err
}

// Write seals what memberlist writes. It writes each message at once.
func (s *stream) Write(p []byte) (int, error) {
	var out []byte
	if s.isAnswer && !s.labelled {
		out = s.t.labelled(nil)
		s.labelled = true
	}
	n, err := s.Conn.Write(s.t.frame(out, p))
	s.t.sent.Add(float64(n))
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read reads the frame, after a look at it.
func (s *stream) Read(p []byte) (int, error) {
	if !s.taken {
		s.taken = true
		plain, err := s.readFrame()
		if err == nil {
			if way, _ := lookAtFrame(plain, s.isAnswer); way != forMemberlist {
				err = errForm
			}
		}
		if err != nil {
			s.refuse(err)
			return 0, err
		}
		s.rest = plain
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// refuse counts what is refused. A connection that breaks off is not counted.
func (s *stream) refuse(err error) {
	var from netip.Addr
	if addr, ok := s.RemoteAddr().(*net.TCPAddr); ok {
		from = addr.AddrPort().Addr()
	}
	switch {
	case errors.Is(err, errTooLong):
		s.t.large.Inc()
	case errors.Is(err, errSeal) || errors.Is(err, errLabel) || errors.Is(err, errForm):
		s.t.refuse(err, from)
	}
}

var errTooLong = errors.New("a frame is too long")

// readFrame reads a frame, with the label in front if another process opened the connection.
func (s *stream) readFrame() ([]byte, error) {
	label := s.t.label
	if !s.isAnswer {
		var err error
		if label, err = s.readLabel(); err != nil {
			return nil, err
		}
	}
	var head [frameHeader]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return nil, err
	}
	// All of this is read before the seal is known to be good, so each length has a bound.
	size := int64(binary.BigEndian.Uint32(head[1:]))
	switch {
	case head[0] != sealedType || size < sealedExtra:
		return nil, errSeal
	case size > maxFrame:
		return nil, errTooLong
	}
	sealed, err := s.readBounded(int(size))
	if err != nil {
		return nil, err
	}
	return s.t.openFrame(head[:], sealed, label)
}

// readLabel reads the label.
func (s *stream) readLabel() (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return "", err
	}
	if head[0] != labelType || head[1] == 0 {
		return "", errSeal
	}
	label := make([]byte, head[1])
	_, err := io.ReadFull(s.Conn, label)
	return string(label), err
}

// readBounded reads so many bytes. Memory grows with what has arrived, and all connections together have a bound.
func (s *stream) readBounded(size int) ([]byte, error) {
	// The length is what the other side says before the seal shows who it is.
	const step = 64 << 10
	var all []byte
	defer func() { s.t.pending.Add(-int64(cap(all))) }()
	for len(all) < size {
		next := min(size-len(all), max(step, len(all)))
		before := cap(all)
		grown := append(make([]byte, 0, len(all)+next), all...)
		all = grown
		if s.t.pending.Add(int64(cap(all)-before)) > streamBytes {
			return nil, errTooLong
		}
		n, err := io.ReadFull(s.Conn, all[len(all):len(all)+next])
		s.t.received.Add(float64(n))
		if err != nil {
			return nil, err
		}
		all = all[:len(all)+next]
	}
	return all, nil
}
