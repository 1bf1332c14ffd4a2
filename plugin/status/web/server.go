// Package web serves the status page: the page itself, the same as JSON, and a stream of changes. Its main type is the
// Server, which the plugin starts with Listen for each address that a Corefile names.
//
// What it shows comes from a Source. It changes nothing there, and everything that a client can ask of it is bounded:
// connections, the head of a request, time, the length of an answer.
package web

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// maxConns bounds the connections of a server, maxStreams those of them that follow changes.
	maxConns   = 64
	maxStreams = 16
	// maxHeader bounds the head of a request, in bytes; net/http allows 4 KiB more.
	maxHeader = 8 << 10
	// maxQuery bounds what follows the question mark.
	maxQuery = 2 << 10
	// readTimeout and writeWithin bound a request and its answer. Streams write again and again, each within the latter.
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 30 * time.Second
	// closeTimeout bounds the wait for requests under way at the end.
	closeTimeout = 500 * time.Millisecond
)

// Source is where what is shown comes from.
type Source interface {
	// Snapshot is how things stood a moment ago. It waits for nobody but the pool, and not beyond the context.
	Snapshot(ctx context.Context) (*status.Snapshot, error)
	// Explain says how the answer to a question comes about, on each server block that has one.
	Explain(ctx context.Context, q status.Question) ([]status.Explanation, error)
}

// Server shows a source on one address, until it is closed.
type Server struct {
	source  Source
	address string
	host    string // that a request may name besides loopback, in lower case; empty if any may
	anyHost bool   // it is a socket of this machine's file system, to which no browser is led astray
	http    http.Server
	streams chan struct{} // a place each
	quit    chan struct{}
	closing sync.Once
	ended   chan struct{}
}

// Split takes an address apart, which is HOST:PORT or unix:PATH.
func Split(address string) (network, where string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" || path[0] == '@' { // an abstract one has no permissions
			return "", "", fmt.Errorf("%q names no socket in the file system: want unix:PATH", address)
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("%q is no address: want HOST:PORT, such as localhost:9253, or unix:PATH", address)
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q has no port: want one from 1 to 65535, as in %s", address, net.JoinHostPort(host, "9253"))
	}
	return "tcp", address, nil
}

// Place is where an address leads: two that lead to one place cannot both be listened on.
func Place(address string) string {
	network, where, err := Split(address)
	switch {
	case err != nil:
		return address
	case network == "unix":
		return "unix:" + filepath.Clean(where)
	}
	if addr, err := net.ResolveTCPAddr(network, where); err == nil {
		return addr.String()
	}
	return address
}

// Listen starts a server on an address that Split takes.
func Listen(address string, source Source) (*Server, error) {
	network, where, err := Split(address)
	if err != nil {
		return nil, err
	}
	listener, err := listen(network, where)
	if err != nil {
		return nil, err
	}
	s := newServer(address, source)
	go s.acceptLoop(listener)
	return s, nil
}

// acceptLoop returns when the server is closed.
func (s *Server) acceptLoop(listener net.Listener) {
	defer close(s.ended)
	_ = s.http.Serve(&limitedListener{Listener: listener, slots: make(chan struct{}, maxConns), quit: s.quit})
}

func newServer(address string, source Source) *Server {
	s := &Server{source: source, address: address, streams: make(chan struct{}, maxStreams), quit: make(chan struct{}), ended: make(chan struct{})}
	if host, _, err := net.SplitHostPort(address); err == nil {
		s.host = canonicalHost(host)
	}
	s.anyHost = strings.HasPrefix(address, "unix:")
	s.http = http.Server{
		Handler: s.checkRequest(s.routes()), MaxHeaderBytes: maxHeader,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: discardLog,
	}
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	return s
}

// listen listens. A socket that another process has left behind goes; one that somebody still listens on does not.
func listen(network, where string) (net.Listener, error) {
	l, err := net.Listen(network, where)
	if network != "unix" {
		return l, err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if conn, dialled := net.DialTimeout(network, where, time.Second); dialled == nil {
			conn.Close()
			return nil, err
		} else if info, stat := os.Lstat(where); errors.Is(dialled, syscall.ECONNREFUSED) && stat == nil && info.Mode().Type() == fs.ModeSocket {
			os.Remove(where)
			l, err = net.Listen(network, where)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(where, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the server, and returns when nothing of it is left, but for a handler that waits for its source in vain. It
// may be called twice.
func (s *Server) Close() {
	s.closing.Do(func() { close(s.quit) })
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.ended
}

// limitedListener is a listener that accepts only so many connections at a time.
type limitedListener struct {
	net.Listener
	slots chan struct{}
	quit  <-chan struct{}
}

func (b *limitedListener) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.quit:
		return nil, net.ErrClosed
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-b.slots })}, nil
}

type limitedConn struct {
	net.Conn
	release func()
}

func (p *limitedConn) Close() error {
	err := p.Conn.Close()
	p.release()
	return err
}

//go:embed assets
var assets embed.FS

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /explain", s.serveExplainPage)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.HandleFunc("GET /v1/summary", s.serveSummary)
	mux.HandleFunc("GET /v1/targets", s.serveTargets)
	mux.HandleFunc("GET /v1/names", s.serveNames)
	mux.HandleFunc("GET /v1/checks", s.serveChecks)
	mux.HandleFunc("GET /v1/changes", s.serveChanges)
	mux.HandleFunc("GET /v1/explain", s.serveExplain)
	for path, media := range map[string]string{
		"status.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8", "openapi.json": "application/json", "icon.svg": "image/svg+xml",
	} {
		body, err := assets.ReadFile("assets/" + path)
		if err != nil {
			panic(err) // it is compiled in
		}
		mux.HandleFunc("GET /"+path, func(w http.ResponseWriter, r *http.Request) { writeBody(w, r, http.StatusOK, media, body) })
	}
	return mux
}

// contentSecurityPolicy is what a browser may do with what it is shown: use our script, our style and our answers, and nothing else.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// checkRequest lets through what only reads, and was meant for this server.
func (s *Server) checkRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		switch {
		case !s.acceptsHost(r.Host):
			writeError(w, http.StatusMisdirectedRequest, "this host name is not mine: ask for localhost, or for the address in the Corefile")
		case crossSite(r.Header):
			writeError(w, http.StatusForbidden, "a page of somebody else's asks for this: want a link, or a request of your own")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "this is to be read only: want GET or HEAD")
		case len(r.URL.RawQuery) > maxQuery:
			writeError(w, http.StatusRequestURITooLong, "the query is too long")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// crossSite reports whether another site has a browser ask, which says so (Fetch Metadata). A link may lead here from anywhere;
// but an answer costs something, and how long it takes tells something, though that site cannot read it.
func crossSite(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-Dest") != "document"
}

// canonicalHost is a host in the form in which two of them are compared.
func canonicalHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.WithZone("").String()
	}
	return host
}

// acceptsHost reports whether a request that names this host was meant for us. A page of somebody else's whose name is made to
// lead to our address (DNS rebinding) names its own host.
func (s *Server) acceptsHost(host string) bool {
	if s.anyHost {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = canonicalHost(host)
	if host == "localhost" || host != "" && host == s.host {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	// A literal cannot be rebound. Where we listen on all addresses, any of them is ours.
	unspecified, err := netip.ParseAddr(s.host)
	return addr.IsLoopback() || s.host == "" || err == nil && unspecified.IsUnspecified()
}
