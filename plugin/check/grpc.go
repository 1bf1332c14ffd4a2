package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A grpcCheck calls Check of the standard health service (B41), as grpc/grpc-proto's health.proto has it. It is one
// request with a string in it and one response with a number: no client of gRPC is needed for that, with its pools and
// its goroutines.
type grpcCheck struct {
	spec    *spec
	message []byte // the request
	scheme  string
}

func newGRPC(s *spec) (prober, error) {
	g, err := buildGRPC(s, "http")
	if err != nil {
		return nil, err
	}
	return s.overSession(nil, g), nil
}

func newGRPCS(s *spec) (prober, error) {
	g, err := buildGRPC(s, "https")
	if err != nil {
		return nil, err
	}
	var config *tls.Config
	if config, err = s.tlsConfig("h2"); err != nil {
		return nil, err
	}
	return s.overSession(config, g), nil
}

func buildGRPC(s *spec, scheme string) (*grpcCheck, error) {
	service, err := url.PathUnescape(strings.TrimPrefix(s.path, "/"))
	if err != nil || strings.Contains(service, "/") || !utf8.ValidString(service) {
		return nil, fmt.Errorf("path %s is not the name of one service: write %s/my.Service", quote(s.path), s.scheme.example)
	}
	if s.query != "" {
		return nil, fmt.Errorf("%s takes no query: write %s", s.scheme.name, s.scheme.example)
	}
	if s.path = ""; service != "" {
		s.path = "/" + url.PathEscape(service) // one text for one service
	}
	return &grpcCheck{s, grpcRequest(service), scheme}, nil
}

// grpcRequest is a HealthCheckRequest, with the five bytes in front that tell it from the next: whether it is
// compressed, and how long it is.
func grpcRequest(service string) []byte {
	var body []byte
	if service != "" {
		const nameAsField1 = 1<<3 | protoBytes
		body = append(binary.AppendUvarint([]byte{nameAsField1}, uint64(len(service))), service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// grpcStream is the only stream there is.
const grpcStream = 1

// ask writes all it has to say at once: whatever the settings of the server are, they leave room for that.
func (g *grpcCheck) ask(ctx context.Context, x *session) error {
	first := manualFirstByte(x.reading) // the settings, which come at once, do not count
	if err := x.send(g.request(ctx, x.peer)); err != nil {
		return err
	}
	if err := opensHTTP2(x); err != nil {
		return err
	}
	framer := http2.NewFramer(x.conn, x.in)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = 16 << 10
	framer.SetMaxReadFrameSize(16 << 10)
	var answer grpcAnswer
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return answer.broken(x, err)
		}
		over, err := answer.take(framer, frame)
		if err != nil {
			return err
		}
		if answer.began {
			first.answerBegan()
		}
		if over {
			return answer.judge()
		}
	}
}

// request is the preface, our settings, the headers and the message.
func (g *grpcCheck) request(ctx context.Context, peer netip.AddrPort) []byte {
	b := bytes.NewBufferString(http2.ClientPreface)
	framer := http2.NewFramer(b, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}) // a buffer takes all
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: grpcStream, BlockFragment: g.headers(ctx, peer), EndHeaders: true})
	_ = framer.WriteData(grpcStream, true, g.message)
	return b.Bytes()
}

func (g *grpcCheck) headers(ctx context.Context, peer netip.AddrPort) []byte {
	var b bytes.Buffer
	encoder := hpack.NewEncoder(&b)
	write := func(name, value string) { _ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	write(":method", "POST")
	write(":scheme", g.scheme)
	write(":path", "/grpc.health.v1.Health/Check")
	write(":authority", g.spec.hostFor(peer))
	write("content-type", "application/grpc")
	write("te", "trailers")
	write("user-agent", userAgent)
	if deadline, ok := ctx.Deadline(); ok {
		write("grpc-timeout", fmt.Sprintf("%dm", max(1, time.Until(deadline).Milliseconds())))
	}
	return b.Bytes()
}

// opensHTTP2 looks at the first frame, which is the settings (RFC 9113, 3.4). Whatever else the peer speaks would make
// for a frame of an odd size.
func opensHTTP2(x *session) error {
	const size = 9
	head, err := x.in.Peek(size)
	if err != nil {
		if len(head) > 0 && head[0] != 0 {
			return malformed(head)
		}
		return x.failure(err)
	}
	if head[0] != 0 || http2.FrameType(head[3]) != http2.FrameSettings || binary.BigEndian.Uint32(head[5:]) != 0 {
		return malformed(x.buffered())
	}
	return nil
}

// grpcAnswer is what has come of an answer. The names are those of the headers and trailers.
type grpcAnswer struct {
	began               bool
	status, contentType string
	code, text          string // grpc-status and grpc-message
	body                []byte
}

// broken puts the end of the connection, or what is no HTTP/2, into words.
func (a *grpcAnswer) broken(x *session, err error) error {
	switch {
	case x.src.err == nil:
		return errors.New("malformed response: " + quote(err.Error()))
	case !a.began:
		return responseFailure(x.src.err)
	}
	return errors.New("incomplete response: " + describe(x.src.err))
}

// take takes one frame, and reports whether the answer is complete.
func (a *grpcAnswer) take(framer *http2.Framer, frame http2.Frame) (over bool, err error) {
	if frame.Header().StreamID == grpcStream {
		return a.takeOwn(frame)
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < grpcStream {
			return true, fmt.Errorf("server ends the connection: %s", goAwayWords(f))
		}
	}
	if err != nil {
		return true, requestFailure(err)
	}
	return false, nil
}

func goAwayWords(f *http2.GoAwayFrame) string {
	if text := f.DebugData(); len(text) > 0 {
		return f.ErrCode.String() + " " + quote(string(text))
	}
	return f.ErrCode.String()
}

// takeOwn takes a frame of our stream.
func (a *grpcAnswer) takeOwn(frame http2.Frame) (over bool, err error) {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		a.began = true
		for _, h := range f.Fields {
			a.header(h.Name, h.Value)
		}
		return f.StreamEnded(), nil
	case *http2.DataFrame:
		a.body = append(a.body, f.Data()...)
		return f.StreamEnded(), nil
	case *http2.RSTStreamFrame:
		return true, fmt.Errorf("server resets the stream: %s", f.ErrCode)
	}
	return false, nil
}

func (a *grpcAnswer) header(name, value string) {
	switch name {
	case ":status":
		a.status = value
	case "content-type":
		a.contentType = value
	case "grpc-status":
		a.code = value
	case "grpc-message":
		if text, err := url.PathUnescape(value); err == nil {
			value = text
		}
		a.text = value
	}
}

// grpcCodes are the status codes of gRPC, by their numbers.
var grpcCodes = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// grpcWords say what a code means where it answers a question about health.
var grpcWords = map[string]string{
	"NOT_FOUND":         "service unknown (NOT_FOUND)",
	"UNIMPLEMENTED":     "server has no health service (UNIMPLEMENTED)",
	"DEADLINE_EXCEEDED": "server took too long (DEADLINE_EXCEEDED)",
}

// judge looks at a complete answer, from the outside in.
func (a *grpcAnswer) judge() error {
	code, err := strconv.ParseUint(a.code, 10, 16)
	switch {
	case a.status != "200":
		return errors.New("status " + plainStatus(a.status))
	case !strings.HasPrefix(a.contentType, "application/grpc"):
		return fmt.Errorf("not grpc, but content of type %s", quote(a.contentType))
	case err != nil:
		return errors.New("response without a grpc status")
	case code != 0:
		return a.refused(int(code))
	}
	serving, ok := servingStatus(a.body)
	if !ok {
		return malformed(a.body)
	}
	return servingFailure(serving)
}

// plainStatus is a status of three digits, or quoted.
func plainStatus(status string) string {
	if len(status) == 3 && strings.Trim(status, "0123456789") == "" {
		return status
	}
	return quote(status)
}

func (a *grpcAnswer) refused(code int) error {
	name := strconv.Itoa(code)
	if code < len(grpcCodes) {
		name = grpcCodes[code]
	}
	if said, ok := grpcWords[name]; ok {
		return errors.New(said)
	}
	return fmt.Errorf("grpc status %s: %s", name, quote(a.text))
}

// Types of fields of a protobuf.
const (
	protoVarint = 0
	protoFixed8 = 1
	protoBytes  = 2
	protoFixed4 = 5
)

// servingStatus reads a HealthCheckResponse, of which field 1 is the status. As in every protobuf, a field that is not
// there is 0, the last of several counts, and unknown ones are skipped.
func servingStatus(framed []byte) (status uint64, ok bool) {
	if len(framed) < 5 || framed[0] != 0 || int64(binary.BigEndian.Uint32(framed[1:])) != int64(len(framed)-5) {
		return 0, false
	}
	for m := framed[5:]; len(m) > 0; {
		tag, n := binary.Uvarint(m)
		if n <= 0 {
			return 0, false
		}
		value, size, ok := protoValue(m[n:], tag&7)
		if !ok {
			return 0, false
		}
		if tag == 1<<3|protoVarint {
			status = value
		}
		m = m[n+size:]
	}
	return status, true
}

// protoValue reads or skips one value.
func protoValue(m []byte, kind uint64) (value uint64, size int, ok bool) {
	switch kind {
	case protoVarint:
		value, size = binary.Uvarint(m)
	case protoFixed8:
		size = 8
	case protoFixed4:
		size = 4
	case protoBytes:
		length, n := binary.Uvarint(m)
		if n <= 0 || length > uint64(len(m)) {
			return 0, 0, false
		}
		size = n + int(length)
	}
	return value, size, size > 0 && size <= len(m)
}

// servingFailure is nil for SERVING alone.
func servingFailure(status uint64) error {
	const serving = 1
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	switch {
	case status == serving:
		return nil
	case status < uint64(len(names)):
		return errors.New("health is " + names[status])
	}
	return fmt.Errorf("health is %d, which means nothing", status)
}
