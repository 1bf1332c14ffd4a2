package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/net/http2"
)

// prepare makes the request to one address.
func (h *httpCheck) prepare(ctx context.Context, addr netip.AddrPort) (question, error) {
	request, err := h.requestFor(ctx, addr)
	if err != nil {
		return nil, err
	}
	h = h.listening(ctx)
	return func(_ context.Context, k *Kept) error { return h.askKept(k, request) }, nil
}

// askKept sends the request on a connection that may serve for another probe, in the version of HTTP that was negotiated, and
// judges the response.
func (h *httpCheck) askKept(k *Kept, request *http.Request) error {
	if client, ok := k.conn.(*tls.Conn); ok && k.http2 == nil && client.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		k.http2 = new(http2Conn)
	}
	conn := limitFirstByte(k.conn, h.spec.firstByteTimeout)
	in, src := newReader(conn)
	if k.http2 != nil {
		return h.askKeptStream(k, newHTTP2Stream(k.http2, conn, in, src, manualFirstByte(conn)), in, request)
	}
	return h.askKeptHTTP1(k, conn, in, src, request)
}

// askKeptHTTP1 is askKept over HTTP/1.1.
func (h *httpCheck) askKeptHTTP1(k *Kept, conn net.Conn, in *bufio.Reader, src *limitedReader, request *http.Request) error {
	if err := request.Write(conn); err != nil {
		readers.Put(in)
		return requestFailure(err)
	}
	response, err := h.final(in, src)
	if err == nil {
		if response.Body != http.NoBody {
			response.Body = &endingBody{ReadCloser: response.Body}
		}
		err = h.accept(response)
	}
	// The answer counts as it is. The rest of its body may come until the next probe, unless it is too long for that.
	if err != nil || response.Close || response.Body != http.NoBody && response.ContentLength > responseLimit {
		readers.Put(in)
		return err
	}
	k.stay(in, k.restOf(response, in))
	return nil
}

// An endingBody notes that all of a body was read.
type endingBody struct {
	io.ReadCloser
	ended bool
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (n int, err error) {
	n, err = b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// restOf returns what reads the rest of a body, nil if all of it has come.
func (k *Kept) restOf(response *http.Response, in *bufio.Reader) func() error {
	if body, ok := response.Body.(*endingBody); !ok || body.ended {
		return nil
	}
	finish := func() error {
		_, err := io.Copy(io.Discard, response.Body)
		return err
	}
	buffered, _ := in.Peek(in.Buffered())
	// The reader of chunks keeps its errors, so it must not begin before the last one is there.
	if response.ContentLength >= 0 || bytes.HasSuffix(buffered, []byte("0\r\n\r\n")) {
		k.tcp.noWait = true
		defer func() { k.tcp.noWait = false }()
		if finish() == nil {
			return nil
		}
	}
	return finish
}

// askKeptStream is askKept over HTTP/2.
func (h *httpCheck) askKeptStream(k *Kept, s *http2Stream, in *bufio.Reader, request *http.Request) error {
	answered, err := h.askStream(s, request)
	if err != nil || k.http2.leaving || k.http2.open && s.missing > responseLimit {
		if answered {
			s.goAway()
		}
		readers.Put(in)
		return err
	}
	k.stay(in, nil)
	return nil
}

// idleFrames is how many frames may wait on a connection before a request.
const idleFrames = 128

// rests is [Kept.rests] over HTTP/2: it takes the frames that have come since the last answer, or belong to its rest. Those for
// a stream that we have not opened would be an answer before the question.
func (c *http2Conn) rests(k *Kept) bool {
	in, src := k.in, (*limitedReader)(nil)
	if in == nil {
		in, src = newReader(k.conn)
		k.in = in
	}
	s := newHTTP2Stream(c, k.conn, in, src, nil)
	for range idleFrames {
		if _, err := in.Peek(1); err != nil {
			k.release()
			return errors.Is(err, errWouldWait) && !c.open && !c.leaving
		}
		// A frame that has not come completely is an error: the rest of it would come amid the next answer.
		frame, err := s.framer.ReadFrame()
		if err != nil || !s.takeIdle(frame) {
			return false
		}
	}
	return false
}

// takeIdle takes a frame that came before a request. It returns false if none may follow it.
func (s *http2Stream) takeIdle(frame http2.Frame) bool {
	id := frame.Header().StreamID
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		expected := s.open && id == s.last
		s.open = expected && !f.StreamEnded()
		return expected
	case *http2.DataFrame:
		expected := s.open && id == s.last
		s.open = expected && !f.StreamEnded()
		s.spent += f.Length
		return expected
	case *http2.RSTStreamFrame:
		s.open = s.open && id != s.last
		return id <= s.last
	case *http2.GoAwayFrame, *http2.PushPromiseFrame:
		return false
	case *http2.SettingsFrame, *http2.PingFrame:
		return s.acknowledge(f) == nil
	}
	return true
}
