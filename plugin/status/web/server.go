// Package web serves the status page: the page itself, the same data as JSON, and a stream of changes. Its main type is the
// Server, which the plugin starts with Listen for each address in the property status of a Corefile.
//
// The data comes from a Source, as snapshots. The server limits everything that a client can use up: connections, the size of a
// request, the time to send and to read, and the length of a page. It is read-only, but for one request, in force.go.
//
// There is no login to read: a client that can connect can read. Any web site can make a visitor's browser send
// requests to a loopback address, so the server refuses requests that come from other sites (DNS rebinding, cross-site
// requests).
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/status/config"
)

const (
	// maxConns is how many connections a server has at a time; more wait in the queue of the kernel. maxStreams is how many
	// of them can be streams: streams last for minutes, and must leave room for pages.
	maxConns   = 64
	maxStreams = 16
	// maxHeader bounds the request line and headers, in bytes. net/http allows 4 KiB more before it refuses.
	maxHeader = 8 << 10
	// maxQuery bounds the query string, in bytes. The links of a page repeat it, so it also bounds the page.
	maxQuery = 2 << 10
	// headTimeout bounds reading the head of a request, from its first byte on or from when the connection was accepted; and
	// then reading a body, which no request needs. It is short, because maxConns clients that send half a request keep all
	// others waiting. readTimeout bounds reading a request.
	// writeTimeout bounds writing a response. A stream has it for each write.
	// idleTimeout is how long a connection without a request is kept. Both are short for the same reason as headTimeout.
	headTimeout  = time.Second
	readTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	idleTimeout  = 3 * time.Second
	// closeTimeout bounds how long Close waits for requests in flight, since a reload waits for Close.
	closeTimeout = 500 * time.Millisecond
)

// Source provides the data. Its methods are called from many goroutines at once, and their errors are shown to people.
type Source interface {
	// Snapshot returns a recent snapshot. Other callers may have the same one: it must not be changed. It must return when the
	// context ends. It is called for each page and each tick, so it should keep a snapshot for a moment.
	Snapshot(ctx context.Context) (*status.Snapshot, error)
	// Explain returns how each server block that covers the name would answer the question now; nothing if none does. It must
	// not count as a query. It asks other plugins, and may therefore outlast the context.
	Explain(ctx context.Context, q status.Question) ([]status.Explanation, error)
	// Config returns the configuration in force.
	Config(ctx context.Context) (*config.InForce, error)
	// History returns the timelines of targets of a snapshot, in their order, with what was recorded of all of them. A line may be
	// nil. It is called for each page.
	History(ctx context.Context, targets []*status.Target) (history.Reading, error)
}

// Server serves a source on one address until it is closed. Create it with Listen.
type Server struct {
	source   Source
	address  string                   // as given to Listen
	host     string                   // the host that requests may name besides loopback, canonical; empty if any address may
	anyHost  bool                     // requests may name any host: a browser cannot be led to a Unix socket
	hosts    atomic.Pointer[[]string] // others that they may name, canonical; nil before there are any
	http     http.Server
	settings atomic.Pointer[settings] // nil before a Corefile that runs has some
	tokens   tokens
	streams  chan struct{} // holds one value for each open stream
	quit     chan struct{} // closed by Close: streams and waiting connections end
	closing  sync.Once     // guards quit
	ended    chan struct{} // closed when no connection is accepted any more
}

// Split parses an address, HOST:PORT or unix:PATH, into a network and an address as net.Listen takes them. The parser of the
// Corefile calls it, so that an invalid address is found there. Names of hosts are not resolved.
func Split(address string) (network, where string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" || path[0] == '@' { // an abstract socket has no permissions, so any user could connect
			return "", "", fmt.Errorf("%q is not a socket in the file system: use unix:PATH", address)
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("%q is not a valid address: use HOST:PORT, such as localhost:9253, or unix:PATH", address)
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q has no valid port: use one from 1 to 65535, as in %s", address, net.JoinHostPort(host, "9253"))
	}
	return "tcp", address, nil
}

// Place returns a canonical form of an address. Two addresses with the same one cannot both be listened on; the plugin then
// shares one server between them.
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

// Listen starts a server on an address that Split accepts. Its goroutine runs until Close.
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

// acceptLoop accepts connections until the server is closed.
func (s *Server) acceptLoop(listener net.Listener) {
	defer close(s.ended)
	_ = s.http.Serve(&limitedListener{Listener: listener, slots: make(chan struct{}, maxConns), quit: s.quit})
}

// newServer returns a server that does not listen yet.
func newServer(address string, source Source) *Server {
	s := &Server{source: source, address: address, streams: make(chan struct{}, maxStreams), quit: make(chan struct{}), ended: make(chan struct{})}
	if host, _, err := net.SplitHostPort(address); err == nil {
		s.host = canonicalHost(host)
	}
	s.anyHost = strings.HasPrefix(address, "unix:")
	s.http = http.Server{
		Handler: s.checkRequest(s.routes()), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: discardLog, ConnContext: withConn,
	}
	// HTTP/1 alone: over HTTP/2 one connection could carry any number of requests at once.
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	return s
}

// listen opens the listener. A Unix socket that a dead process left behind is replaced: nothing accepts a connection to it. A
// socket in use is an error, and so is a file that is no socket, which is never removed.
func listen(network, where string) (net.Listener, error) {
	l, err := net.Listen(network, where)
	if network != "unix" { // a TCP port is free as soon as its process has ended
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
	if err := os.Chmod(where, 0o660); err != nil { // user and group may connect, whatever the umask is
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close stops the server. It ends streams at once, and waits up to closeTimeout for other requests before it cuts their
// connections. When it returns the address is free. A handler whose source hangs may still run; its response is dropped.
// Close may be called more than once.
func (s *Server) Close() {
	s.closing.Do(func() { close(s.quit) }) // streams end by this: Shutdown would wait for them
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.ended // so that Serve has returned, too
}

// limitedListener accepts no more connections at a time than slots has room for.
type limitedListener struct {
	net.Listener
	slots chan struct{}   // holds one value for each open connection
	quit  <-chan struct{} // closed when Accept must not wait any longer
}

// Accept waits for a free slot, then for a connection.
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

// limitedConn is a connection that frees its slot when it is closed. net/http may close it twice.
type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection and frees its slot.
func (p *limitedConn) Close() error {
	err := p.Conn.Close()
	p.release()
	return err
}

// assets are the templates, the style, the script, the icon and the OpenAPI file. All are served as they are, except for the
// templates: nothing is loaded from elsewhere.
//
//go:embed assets
var assets embed.FS

// routes maps paths to handlers. A path below /v1/ is an interface: its fields may be added to, but keep their meaning.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux() // a pattern with GET also matches HEAD
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /explain", s.serveExplainPage)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.HandleFunc("GET /v1/summary", s.serveSummary)
	mux.HandleFunc("GET /v1/targets", s.serveTargets)
	mux.HandleFunc("GET /v1/names", s.serveNames)
	mux.HandleFunc("GET /v1/checks", s.serveChecks)
	mux.HandleFunc("GET /v1/changes", s.serveChanges)
	mux.HandleFunc("GET /v1/members", s.serveMembers)
	mux.HandleFunc("GET /v1/history", s.serveHistory)
	mux.HandleFunc("GET /v1/explain", s.serveExplain)
	mux.HandleFunc("GET /v1/incident", s.serveIncident)
	mux.HandleFunc("GET /config", s.serveConfigPage)
	mux.HandleFunc("GET /v1/config", s.serveConfig)
	mux.HandleFunc("GET "+forcePath, s.serveForce)
	mux.HandleFunc("POST "+forcePath, s.serveChange)
	mux.HandleFunc("GET /", serveNothing)
	for path, media := range map[string]string{
		"status.css": "text/css; charset=utf-8", "timeline.css": "text/css; charset=utf-8", "force.css": "text/css; charset=utf-8",
		"status.js": "text/javascript; charset=utf-8", "copy.js": "text/javascript; charset=utf-8", "force.js": "text/javascript; charset=utf-8",
		"openapi.json": "application/json", "icon.svg": "image/svg+xml",
	} {
		body, err := assets.ReadFile("assets/" + path)
		if err != nil {
			panic(err) // the file is compiled in, so only a wrong build can miss it
		}
		mux.HandleFunc("GET /"+path, func(w http.ResponseWriter, r *http.Request) { writeBody(w, r, http.StatusOK, media, body) })
	}
	return mux
}

// serveNothing answers for all other paths, with an error in the form of what was asked for.
func serveNothing(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		writeError(w, http.StatusNotFound, "no such resource: see /openapi.json for those there are")
		return
	}
	showError(w, r, http.StatusNotFound, errors.New("no such page"))
}

// contentSecurityPolicy limits what a browser does with a page (Content Security Policy Level 3): it loads scripts, styles and
// data from this server alone, runs no inline script, and shows the page in no frame. A second guard behind the escaping of
// the templates: names of domains and reasons of failures come from strangers.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// checkRequest sets the headers that every response has, and refuses requests that are not GET or HEAD, but for the one that
// changes something, were not meant for this server, or are too long. It comes before every handler.
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
		if r.ContentLength != 0 { // net/http reads the body of a request that it has answered
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headTimeout))
		}
		switch {
		case !s.acceptsHost(r.Host):
			writeError(w, http.StatusMisdirectedRequest, "unknown host in the request: use localhost, the address in the Corefile, or a name that host has in the block of status")
		case crossSite(r.Header):
			writeError(w, http.StatusForbidden, "cross-site request refused: open a link to this page, or send the request yourself")
		case r.URL.Path == forcePath && r.Method == http.MethodPost: // mayAct has more to say about it
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			// What is not allowed here may be elsewhere, and the header says what is (RFC 9110, section 15.5.6).
			allow, text := "GET, HEAD", "read-only: use GET or HEAD"
			if r.URL.Path == forcePath {
				allow, text = "GET, HEAD, POST", "use GET or HEAD to read, and POST to change"
			}
			h.Set("Allow", allow)
			writeError(w, http.StatusMethodNotAllowed, text)
		case len(r.URL.RawQuery) > maxQuery:
			writeError(w, http.StatusRequestURITooLong, fmt.Sprintf("query string too long: use at most %d bytes", maxQuery))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// crossSite reports whether a browser sends the request for another web site, other than by a link. Browsers say so in the
// headers of Fetch Metadata (W3C); other clients send none, and are let through. The other site could not read the response,
// but it could measure how long that takes, and make this server work.
func crossSite(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-Dest") != "document"
}

// canonicalHost returns a host in a form in which equal hosts are equal strings: lower case, without brackets, final dot or zone.
func canonicalHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.WithZone("").String()
	}
	return host
}

// acceptsHost reports whether a request with this Host header was meant for this server. With DNS rebinding a web site makes
// its own name resolve to the address of this server; its pages could then read the responses as their own. Such requests
// name the host of that site, and are refused here.
func (s *Server) acceptsHost(host string) bool {
	if s.anyHost {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = canonicalHost(host)
	if host == "localhost" || host != "" && (host == s.host || s.isAllowed(host)) {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	// An address cannot be rebound, only a name. A server that listens on all addresses accepts any of them.
	unspecified, err := netip.ParseAddr(s.host)
	return addr.IsLoopback() || s.host == "" || err == nil && unspecified.IsUnspecified()
}
