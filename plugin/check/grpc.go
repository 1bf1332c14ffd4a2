package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A grpcCheck calls Check of the standard health service (B41), defined in
// grpc/health/v1/health.proto of grpc/grpc-proto. That is one request with a string and one
// response with a number, so the check encodes both itself. A gRPC client would bring a connection
// pool, retries and goroutines that outlive the probe.
type grpcCheck struct {
	spec    *spec
	message []byte // the request, with its prefix
	scheme  string // "http" or "https", for :scheme
}

// newGRPC builds a check over HTTP/2 without TLS, with prior knowledge (RFC 9113, 3.3).
func newGRPC(s *spec) (prober, error) {
	g, err := buildGRPC(s, "http")
	if err != nil {
		return nil, err
	}
	return s.overSession(nil, g), nil
}

// newGRPCS builds a check over TLS. It offers h2 and nothing else, as the specification of gRPC
// demands.
func newGRPCS(s *spec) (prober, error) {
	g, err := buildGRPC(s, "https")
	if err != nil {
		return nil, err
	}
	var config *tlsClient
	if config, err = s.tlsConfig("h2"); err != nil {
		return nil, err
	}
	return s.overSession(config, g), nil
}

// buildGRPC takes the name of the service from the path, which is canonical afterwards. Without a
// path the check asks for the server as a whole.
func buildGRPC(s *spec, scheme string) (*grpcCheck, error) {
	service, err := url.PathUnescape(strings.TrimPrefix(s.path, "/"))
	if err != nil || strings.Contains(service, "/") || !utf8.ValidString(service) {
		return nil, fmt.Errorf("invalid service name %s: write one as in %s/my.Service", quote(s.path), s.scheme.example)
	}
	// The protocol has no place for a query.
	if s.query != "" {
		return nil, fmt.Errorf("%s takes no query: write %s", s.scheme.name, s.scheme.example)
	}
	if s.path = ""; service != "" {
		s.path = "/" + url.PathEscape(service) // one spelling for each service
	}
	return &grpcCheck{s, grpcRequest(service), scheme}, nil
}

// grpcRequest encodes a HealthCheckRequest, whose field 1 is the service. Five bytes precede each
// message in gRPC: a flag for compression, and the length.
func grpcRequest(service string) []byte {
	var body []byte
	if service != "" {
		// The tag of a field is its number, shifted by three bits, and its wire type.
		const nameAsField1 = 1<<3 | protoBytes
		body = append(binary.AppendUvarint([]byte{nameAsField1}, uint64(len(service))), service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// ask calls the method and judges the answer from the outside in: HTTP status, type of the content, status of the call,
// health.
func (g *grpcCheck) ask(ctx context.Context, x *session) error {
	if x.over == nil {
		x.over = new(http2Conn)
	}
	s := newHTTP2Stream(x.over, x.conn, x.in, x.src, manualFirstByte(x.reading))
	s.quoteDebug = true // the request has no secret
	first := s.last == 0
	if err := s.sendRequest(g.fields(ctx, x.peer), g.message); err != nil {
		return requestFailure(err)
	}
	// The request is on its way before the server has said anything, which RFC 9113, 3.4, allows:
	// it saves a round trip.
	if first {
		if err := expectSettings(x); err != nil {
			return err
		}
	}
	response, err := s.response()
	if err != nil {
		return err
	}
	if err := grpcHead(response); err != nil {
		return err
	}
	body, err := io.ReadAll(s)
	if err != nil {
		return errors.New("incomplete response: " + describe(err))
	}
	if s.trailer == nil {
		s.trailer = response.Header // a call that failed at once has no body, and its trailers are the headers
	}
	if err := grpcStatus(s.trailer); err != nil {
		return err
	}
	serving, ok := servingStatus(body)
	if !ok {
		return malformed(body)
	}
	return servingFailure(serving)
}

// fields are the header fields of a call, as "gRPC over HTTP2" in the documentation of gRPC lists them. The server is told
// how long we wait, so that it can give up in time, too.
func (g *grpcCheck) fields(ctx context.Context, peer netip.AddrPort) []hpack.HeaderField {
	fields := make([]hpack.HeaderField, 0, 8)
	fields = append(fields,
		hpack.HeaderField{Name: ":method", Value: http.MethodPost}, hpack.HeaderField{Name: ":scheme", Value: g.scheme},
		hpack.HeaderField{Name: ":path", Value: "/grpc.health.v1.Health/Check"}, hpack.HeaderField{Name: ":authority", Value: g.spec.hostFor(peer)},
		hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"},
		hpack.HeaderField{Name: "user-agent", Value: userAgent})
	if deadline, ok := ctx.Deadline(); ok {
		left := max(1, time.Until(deadline).Milliseconds())
		fields = append(fields, hpack.HeaderField{Name: "grpc-timeout", Value: strconv.FormatInt(left, 10) + "m"}) // m is milliseconds
	}
	return fields
}

// expectSettings peeks at the first frame, which must be SETTINGS (RFC 9113, 3.4). A peer that speaks another protocol
// is shown by its first line, where the framer would only complain about the size of a frame.
func expectSettings(x *session) error {
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

// grpcCodes are the names of the status codes of gRPC, by number (doc/statuscodes.md of grpc/grpc).
var grpcCodes = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// grpcWords say what a status code means in answer to a question about health.
var grpcWords = map[string]string{
	"NOT_FOUND":         "service unknown (NOT_FOUND)",
	"UNIMPLEMENTED":     "server has no health service (UNIMPLEMENTED)",
	"DEADLINE_EXCEEDED": "server took too long (DEADLINE_EXCEEDED)",
}

// grpcHead judges the head of the response, before the body is read: a proxy may have answered in place of the server.
func grpcHead(response *http.Response) error {
	kind := response.Header.Get("Content-Type")
	// A status other than 200 comes from a proxy or a web server; a gRPC server reports errors in
	// the trailers.
	switch {
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", response.StatusCode)
	case !strings.HasPrefix(kind, "application/grpc"):
		return fmt.Errorf("not grpc: content type %s", quote(kind))
	}
	return nil
}

// grpcStatus judges the status of the call, which is in the trailers.
func grpcStatus(trailer http.Header) error {
	code, err := strconv.ParseUint(trailer.Get("Grpc-Status"), 10, 16)
	switch {
	case err != nil:
		return errors.New("response without a grpc status")
	case code == 0:
		return nil
	}
	name := strconv.FormatUint(code, 10)
	if code < uint64(len(grpcCodes)) {
		name = grpcCodes[code]
	}
	if meaning, ok := grpcWords[name]; ok {
		return errors.New(meaning)
	}
	// The message is percent-encoded, because header values are ASCII.
	message := trailer.Get("Grpc-Message")
	if text, err := url.PathUnescape(message); err == nil {
		message = text
	}
	return fmt.Errorf("grpc status %s: %s", name, quote(message))
}

// Wire types of protobuf fields, as "Encoding" in the protobuf documentation numbers them.
const (
	protoVarint = 0
	protoFixed8 = 1
	protoBytes  = 2
	protoFixed4 = 5
)

// servingStatus decodes a HealthCheckResponse, whose field 1 is the status. The rules are those of
// every protobuf: a missing field is 0, the last of several counts, and unknown fields are skipped.
func servingStatus(framed []byte) (status uint64, ok bool) {
	// A compressed message is refused: the request did not offer any compression.
	if len(framed) < 5 || framed[0] != 0 || int64(binary.BigEndian.Uint32(framed[1:])) != int64(len(framed)-5) {
		return 0, false
	}
	// A field is a tag, whose low three bits are the wire type and whose others are the number, and
	// a value.
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

// protoValue reads a varint, or skips a value of another wire type. It reports how many bytes of m
// that took.
func protoValue(m []byte, kind uint64) (value uint64, size int, ok bool) {
	switch kind {
	case protoVarint:
		value, size = binary.Uvarint(m)
	case protoFixed8:
		size = 8
	case protoFixed4:
		size = 4
	case protoBytes:
		// The length comes from the peer: it must not reach beyond the message.
		length, n := binary.Uvarint(m)
		if n <= 0 || length > uint64(len(m)) {
			return 0, 0, false
		}
		size = n + int(length)
	}
	return value, size, size > 0 && size <= len(m)
}

// servingFailure is nil for SERVING alone. Every other status means that the service does not want
// traffic.
func servingFailure(status uint64) error {
	const serving = 1
	// Numbers of HealthCheckResponse.ServingStatus. SERVICE_UNKNOWN is only sent by Watch, but a
	// server may send it here as well.
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	switch {
	case status == serving:
		return nil
	case status < uint64(len(names)):
		return errors.New("health is " + names[status])
	}
	return fmt.Errorf("health is %d, an unknown status", status)
}
