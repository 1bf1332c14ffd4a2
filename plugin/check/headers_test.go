package check

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2/hpack"
)

// decodeHead decodes header fields as a peer would.
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

// Headers of the operator are never stored in the table of a proxy (RFC 7541, 7.1.3).
func TestSecretsEnterNoTable(t *testing.T) {
	u, _ := url.Parse("https://www.example.org/healthz")
	head := decodeHead(t, encodeFields(requestFields(&http.Request{Host: "www.example.org", URL: u, Header: http.Header{"X-Token": {"s3cret"}, "Authorization": {"Bearer s3cret"}}}), true))
	for _, name := range []string{"x-token", "authorization"} {
		if f := head[name]; f.Value == "" || !f.Sensitive {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A gRPC request says that it accepts trailers. Servers use that to detect proxies that drop them.
func TestGRPCTakesTrailers(t *testing.T) {
	s, err := parseURL("grpc://:1")
	if err != nil {
		t.Fatal(err)
	}
	head := decodeHead(t, encodeFields((&grpcCheck{spec: s, scheme: "http"}).fields(t.Context(), netip.MustParseAddrPort("192.0.2.1:1")), true))
	for name, want := range map[string]string{"te": "trailers", "content-type": "application/grpc", ":method": "POST", ":scheme": "http"} {
		if got := head[name].Value; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A peer that has started in time may take as long as the probe has; one that has not started fails
// at the bound. Time is that of a synctest bubble, so the waits take none.
func TestFirstByteIsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer, ours := net.Pipe()
		go func() {
			defer peer.Close()
			for _, part := range []string{"o", "n", "e"} {
				_, _ = peer.Write([]byte(part))
				time.Sleep(time.Minute)
			}
		}()
		if all, err := io.ReadAll(limitFirstByte(ours, 5*time.Second)); string(all) != "one" || err != nil {
			t.Errorf("a peer that begins at once, and goes on slowly: %q, %v", all, err)
		}
		_, ours = net.Pipe()
		began := time.Now()
		if _, err := limitFirstByte(ours, 5*time.Second).Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("a peer that does not begin: %v after %s", err, time.Since(began))
		}
	})
}
