package check

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// The versions of HTTP, as ALPN names them (RFC 7301, 6; RFC 9113, 3.1).
const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

// hopHeaders are about one connection, and are not allowed in HTTP/2 (RFC 9113, 8.2.2).
var hopHeaders = []string{"Keep-Alive", "Proxy-Connection", "Te", "Upgrade"}

// newHTTPS builds a check over TLS. Such a check is never run by the event loop, which does not
// speak TLS.
func newHTTPS(s *spec) (prober, error) {
	h, err := buildHTTP(s)
	if err != nil {
		return nil, err
	}
	if h.tls, err = s.tlsConfig(h.offeredProtocols()...); err != nil {
		return nil, err
	}
	if err := h.checkALPN(s); err != nil {
		return nil, err
	}
	h.allowHold(s)
	s.repeats(h.tls, h.prepare)
	return h, nil
}

// offeredProtocols are the versions of HTTP to offer in the handshake, the preferred one first. A
// check that needs HTTP/1.1 offers nothing else.
func (h *httpCheck) offeredProtocols() []string {
	if h.needsHTTP1() != "" {
		return []string{protoHTTP1}
	}
	return []string{protoHTTP2, protoHTTP1}
}

// needsHTTP1 names what the check asks for that HTTP/2 cannot say or do; "" for nothing.
func (h *httpCheck) needsHTTP1() string {
	for _, name := range hopHeaders {
		if h.header[name] != nil {
			return "header " + name
		}
	}
	// A connection with HTTP/2 cannot be held after its answer: the peer sends frames on it that
	// need an answer, such as PING and SETTINGS.
	switch {
	case h.spec.hold:
		return "hold"
	case h.statuses.contain(http.StatusSwitchingProtocols):
		return "status 101"
	}
	return ""
}

// checkALPN refuses a value of alpn that the check cannot speak. A peer that negotiates nothing is
// taken for one that speaks HTTP/1.1, which is older than ALPN. That is good enough if HTTP/1.1 is
// among the values.
func (h *httpCheck) checkALPN(s *spec) error {
	for _, name := range s.tls.alpn {
		if name != protoHTTP2 && name != protoHTTP1 {
			return s.optionError("alpn", fmt.Errorf("unsupported protocol %s: https speaks %s and %s", quote(name), protoHTTP2, protoHTTP1))
		}
	}
	if needs := h.needsHTTP1(); needs != "" && slices.Contains(s.tls.alpn, protoHTTP2) {
		return s.optionError("alpn", fmt.Errorf("%s does not work over %s: write alpn %s, or remove the option", needs, protoHTTP2, protoHTTP1))
	}
	s.tls.withoutALPN = slices.Contains(s.tls.alpn, protoHTTP1)
	return nil
}

// exchangeHTTP2 sends the request over HTTP/2 on a connection of its own, and judges the response.
func (h *httpCheck) exchangeHTTP2(conn io.ReadWriter, request *http.Request) error {
	in, src := newReader(conn)
	defer readers.Put(in)
	s := newHTTP2Stream(new(http2Conn), conn, in, src, manualFirstByte(conn))
	answered, err := h.askStream(s, request)
	if answered { // after a failure the receiver may be gone
		s.goAway()
	}
	return err
}

// askStream sends the request on a stream and judges the response. It reports whether there was one.
func (h *httpCheck) askStream(s *http2Stream, request *http.Request) (answered bool, err error) {
	if err := s.sendRequest(requestFields(request), nil); err != nil {
		return false, requestFailure(err)
	}
	response, err := s.response()
	if err != nil {
		return false, err
	}
	return true, h.accept(response)
}

// requestFields are the header fields of a request (RFC 9113, 8.3.1). The headers that the operator wrote are marked as
// sensitive, so that no proxy on the way keeps them in its table (RFC 7541, 7.1.3).
func requestFields(request *http.Request) []hpack.HeaderField {
	method := request.Method
	if method == "" {
		method = http.MethodGet
	}
	fields := make([]hpack.HeaderField, 0, 8)
	fields = append(fields,
		hpack.HeaderField{Name: ":method", Value: method}, hpack.HeaderField{Name: ":scheme", Value: "https"},
		hpack.HeaderField{Name: ":authority", Value: request.Host}, hpack.HeaderField{Name: ":path", Value: request.URL.RequestURI()})
	for name, values := range request.Header {
		for _, v := range values {
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(name), Value: v, Sensitive: true})
		}
	}
	return fields
}
