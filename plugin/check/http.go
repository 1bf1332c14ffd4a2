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
)

const (
	// bodyLimit is how many bytes of a body, decoded, are searched. It is Route 53's number, so that a check moved
	// from there to here means the same.
	bodyLimit = 5120

	// responseLimit is how many bytes are read from a peer, head and body together: what a probe may cost us,
	// whatever the peer sends.
	responseLimit = 64 << 10

	// interimLimit is how many interim responses (RFC 9110, 15.2) may come before the real one.
	interimLimit = 5

	userAgent = "coredns-multivalue"
)

var errHead = errors.New("HEAD has no body: remove the options about the body, or use GET")

// An httpCheck asks over HTTP/1.1, or HTTP/2 where TLS comes to that, one request a connection. It does without the client of net/http: no proxy of
// the environment, no redirect, no pool and no goroutine can then come between the check and the address (B36, B40).
type httpCheck struct {
	httpSettings
	spec    *spec
	request *http.Request // copied for each probe, never written to
	tls     *tls.Config   // nil: in the clear
}

func newHTTP(s *spec) (prober, error) {
	h, err := buildHTTP(s)
	if err != nil {
		return nil, err
	}
	s.talk = newTalk(h)
	h.allowHold(s)
	return h, nil
}

// keeps lets the check hold, if it is about the head alone.
func (h *httpCheck) allowHold(s *spec) {
	if s.hold && !h.wantsBody() {
		s.holder = h
	}
}

func buildHTTP(s *spec) (*httpCheck, error) {
	if s.path == "" {
		s.path = "/"
	}
	if s.http.method == http.MethodHead && s.http.wantsBody() {
		return nil, s.optionError("method", errHead)
	}
	if s.http.auth != nil && s.http.header["Authorization"] != nil {
		return nil, s.optionError("header", errors.New("Authorization is also set by basic_auth or bearer: keep one of the two"))
	}
	if s.http.statuses == nil {
		s.http.statuses = statuses{{200, 399}}
	}
	u, err := url.ParseRequestURI(s.requestURI())
	if err != nil {
		return nil, urlError(s.path, err)
	}
	h := &httpCheck{httpSettings: s.http, spec: s}
	h.request = &http.Request{Method: s.http.method, URL: u, Header: s.http.requestHeaders(), Close: !s.hold}
	return h, nil
}

// requestURI is what the request line asks for (RFC 9112, 3.2.1).
func (s *spec) requestURI() string {
	if s.query == "" {
		return s.path
	}
	return s.path + "?" + s.query
}

// headers completes what the operator gave. Compression is offered only where the body is read at all.
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

func (h *httpCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	return h.probeHolding(ctx, addr, func(*net.TCPConn) {})
}

// keeping is probe, and keeps the connection of a good answer if the check holds.
func (h *httpCheck) probeHolding(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error {
	request, err := h.requestFor(addr)
	if err != nil {
		return err
	}
	conn, hangUp, err := h.spec.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer hangUp()
	client, stays, err := h.askOver(ctx, conn, request)
	if stays && err == nil && h.spec.hold {
		keep(conn.(*net.TCPConn))
		return nil
	}
	if client != nil {
		client.Close() // says goodbye in TLS; hangUp follows
	}
	return err
}

// converse asks over a connection, in TLS if the check does, and reports whether it stays.
func (h *httpCheck) askOver(ctx context.Context, conn net.Conn, request *http.Request) (client *tls.Conn, stays bool, err error) {
	if h.tls == nil {
		stays, err = h.exchangeHTTP1(limitFirstByte(conn, h.spec.firstByteTimeout), request)
		return nil, stays, err
	}
	if client, err = handshake(ctx, conn, h.tls, h.spec.tls.handshakeTimeout); err != nil {
		return nil, false, err
	}
	stays, err = h.askOverTLS(client, request)
	return client, stays, err
}

// over asks in TLS, and reports whether the connection stays.
func (h *httpCheck) askOverTLS(client *tls.Conn, request *http.Request) (stays bool, err error) {
	if client.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		return false, h.exchangeHTTP2(limitFirstByte(client, h.spec.firstByteTimeout), request)
	}
	return h.exchangeHTTP1(limitFirstByte(client, h.spec.firstByteTimeout), request)
}

// ask is the question for one address.
func (h *httpCheck) requestFor(addr netip.AddrPort) (*http.Request, error) {
	request := *h.request
	request.Host = h.host(addr)
	if h.auth == nil {
		return &request, nil
	}
	value, err := h.auth.value()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbstain, err)
	}
	request.Header = request.Header.Clone()
	request.Header.Set("Authorization", value)
	return &request, nil
}

// exchange puts the question and judges the answer.
func (h *httpCheck) exchangeHTTP1(conn io.ReadWriter, request *http.Request) (stays bool, err error) {
	if err := request.Write(conn); err != nil {
		return false, requestFailure(err)
	}
	return h.judgeResponse(conn)
}

// host is the Host header: whom the URL asks for, else the address. A zone means nothing to the peer (RFC 6874, 1).
func (h *httpCheck) host(addr netip.AddrPort) string { return h.spec.hostFor(addr) }

func (s *spec) hostFor(addr netip.AddrPort) string {
	if s.host != "" && s.portNamed {
		return s.authority(s.host, s.port)
	}
	if s.host != "" {
		return s.authority(s.host, addr.Port()) // which may be that of an SRV record
	}
	return s.authority(addr.Addr().WithZone("").String(), addr.Port())
}

// readers are lent to judge.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// judge reads one answer from r, at most responseLimit bytes of it, and says what is wrong with it. The body is not
// closed on purpose: that would read it to its end, and it holds nothing. It reports, too, whether the peer keeps the
// connection open (RFC 9112, 9.3).
func (h *httpCheck) judgeResponse(r io.Reader) (stays bool, err error) {
	src := &limitedReader{r: r, left: responseLimit}
	br := readers.Get().(*bufio.Reader)
	defer readers.Put(br)
	br.Reset(src)
	response, err := h.final(br, src)
	if err != nil {
		return false, err
	}
	return !response.Close, h.accept(response)
}

// accept judges a response that has begun well.
func (h *httpCheck) accept(response *http.Response) error {
	if !h.statuses.contain(response.StatusCode) {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	for i := range h.matches {
		if err := h.matches[i].judgeHeader(response.Header); err != nil {
			return err
		}
	}
	if !h.wantsBody() {
		return nil
	}
	return h.judgeBody(response)
}

// A source bounds what is read from a peer, and remembers why reading ended: http.ReadResponse takes half a line
// for a whole one, and would then call a peer malformed that was only slow.
type limitedReader struct {
	r    io.Reader
	left int
	err  error
}

var errTooLong = errors.New("longer than 64 KiB")

// Read is like that of an io.LimitedReader, but the limit is an error and not the end.
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

// final reads the first response that is not an interim one. Status 101 is final: it answers to nothing we asked,
// and what would follow is not HTTP.
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

var errInterim = fmt.Errorf("more than %d interim responses", interimLimit)

func interim(status int) bool { return status >= 100 && status <= 199 }

// read reads one response head. What the peer began with is kept aside, to show it if it is not HTTP.
func (h *httpCheck) readHead(br *bufio.Reader, src *limitedReader) (*http.Response, error) {
	if _, err := br.Peek(1); err != nil {
		return nil, responseFailure(err)
	}
	var start [quoteLimit]byte
	seen, _ := br.Peek(min(br.Buffered(), len(start)))
	n := copy(start[:], seen)
	response, err := http.ReadResponse(br, h.request)
	if err != nil {
		return nil, h.headFailure(src.err, start[:n])
	}
	if response.ProtoMajor != 1 {
		return nil, h.malformed(start[:n])
	}
	return response, nil
}

// headFailure is for a peer that began to answer with start; ended is why no more could be read, nil if that was not
// the trouble. What does not even begin like HTTP is malformed, however it ended.
func (h *httpCheck) headFailure(ended error, start []byte) error {
	const version = "HTTP/"
	n := min(len(start), len(version))
	if ended == nil || string(start[:n]) != version[:n] {
		return h.malformed(start)
	}
	return errors.New("incomplete response: " + describe(ended))
}

// secretive reports whether what is sent may hold a secret, which a peer may give back, whole, cut, or written in another way.
func (h *httpCheck) sendsSecret() bool { return h.auth != nil || len(h.header) > 0 }

// malformed shows what the peer sent instead of HTTP, unless we may have told it a secret, which it may repeat.
func (h *httpCheck) malformed(start []byte) error {
	if h.sendsSecret() {
		return errors.New("malformed response (not shown, it may repeat a secret)")
	}
	return malformed(start)
}
