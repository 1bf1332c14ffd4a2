package check_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serveGRPC runs a server of grpc-go until the test is over.
func serveGRPC(t *testing.T, service grpc_health_v1.HealthServer, options ...grpc.ServerOption) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	if service != nil {
		grpc_health_v1.RegisterHealthServer(s, service)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// With grpcServer in the environment, the test binary is a server of grpc-go at that address until
// it is killed. It accepts grpcCrowd connections at a time. With grpcFiles it speaks TLS, with the
// certificate that is in that directory at the time.
const (
	grpcServer = "CHECK_TEST_GRPC"
	grpcFiles  = "CHECK_TEST_GRPC_FILES"
	grpcCrowd  = 4
)

func serveGRPCAlone() {
	l, err := net.Listen("tcp", os.Getenv(grpcServer))
	if err != nil {
		panic(err)
	}
	l = netutil.LimitListener(l, grpcCrowd)
	var options []grpc.ServerOption
	if dir := os.Getenv(grpcFiles); dir != "" {
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(dir+"/server.crt", dir+"/server.key")
			return &pair, err
		}})))
	}
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	panic(s.Serve(l))
}

// healthFunc is a health service written by a test.
type healthFunc func(ctx context.Context, service string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error)

type healthService struct {
	grpc_health_v1.UnimplementedHealthServer
	check healthFunc
}

func (h healthService) Check(ctx context.Context, in *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	status, err := h.check(ctx, in.GetService())
	return &grpc_health_v1.HealthCheckResponse{Status: status}, err
}

// The health service of grpc-go, in each of its states.
func TestGRPC(t *testing.T) {
	service := health.NewServer()
	service.SetServingStatus("my.Service", grpc_health_v1.HealthCheckResponse_SERVING)
	service.SetServingStatus("down.Service", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	service.SetServingStatus("odd.Service", grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN)
	service.SetServingStatus("new.Service", grpc_health_v1.HealthCheckResponse_UNKNOWN)
	service.SetServingStatus("wild.Service", 77)
	addr := serveGRPC(t, service)
	for url, want := range map[string]string{
		"grpc://:1":                    "",
		"grpc://:1/my.Service":         "",
		"grpc://a.example/my.Service":  "",
		"grpc://:1/down.Service":       "health is NOT_SERVING",
		"grpc://:1/odd.Service":        "health is SERVICE_UNKNOWN",
		"grpc://:1/new.Service":        "health is UNKNOWN",
		"grpc://:1/wild.Service":       "health is 77, an unknown status",
		"grpc://:1/no.Service":         "service unknown (NOT_FOUND)",
		"grpc://:1/%D8%A8.Service%20x": "service unknown (NOT_FOUND)",
		"grpc://:1/" + strings.Repeat("long.", 2000) + "Service": "service unknown (NOT_FOUND)",
	} {
		if got := reason(probe(mustNew(t, url), addr)); got != want {
			t.Errorf("%.40s: %q, want %q", url, got, want)
		}
	}
	service.Shutdown() // as a server does that is about to stop
	if got := reason(probe(mustNew(t, "grpc://:1"), addr)); got != "health is NOT_SERVING" {
		t.Errorf("%q", got)
	}
}

// Errors of a server, on the wire.
func TestGRPCErrors(t *testing.T) {
	c := mustNew(t, "grpc://:1")
	if got := reason(probe(c, serveGRPC(t, nil))); got != "server has no health service (UNIMPLEMENTED)" {
		t.Errorf("%q", got)
	}
	for code, want := range map[codes.Code]string{
		codes.Unimplemented:    "server has no health service (UNIMPLEMENTED)",
		codes.DeadlineExceeded: "server took too long (DEADLINE_EXCEEDED)",
		codes.Unavailable:      `grpc status UNAVAILABLE: "50% \x1b[31m über\n"`,
		codes.Unauthenticated:  `grpc status UNAUTHENTICATED: "50% \x1b[31m über\n"`,
		99:                     `grpc status 99: "50% \x1b[31m über\n"`,
	} {
		addr := serveGRPC(t, healthService{check: func(context.Context, string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
			return 0, status.Error(code, "50% \x1b[31m über\n")
		}})
		if got := reason(probe(c, addr)); got != want {
			t.Errorf("%v: %q, want %q", code, got, want)
		}
	}
	stuck := serveGRPC(t, healthService{check: func(ctx context.Context, _ string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	got := reason(probeFor(c, stuck, brief))
	if got != "no response: timed out" && got != "server took too long (DEADLINE_EXCEEDED)" && got != "no response: server reset the stream: CANCEL" {
		t.Errorf("%q", got)
	}
	big := serveGRPC(t, healthService{check: func(context.Context, string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
		return 0, status.Error(codes.Internal, strings.Repeat("x", 1<<20))
	}})
	if err := probe(c, big); err == nil || len(err.Error()) > 200 {
		t.Errorf("%v", err)
	}
}

// What a server is told: the authority, who we are, and how long we wait.
func TestGRPCRequest(t *testing.T) {
	var seen metadata.MD
	var left time.Duration
	addr := serveGRPC(t, healthService{check: func(ctx context.Context, _ string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return grpc_health_v1.HealthCheckResponse_SERVING, nil
	}})
	for url, want := range map[string]string{
		"grpc://:1":                 addr.String(),
		"grpc://api.example.org":    fmt.Sprintf("api.example.org:%d", addr.Port()),
		"grpc://api.example.org:99": "api.example.org:99",
		"grpc://[2001:db8::1]:99":   "[2001:db8::1]:99",
	} {
		if err := probe(mustNew(t, url), addr); err != nil {
			t.Error(err)
		}
		if got := seen.Get(":authority"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: authority %v, want %s", url, got, want)
		}
		if got := seen.Get("user-agent"); len(got) != 1 || got[0] != "coredns-multivalue" {
			t.Errorf("%s: user-agent %v", url, got)
		}
		if left <= 0 || left > patient {
			t.Errorf("%s: %v left", url, left)
		}
	}
}

// Over TLS, with a certificate on both sides.
func TestGRPCS(t *testing.T) {
	a := newAuthority(t)
	config := serverConfig(t, a, "api.example.org")
	config.NextProtos = []string{"h2"}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	config.ClientCAs.AddCert(a.cert)
	addr := serveGRPC(t, health.NewServer(), grpc.Creds(credentials.NewTLS(config)))
	client, key := sign(t, template("client"), a)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key.key)
	if err != nil {
		t.Fatal(err)
	}
	ca := opt("ca", a.file(t))
	pair := [][]string{ca, opt("cert", file(t, "CERTIFICATE", client.Certificate[0])), opt("key", file(t, "PRIVATE KEY", pkcs8))}
	if err := probe(mustNew(t, "grpcs://api.example.org", pair...), addr); err != nil {
		t.Error(err)
	}
	if err := probe(mustNew(t, "grpcs://", append(pair, opt("server_name", "api.example.org"))...), addr); err != nil {
		t.Error(err)
	}
	if got := reason(probe(mustNew(t, "grpcs://other.example.org", pair...), addr)); !strings.HasPrefix(got, "tls handshake: certificate is for") {
		t.Errorf("%q", got)
	}
	if got := reason(probe(mustNew(t, "grpcs://api.example.org", ca), addr)); !strings.HasSuffix(got, `peer sent the tls alert "certificate required"`) {
		t.Errorf("without a client certificate: %q", got)
	}
	if got := reason(probe(mustNew(t, "grpc://:1"), addr)); got == "" {
		t.Error("in the clear it is healthy")
	}
}

// Servers that speak HTTP/2, but not gRPC.
func TestGRPCOtherServers(t *testing.T) {
	for want, handler := range map[string]http.HandlerFunc{
		"status 404": http.NotFound,
		`not grpc: content type "text/html"`: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, strings.Repeat("hello", 100000))
		},
		"response without a grpc status": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/grpc") },
		`malformed response "\x00\x00\x00\x00\x05\b"`: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.Write([]byte("\x00\x00\x00\x00\x05\x08"))
			w.Header().Set("Grpc-Status", "0")
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
		s.Protocols.SetUnencryptedHTTP2(true)
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		got := reason(probe(mustNew(t, "grpc://:1"), l.Addr().(*net.TCPAddr).AddrPort()))
		s.Close()
		<-done
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// goodGRPC is everything that a healthy server sends; last replaces its trailers.
func goodGRPC(last ...func(*http2.Framer)) string {
	var b, block bytes.Buffer
	framer, encoder := http2.NewFramer(&b, nil), hpack.NewEncoder(&block)
	headers := func(end bool, list ...string) {
		block.Reset()
		for i := 0; i < len(list); i += 2 {
			encoder.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15})
	framer.WritePing(false, [8]byte{1})
	headers(false, ":status", "200", "content-type", "application/grpc")
	framer.WriteData(1, false, []byte("\x00\x00\x00\x00\x02\x08\x01"))
	for _, f := range last {
		f(framer)
		return b.String()
	}
	headers(true, "grpc-status", "0", "grpc-message", "")
	return b.String()
}

// Frames that end a response early.
func TestGRPCFrames(t *testing.T) {
	for want, last := range map[string]func(*http2.Framer){
		"incomplete response: server reset the stream: REFUSED_STREAM":                          func(f *http2.Framer) { f.WriteRSTStream(1, http2.ErrCodeRefusedStream) },
		`incomplete response: server closed the connection: ENHANCE_YOUR_CALM "too_many_pings"`: func(f *http2.Framer) { f.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings")) },
		`incomplete response: server closed the connection: NO_ERROR`:                           func(f *http2.Framer) { f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		`incomplete response: http/2 error PROTOCOL_ERROR`:                                      func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")) },
		`incomplete response: http/2 error FRAME_SIZE_ERROR`:                                    func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<17)) },
		"incomplete response: connection closed":                                                func(f *http2.Framer) { f.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) },
		"response without a grpc status":                                                        func(f *http2.Framer) { f.WriteData(1, true, nil) },
	} {
		p := listen(t, "127.0.0.1", sayAndEnd(goodGRPC(last)))
		if got := reason(probe(mustNew(t, "grpc://:1"), p.addr)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
