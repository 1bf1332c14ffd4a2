package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

const (
	// bodyLimit is how much of a body is searched, in bytes after decompression. It is the limit of
	// Amazon Route 53, so that a check moved from there means the same here.
	bodyLimit = 5120

	// responseLimit is how many bytes a probe reads from a peer, head and body together. It bounds
	// what a probe can cost, whatever the peer sends.
	responseLimit = 64 << 10

	// interimLimit is how many interim responses (RFC 9110, 15.2) may precede the final one.
	interimLimit = 5

	// userAgent names us in requests, so that an operator of the peer can tell where probes come
	// from.
	userAgent = "coredns-multivalue"
)

// errHead is the reason to refuse a check of the body with the method HEAD.
var errHead = errors.New("HEAD has no body: remove the options about the body, or use GET")

// An httpCheck sends one request on a connection, over HTTP/1.1, or over HTTP/2 if TLS
// negotiates that.
//
// It does not use the client of net/http, so that no proxy from the environment, no redirect, no
// connection pool and no goroutine can come between the check and the address (B36, B40).
type httpCheck struct {
	httpSettings
	spec    *spec         // for the host and the dialer
	request *http.Request // a template: copied for each probe, never changed
	tls     *tlsClient    // nil for http

	report *report.Report // of this probe, for what the answer says of the backend; nil in the check itself
}

// newHTTP builds a check without TLS, which the event loop can run if it is about the head of the
// response alone.
func newHTTP(s *spec) (prober, error) {
	h, err := buildHTTP(s)
	if err != nil {
		return nil, err
	}
	s.talk = newTalk(h)
	h.allowHold(s)
	s.repeats(nil, h.prepare)
	return h, nil
}

// allowHold lets the check hold its connection. After a body was asked for, the rest of it would
// still be on the connection.
func (h *httpCheck) allowHold(s *spec) {
	if s.hold && !h.wantsBody() {
		s.holder = h
	}
}

// buildHTTP completes and validates what http and https have in common. By default every status
// from 200 to 399 is good.
func buildHTTP(s *spec) (*httpCheck, error) {
	if s.path == "" {
		s.path = "/"
	}
	// A response to HEAD never has a body (RFC 9110, 9.3.2), so such a check could never pass.
	if s.http.method == http.MethodHead && s.http.wantsBody() {
		return nil, s.optionError("method", errHead)
	}
	if s.http.auth != nil && s.http.header["Authorization"] != nil {
		return nil, s.optionError("header", errors.New("the Authorization header is also set by basic_auth or bearer: keep one of the two"))
	}
	if s.http.statuses == nil {
		s.http.statuses = statuses{{200, 399}}
	}
	u, err := url.ParseRequestURI(s.requestURI())
	if err != nil {
		return nil, urlError(s.path, err)
	}
	h := &httpCheck{httpSettings: s.http, spec: s}
	h.request = &http.Request{Method: s.http.method, URL: u, Header: s.http.requestHeaders(), Close: !s.hold && !s.reuse}
	return h, nil
}

// requestURI is the target in the request line (RFC 9112, 3.2.1).
func (s *spec) requestURI() string {
	if s.query == "" {
		return s.path
	}
	return s.path + "?" + s.query
}

// requestHeaders are the headers of the operator, with our defaults. Compression is only offered if
// the body is read.
func (h *httpSettings) requestHeaders() http.Header {
	all := h.header.Clone()
	if all == nil {
		all = http.Header{}
	}
	if all["User-Agent"] == nil {
		all.Set("User-Agent", userAgent)
	}
	if h.wantsBody() && all["Accept-Encoding"] == nil {
		all.Set("Accept-Encoding", "gzip")
	}
	return all
}

// probe sends the request to addr and judges the response.
func (h *httpCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	return h.probeHolding(ctx, addr, func(*net.TCPConn) {})
}

// probeHolding is probe, and passes the connection of a good answer to keep if the check holds and
// the peer keeps it open.
func (h *httpCheck) probeHolding(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error {
	request, err := h.requestFor(ctx, addr)
	if err != nil {
		return err
	}
	conn, closeConn, err := h.spec.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	client, stays, err := h.listening(ctx).askOver(ctx, conn, request)
	if stays && err == nil && h.spec.hold {
		keep(conn.(*net.TCPConn))
		return nil
	}
	if client != nil {
		client.Close() // sends close_notify; closeConn follows
	}
	return err
}

// askOver performs the exchange over conn, in TLS for https. It reports whether the peer keeps the
// connection open. The TLS connection, if there is one, is returned even after a failure, for the
// caller to close.
func (h *httpCheck) askOver(ctx context.Context, conn net.Conn, request *http.Request) (client *tls.Conn, stays bool, err error) {
	if h.tls == nil {
		stays, err = h.exchangeHTTP1(limitFirstByte(conn, h.spec.firstByteTimeout), request)
		return nil, stays, err
	}
	if client, err = handshake(ctx, conn, h.tls.now(ctx), h.spec.tls.handshakeTimeout); err != nil {
		return nil, false, err
	}
	stays, err = h.askOverTLS(client, request)
	return client, stays, err
}

// askOverTLS performs the exchange in the version of HTTP that was negotiated. Over HTTP/2 the
// connection is never held: a check with hold offers HTTP/1.1 alone.
func (h *httpCheck) askOverTLS(client *tls.Conn, request *http.Request) (stays bool, err error) {
	if client.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		return false, h.exchangeHTTP2(limitFirstByte(client, h.spec.firstByteTimeout), request)
	}
	return h.exchangeHTTP1(limitFirstByte(client, h.spec.firstByteTimeout), request)
}

// requestFor is the request for one address. A credential that cannot be read is a fault of ours,
// so the probe abstains.
func (h *httpCheck) requestFor(ctx context.Context, addr netip.AddrPort) (*http.Request, error) {
	request := *h.request
	request.Host = h.host(addr)
	if h.auth == nil {
		return &request, nil
	}
	value, err := h.auth.value(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbstain, err)
	}
	// The header of the template is shared by all probes.
	request.Header = request.Header.Clone()
	request.Header.Set("Authorization", value)
	return &request, nil
}

// exchangeHTTP1 sends the request over HTTP/1.1 and judges the response.
func (h *httpCheck) exchangeHTTP1(conn io.ReadWriter, request *http.Request) (stays bool, err error) {
	if err := request.Write(conn); err != nil {
		return false, requestFailure(err)
	}
	return h.judgeResponse(conn)
}

// host is the value of the Host header for a probe of addr.
func (h *httpCheck) host(addr netip.AddrPort) string { return h.spec.hostFor(addr) }

// hostFor is the host and port to ask for: the host of the URL, else the address. The port is that
// of the URL, or the one that is dialled, which may come from an SRV record. A zone is left out,
// because it has no meaning for the peer (RFC 6874, 1).
func (s *spec) hostFor(addr netip.AddrPort) string {
	if s.host != "" && s.portNamed {
		return s.authority(s.host, s.port)
	}
	if s.host != "" {
		return s.authority(s.host, addr.Port()) // the port may be that of an SRV record
	}
	return s.authority(addr.Addr().WithZone("").String(), addr.Port())
}

// readers recycles the buffers of responses. A buffer must be Reset before use.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// newReader takes a buffer for one response from r, of at most responseLimit bytes.
func newReader(r io.Reader) (*bufio.Reader, *limitedReader) {
	src := &limitedReader{r: r, left: responseLimit}
	in := readers.Get().(*bufio.Reader)
	in.Reset(src)
	return in, src
}

// judgeResponse reads one response from r, at most responseLimit bytes, and judges it. It also
// reports whether the peer keeps the connection open (RFC 9112, 9.3). It does not close the body:
// that would read it to the end, and there is nothing to release.
func (h *httpCheck) judgeResponse(r io.Reader) (stays bool, err error) {
	br, src := newReader(r)
	defer readers.Put(br)
	response, err := h.final(br, src)
	if err != nil {
		return false, err
	}
	return !response.Close, h.accept(response)
}

// accept judges a response whose head was read: status, then headers, then body.
func (h *httpCheck) accept(response *http.Response) error {
	if !h.statuses.contain(response.StatusCode) {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	for i := range h.matches {
		if err := h.matches[i].judgeHeader(response.Header); err != nil {
			return err
		}
	}
	if h.wantsBody() {
		if err := h.judgeBody(response); err != nil {
			return err
		}
	}
	h.noteWeight(response.Header)
	return nil
}

// A limitedReader bounds what is read from a peer, and remembers why reading ended.
// [http.ReadResponse] takes half a line for a whole one, so without that a slow peer would be
// called malformed.
type limitedReader struct {
	r    io.Reader
	left int   // bytes that may still be read
	err  error // of the last read
}

// errTooLong is the error of a response longer than responseLimit.
var errTooLong = errors.New("longer than 64 KiB")

// Read is like that of [io.LimitedReader], but reaching the limit is an error and not the end.
func (s *limitedReader) Read(p []byte) (n int, err error) {
	if s.left == 0 {
		s.err = errTooLong
		return 0, errTooLong
	}
	n, err = s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	s.err = err
	return n, err
}

// final reads up to the first response that is not interim. Status 101 counts as final: we did not
// ask for another protocol, and what would follow is not HTTP.
func (h *httpCheck) final(br *bufio.Reader, src *limitedReader) (*http.Response, error) {
	for range interimLimit + 1 {
		response, err := h.readHead(br, src)
		if err != nil {
			return nil, err
		}
		if !interim(response.StatusCode) || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, errInterim
}

// errInterim is the error of a peer that sends interim responses and no final one.
var errInterim = fmt.Errorf("more than %d interim responses", interimLimit)

// interim reports whether another response follows one with this status (RFC 9110, 15.2).
func interim(status int) bool { return status >= 100 && status <= 199 }

// readHead reads the head of one response. The first bytes are kept aside, to show them if they are
// not HTTP.
func (h *httpCheck) readHead(br *bufio.Reader, src *limitedReader) (*http.Response, error) {
	if _, err := br.Peek(1); err != nil {
		return nil, responseFailure(err)
	}
	// ReadResponse reads into the buffer that these bytes are in, so they are copied.
	var start [quoteLimit]byte
	seen, _ := br.Peek(min(br.Buffered(), len(start)))
	n := copy(start[:], seen)
	response, err := http.ReadResponse(br, h.request)
	if err != nil {
		return nil, h.headFailure(src.err, start[:n])
	}
	// ReadResponse accepts any version, such as HTTP/9.
	if response.ProtoMajor != 1 {
		return nil, h.malformed(start[:n])
	}
	return response, nil
}

// headFailure is the reason why a head could not be read. ended is why the connection ended, nil if
// it did not. What does not even start like HTTP is malformed, however the connection ended.
func (h *httpCheck) headFailure(ended error, start []byte) error {
	const version = "HTTP/"
	n := min(len(start), len(version))
	if ended == nil || string(start[:n]) != version[:n] {
		return h.malformed(start)
	}
	return errors.New("incomplete response: " + describe(ended))
}

// sendsSecret reports whether the request may contain a secret: credentials or any header. The peer
// may repeat it, whole, cut, or encoded, so nothing of the response may be quoted then.
func (h *httpCheck) sendsSecret() bool { return h.auth != nil || len(h.header) > 0 }

// malformed shows what the peer sent instead of HTTP, unless the peer was told a secret.
func (h *httpCheck) malformed(start []byte) error {
	if h.sendsSecret() {
		return errors.New("malformed response (not shown, it may repeat a secret)")
	}
	return malformed(start)
}
