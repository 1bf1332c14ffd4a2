package check

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// decodeHead reads a head as a peer would.
func decodeHead(t *testing.T, block []byte) map[string]hpack.HeaderField {
	t.Helper()
	fields, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
	if err != nil {
		t.Fatal(err)
	}
	head := make(map[string]hpack.HeaderField)
	for _, f := range fields {
		head[f.Name] = f
	}
	return head
}

// What an operator gave for a header enters no table of any proxy on the way (RFC 7541, 7.1.3).
func TestSecretsEnterNoTable(t *testing.T) {
	u, _ := url.Parse("https://www.example.org/healthz")
	head := decodeHead(t, encodeHeaders(&http.Request{Host: "www.example.org", URL: u, Header: http.Header{"X-Token": {"s3cret"}, "Authorization": {"Bearer s3cret"}}}))
	for _, name := range []string{"x-token", "authorization"} {
		if f := head[name]; f.Value == "" || !f.Sensitive {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A request of gRPC says that it can take trailers, by which servers tell it from HTTP/2 through a proxy that drops them.
func TestGRPCTakesTrailers(t *testing.T) {
	s, err := parseURL("grpc://:1")
	if err != nil {
		t.Fatal(err)
	}
	head := decodeHead(t, (&grpcCheck{spec: s, scheme: "http"}).headers(t.Context(), netip.MustParseAddrPort("192.0.2.1:1")))
	for name, want := range map[string]string{"te": "trailers", "content-type": "application/grpc", ":method": "POST", ":scheme": "http"} {
		if got := head[name].Value; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
