package check

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// frameSize is the longest payload of a frame if nothing else was agreed, in bytes (RFC 9113, 6.5.2).
	frameSize = 16 << 10
	// tableSize is the size of the header table if nothing else was agreed, in bytes (RFC 9113, 6.5.2).
	tableSize = 4 << 10
)

// An http2Conn is what both sides of a connection over HTTP/2 remember between two requests. Its zero value is a connection on
// which nothing was asked.
type http2Conn struct {
	decoder *hpack.Decoder // with the table of the server's header fields; nil before the first request
	last    uint32         // the stream of the last request; 0 before the first
	open    bool           // the answer on it has not ended
	leaving bool           // the server has announced that it closes the connection
	spent   uint32         // bytes of bodies since the window of the connection was last widened
}

// An http2Stream is one request and its response over HTTP/2. Both https and grpc use it.
//
// It reads and writes frames with the framer of x/net, in the goroutine of the probe. [http.Transport] with the same
// protocols was tried: it takes 1.6 times the time and four times the memory, dials again when the server refuses the stream or
// goes away, so that the reason is lost, writes to the log of the process, and does not say what a peer spoke instead.
//
// There is no flow control within a request. A probe reads at most [responseLimit] bytes in all, and that is about the window
// that a stream begins with (65,535 bytes), so the window never has to grow. That of the connection is widened by the next
// request, if there is one.
type http2Stream struct {
	*http2Conn
	id     uint32
	conn   io.Writer
	src    *limitedReader // what the framer reads; its error is why the connection ended
	first  *firstByteConn // the SETTINGS frame, which comes at once, does not count as the first byte of the answer
	framer *http2.Framer
	out    bytes.Buffer // frames that wait to be sent

	quoteDebug bool // show the debug data of GOAWAY; only where the peer was told no secret that it may repeat
	spoken     bool // the peer has sent one good frame, so it speaks HTTP/2

	body    []byte      // received and not read yet; it belongs to the framer until the next frame is read
	ended   bool        // the peer has ended the stream
	missing int64       // bytes still to come according to content-length; 0 or less if there was none
	trailer http.Header // complete when Read has returned io.EOF
}

// newHTTP2Stream prepares the next stream of a connection. The framer reads from in, which must read from src; first may be nil.
func newHTTP2Stream(over *http2Conn, conn io.Writer, in *bufio.Reader, src *limitedReader, first *firstByteConn) *http2Stream {
	if over.decoder == nil {
		over.decoder = hpack.NewDecoder(tableSize, nil)
	}
	s := &http2Stream{http2Conn: over, id: nextStream(over.last), conn: conn, src: src, first: first}
	s.framer = http2.NewFramer(&s.out, in)
	s.framer.SetMaxReadFrameSize(frameSize)
	s.framer.SetReuseFrames()
	s.framer.ReadMetaHeaders = over.decoder
	s.framer.MaxHeaderListSize = responseLimit
	return s
}

// nextStream is the stream for the next request: clients have the odd ones (RFC 9113, 5.1.1).
func nextStream(last uint32) uint32 { return max(1, last+2*min(last, 1)) }

// sendRequest sends the header fields and the body in one write, and before the first request also the preface and our
// settings (RFC 9113, 3.4). It does not wait for the settings of the server: none of them can be so small that they forbid a
// request of this size.
func (s *http2Stream) sendRequest(fields []hpack.HeaderField, body []byte) error {
	if s.last == 0 { // a buffer takes everything
		s.out.WriteString(http2.ClientPreface)
		_ = s.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else if s.spent > 0 {
		_ = s.framer.WriteWindowUpdate(0, s.spent)
	}
	encoded := encodeFields(fields, s.last == 0)
	s.last, s.open, s.spent = s.id, true, 0
	return s.sendFrames(encoded, body)
}

// sendFrames sends encoded header fields and a body.
func (s *http2Stream) sendFrames(encoded, body []byte) error {
	block, rest := cutFrame(encoded)
	err := s.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: s.id, BlockFragment: block, EndHeaders: len(rest) == 0, EndStream: len(body) == 0,
	})
	for err == nil && len(rest) > 0 {
		block, rest = cutFrame(rest)
		err = s.framer.WriteContinuation(s.id, len(rest) == 0, block)
	}
	for err == nil && len(body) > 0 {
		block, body = cutFrame(body)
		err = s.framer.WriteData(s.id, len(body) == 0, block)
	}
	if err != nil {
		return err
	}
	return s.flush()
}

// cutFrame splits off as much as one frame may carry.
func cutFrame(payload []byte) (first, rest []byte) {
	n := min(len(payload), frameSize)
	return payload[:n], payload[n:]
}

// encodeFields compresses header fields (RFC 7541). The pseudo-header fields must come first (RFC 9113, 8.3). Only the first
// request has a table: for a later one the server may have set another size, and one of 0 is never too large.
func encodeFields(fields []hpack.HeaderField, first bool) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	if !first {
		encoder.SetMaxDynamicTableSize(0)
	}
	for _, field := range fields {
		_ = encoder.WriteField(field) // a buffer takes everything
	}
	return block.Bytes()
}

// flush sends the frames that were written.
func (s *http2Stream) flush() error {
	defer s.out.Reset()
	_, err := s.conn.Write(s.out.Bytes())
	return err
}

// goAway tells the server that nothing more will come (RFC 9113, 6.8), so that it need not log a lost connection.
func (s *http2Stream) goAway() {
	_ = s.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	_ = s.flush()
}

// response reads the head of the first response that is not an interim one. The stream itself is the body.
func (s *http2Stream) response() (*http.Response, error) {
	for range interimLimit + 1 {
		frame, err := s.readFrame()
		if err != nil {
			return nil, responseFailure(err)
		}
		s.first.answerBegan()
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			return nil, errors.New("malformed response: body before the headers")
		}
		status, ok := statusOf(head)
		if !ok || head.Truncated {
			return nil, errors.New("malformed response: no status, or headers too long")
		}
		if !interim(status) {
			s.noteEnd(head.StreamEnded())
			header := headerOf(head)
			s.missing = contentLength(header, status)
			return &http.Response{StatusCode: status, Header: header, Body: s}, nil
		}
	}
	return nil, errInterim
}

// statusOf is the status, which has three digits (RFC 9110, 15).
func statusOf(head *http2.MetaHeadersFrame) (status int, ok bool) {
	text := head.PseudoValue("status")
	status, err := strconv.Atoi(text)
	return status, err == nil && len(text) == 3 && status >= 100
}

// contentLength is the length that the body must have (RFC 9113, 8.1.1), or 0 if the response does not say. A response
// with status 304 states the length of a body that it does not carry (RFC 9110, 8.6).
func contentLength(head http.Header, status int) (n int64) {
	if status != http.StatusNotModified {
		n, _ = strconv.ParseInt(head.Get("Content-Length"), 10, 64)
	}
	return n
}

// headerOf converts the fields of a HEADERS frame, in canonical form, without the pseudo-header
// fields.
func headerOf(head *http2.MetaHeadersFrame) http.Header {
	header := http.Header{}
	for _, field := range head.RegularFields() {
		header.Add(field.Name, field.Value)
	}
	return header
}

// readFrame reads up to the next HEADERS or DATA frame of the stream, and acknowledges SETTINGS and PING on the way. An
// error of the peer's making is a phrase.
func (s *http2Stream) readFrame() (http2.Frame, error) {
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			return nil, s.frameFailure(err)
		}
		s.spoken = true
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == s.id {
				return f, nil
			}
		case *http2.DataFrame:
			s.spent += f.Length // padding counts, too (RFC 9113, 6.1)
			if f.StreamID == s.id {
				return f, nil
			}
		case *http2.RSTStreamFrame:
			if f.StreamID >= s.id { // of an earlier stream it is no matter any more
				return nil, phrase("server reset the stream: " + f.ErrCode.String())
			}
		// REFUSED_STREAM says that the request was not processed (RFC 9113, 8.7). A client would
		// try again on another connection; for a probe it is the result.
		case *http2.GoAwayFrame:
			if f.LastStreamID < s.id || f.ErrCode != http2.ErrCodeNo {
				return nil, s.goAwayFailure(f)
			}
			s.leaving = true
		case *http2.PushPromiseFrame:
			return nil, phrase("server push, which was disabled")
		case *http2.SettingsFrame, *http2.PingFrame:
			if err := s.acknowledge(f); err != nil {
				return nil, err
			}
		}
	}
}

// goAwayFailure is for a server that closes the connection before it has answered. One that only announces its end, and
// still answers this stream, is none: its code is NO_ERROR, and its last stream is ours or a later one (RFC 9113, 6.8).
func (s *http2Stream) goAwayFailure(f *http2.GoAwayFrame) error {
	text := "server closed the connection: " + f.ErrCode.String()
	if debug := f.DebugData(); s.quoteDebug && len(debug) > 0 {
		text += " " + quote(string(debug))
	}
	return phrase(text)
}

// acknowledge answers the frames that demand it (RFC 9113, 6.5.3 and 6.7). Some servers wait for that.
func (s *http2Stream) acknowledge(frame http2.Frame) (err error) {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		err = s.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		err = s.framer.WritePing(true, f.Data)
	}
	if err != nil {
		return err
	}
	return s.flush()
}

// frameFailure tells a connection that ended from a peer that breaks the protocol, and from one that speaks another.
func (s *http2Stream) frameFailure(err error) error {
	var onConnection http2.ConnectionError
	var onStream http2.StreamError
	switch {
	case s.src.err == io.EOF:
		return io.ErrUnexpectedEOF // only the peer's END_STREAM is the end of a body
	case s.src.err != nil:
		return s.src.err
	case errors.As(err, &onConnection):
		return phrase("http/2 error " + http2.ErrCode(onConnection).String())
	case errors.As(err, &onStream):
		return phrase("http/2 error " + onStream.Code.String())
	case s.spoken && errors.Is(err, http2.ErrFrameTooLarge):
		return phrase("http/2 error " + http2.ErrCodeFrameSize.String())
	}
	return phrase("peer does not speak http/2")
}

// Read reads the body, without the trailers. A body shorter than its content-length ends with [io.ErrUnexpectedEOF].
func (s *http2Stream) Read(p []byte) (int, error) {
	for len(s.body) == 0 {
		if s.ended && s.missing > 0 {
			return 0, io.ErrUnexpectedEOF
		}
		if s.ended {
			return 0, io.EOF
		}
		frame, err := s.readFrame()
		if err != nil {
			return 0, err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			s.body = f.Data()
			s.noteEnd(f.StreamEnded())
			s.missing -= int64(len(s.body))
		// A second HEADERS frame has the trailers (RFC 9113, 8.1).
		case *http2.MetaHeadersFrame:
			s.trailer = headerOf(f)
			s.noteEnd(f.StreamEnded())
		}
	}
	n := copy(p, s.body)
	s.body = s.body[n:]
	return n, nil
}

// noteEnd notes whether a frame was the last one of the answer.
func (s *http2Stream) noteEnd(ended bool) {
	s.ended = ended
	s.open = !ended
}

// Close does nothing: the probe that opened the connection closes it.
func (s *http2Stream) Close() error { return nil }
