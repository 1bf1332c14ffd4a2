package check

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The versions of HTTP, as TLS negotiates them (RFC 7301).
const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

const (
	// stream is the one that the question is asked on.
	stream = 1
	// frameSize is how long a frame may be that nothing else was agreed of (RFC 9113, 6.5.2).
	frameSize = 16 << 10
	// tableSize is the same of the table of headers.
	tableSize = 4 << 10
)

// hopHeaders mean something to one connection, and have no place in HTTP/2 (RFC 9113, 8.2.2).
var hopHeaders = []string{"Keep-Alive", "Proxy-Connection", "Te", "Upgrade"}

// versions are those to offer. What HTTP/2 cannot say is said in HTTP/1.1.
func (h *httpCheck) offeredProtocols() []string {
	if h.needsHTTP1() != "" {
		return []string{protoHTTP1}
	}
	return []string{protoHTTP2, protoHTTP1}
}

// beyondHTTP2 is what the check asks that HTTP/2 cannot say, or cannot do, "" for nothing.
func (h *httpCheck) needsHTTP1() string {
	for _, name := range hopHeaders {
		if h.header[name] != nil {
			return "header " + name
		}
	}
	switch {
	case h.spec.hold:
		return "hold"
	case h.statuses.contain(http.StatusSwitchingProtocols):
		return "status 101"
	}
	return ""
}

// judgeALPN judges the option, and takes a peer that negotiates nothing for one that speaks HTTP/1.1.
func (h *httpCheck) checkALPN(s *spec) error {
	for _, name := range s.tls.alpn {
		if name != protoHTTP2 && name != protoHTTP1 {
			return s.optionError("alpn", fmt.Errorf("https speaks %s and %s, not %s", protoHTTP2, protoHTTP1, quote(name)))
		}
	}
	if beyond := h.needsHTTP1(); beyond != "" && slices.Contains(s.tls.alpn, protoHTTP2) {
		return s.optionError("alpn", fmt.Errorf("%s does not go with %s: write alpn %s, or leave it out", beyond, protoHTTP2, protoHTTP1))
	}
	s.tls.withoutALPN = slices.Contains(s.tls.alpn, protoHTTP1)
	return nil
}

// An exchange is one question and its answer over HTTP/2, frame by frame. The client of net/http, or of x/net, would
// start goroutines and keep the connection. One stream needs neither: what may be read of an answer in all is about the
// window that a stream begins with, so that none is ever enlarged.
type exchange struct {
	conn   io.Writer
	src    *limitedReader
	out    bytes.Buffer // what is to be sent
	framer *http2.Framer
	body   []byte         // what has been received of it, and not been read
	ended  bool           // by the peer
	first  *firstByteConn // of the answer; the settings, which come at once, do not count
	lacks  int64          // how much is still to come of it, by its content-length; 0 or less if that is not known
}

// exchangeHTTP2 puts the question and judges the answer.
func (h *httpCheck) exchangeHTTP2(conn io.ReadWriter, request *http.Request) error {
	x := &exchange{conn: conn, src: &limitedReader{r: conn, left: responseLimit}, first: manualFirstByte(conn)}
	br := readers.Get().(*bufio.Reader)
	defer readers.Put(br)
	br.Reset(x.src)
	x.framer = http2.NewFramer(&x.out, br)
	x.framer.SetMaxReadFrameSize(frameSize)
	x.framer.SetReuseFrames()
	x.framer.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	x.framer.MaxHeaderListSize = responseLimit
	if err := x.ask(request); err != nil {
		return requestFailure(err)
	}
	response, err := x.final()
	if err != nil {
		return err
	}
	defer x.leave()
	return h.accept(response)
}

// ask sends the preface, our settings and the request together (RFC 9113, 3.4).
func (x *exchange) ask(request *http.Request) error {
	x.out.WriteString(http2.ClientPreface)
	_ = x.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	block := encodeHeaders(request)
	first, rest := block[:min(len(block), frameSize)], block[min(len(block), frameSize):]
	err := x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: true, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		first, rest = rest[:min(len(rest), frameSize)], rest[min(len(rest), frameSize):]
		err = x.framer.WriteContinuation(stream, len(rest) == 0, first)
	}
	if err != nil {
		return err
	}
	return x.flush()
}

// encodeHeaders writes the head of a request (RFC 9113, 8.3.1). What may be secret enters no table.
func encodeHeaders(request *http.Request) []byte {
	method := request.Method
	if method == "" {
		method = http.MethodGet
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [...]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: request.Host}, {Name: ":path", Value: request.URL.RequestURI()},
	} {
		_ = encoder.WriteField(field) // a buffer takes all
	}
	for name, values := range request.Header {
		for _, v := range values {
			_ = encoder.WriteField(hpack.HeaderField{Name: strings.ToLower(name), Value: v, Sensitive: true})
		}
	}
	return block.Bytes()
}

func (x *exchange) flush() error {
	defer x.out.Reset()
	_, err := x.conn.Write(x.out.Bytes())
	return err
}

// leave says that nothing more will come (RFC 9113, 6.8).
func (x *exchange) leave() {
	_ = x.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	_ = x.flush()
}

// final reads the first response that is not an interim one.
func (x *exchange) final() (*http.Response, error) {
	for left := interimLimit; left >= 0; {
		frame, err := x.next()
		if err != nil {
			return nil, responseFailure(err)
		}
		x.first.answerBegan()
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			return nil, errors.New("malformed response: a body without a head")
		}
		status, err := strconv.Atoi(head.PseudoValue("status"))
		if err != nil || head.Truncated {
			return nil, errors.New("malformed response: a head without a status, or too long")
		}
		if !interim(status) {
			x.ended = head.StreamEnded()
			header := headerOf(head)
			x.lacks = lengthOf(header, status)
			return &http.Response{StatusCode: status, Header: header, Body: x}, nil
		}
		left--
	}
	return nil, errInterim
}

// lengthOf is the content-length of a response that has such a body (RFC 9113, 8.1.1), 0 if it names none.
func lengthOf(head http.Header, status int) (n int64) {
	if status != http.StatusNotModified {
		n, _ = strconv.ParseInt(head.Get("Content-Length"), 10, 64)
	}
	return n
}

func headerOf(head *http2.MetaHeadersFrame) http.Header {
	header := http.Header{}
	for _, field := range head.RegularFields() {
		header.Add(field.Name, field.Value)
	}
	return header
}

// next reads up to the next frame of the stream that has something of the answer, and answers to the others as it must.
func (x *exchange) next() (http2.Frame, error) {
	for {
		frame, err := x.framer.ReadFrame()
		if err != nil {
			return nil, x.failure(err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame, *http2.DataFrame:
			if f.Header().StreamID == stream {
				return f, nil
			}
		case *http2.RSTStreamFrame:
			return nil, phrase("peer ended the stream: " + f.ErrCode.String())
		case *http2.GoAwayFrame:
			if f.LastStreamID < stream || f.ErrCode != http2.ErrCodeNo {
				return nil, phrase("peer went away: " + f.ErrCode.String())
			}
		case *http2.PushPromiseFrame:
			return nil, phrase("peer pushes, which it was told not to")
		case *http2.SettingsFrame, *http2.PingFrame:
			if err := x.acknowledge(f); err != nil {
				return nil, err
			}
		}
	}
}

// acknowledge answers to frames that ask for it.
func (x *exchange) acknowledge(frame http2.Frame) (err error) {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		err = x.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		err = x.framer.WritePing(true, f.Data)
	}
	if err != nil {
		return err
	}
	return x.flush()
}

// failure tells a connection that ended from a peer that speaks otherwise.
func (x *exchange) failure(err error) error {
	var broken http2.ConnectionError
	var strange http2.StreamError
	switch {
	case x.src.err != nil:
		return x.src.err
	case errors.As(err, &broken):
		return phrase(http2.ErrCode(broken).String() + " in http/2")
	case errors.As(err, &strange):
		return phrase(strange.Code.String() + " in http/2")
	}
	return phrase("peer does not speak http/2")
}

// Read reads the body.
func (x *exchange) Read(p []byte) (int, error) {
	for len(x.body) == 0 {
		if x.ended && x.lacks > 0 {
			return 0, io.ErrUnexpectedEOF
		}
		if x.ended {
			return 0, io.EOF
		}
		frame, err := x.next()
		if err != nil {
			return 0, err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			x.body, x.ended = f.Data(), f.StreamEnded()
			x.lacks -= int64(len(x.body))
		case *http2.MetaHeadersFrame: // trailers
			x.ended = f.StreamEnded()
		}
	}
	n := copy(p, x.body)
	x.body = x.body[n:]
	return n, nil
}

// Close is that of a body. The connection is closed by who opened it.
func (x *exchange) Close() error { return nil }
