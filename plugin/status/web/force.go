package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// said is the log of the server, for those who run it.
var said = clog.NewWithPlugin("multivalue")

const (
	// forcePath is where people act.
	forcePath = "/v1/force"
	// maxBody bounds the body of a request, in bytes: a change of a few hundred networks.
	maxBody = 16 << 10
	// forceTimeout bounds a change, so that its answer can be written before writeTimeout ends.
	forceTimeout = 3 * time.Second
	// scopeText says what a change is about, where there are other replicas.
	scopeText = "this replica only"
)

// Forcer is a file of forced states that people may change. Its methods are called from many goroutines at once, and their errors
// are shown to people. An acting.Refusal says whose fault it is.
type Forcer interface {
	// Show returns what the file has.
	Show(ctx context.Context) (*acting.File, error)
	// Change makes a change, if the file still has the content with that ETag. When it returns, the change is in force.
	Change(ctx context.Context, etag string, c acting.Change) (*acting.File, error)
}

// settings are what the newest Corefile says of a page, besides its address. The zero value is a page that only shows.
type settings struct {
	forcer Forcer   // nil if the page may change nothing
	token  string   // the file with the token that a change needs; empty if it needs none
	peers  []string // URLs of the pages of other replicas
}

// inForce returns the settings in force.
func (s *Server) inForce() settings {
	if in := s.settings.Load(); in != nil {
		return *in
	}
	return settings{}
}

// serveForce answers GET /v1/force. The ETag is that of the file, and not of the response: a change has to name it.
func (s *Server) serveForce(w http.ResponseWriter, r *http.Request) {
	in := s.inForce()
	if in.forcer == nil {
		writeJSON(w, r, &acting.File{Lines: []acting.Line{}})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forceTimeout)
	defer cancel()
	file, err := in.forcer.Show(ctx)
	if err != nil {
		writeError(w, refusalStatus(err), err.Error())
		return
	}
	s.writeForce(w, r, file)
}

// writeForce writes a file, with what only the server knows of it.
func (s *Server) writeForce(w http.ResponseWriter, r *http.Request, file *acting.File) {
	if snap, err := s.source.Snapshot(r.Context()); err == nil {
		file.Fleet = snap.Summary.Fleet != nil
		file.Notes = append(append(file.Notes, unreadNotes(snap, file)...), missedNotes(snap, file.Made)...)
	}
	if file.Admin && (file.Fleet || len(s.inForce().peers) > 0) {
		file.Scope = scopeText
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(file) // cannot fail for what is in it
	if file.ETag != "" {
		w.Header().Set("ETag", file.ETag)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes())
	}
}

// serveChange answers POST /v1/force: the only request that changes anything.
func (s *Server) serveChange(w http.ResponseWriter, r *http.Request) {
	in := s.inForce()
	code, err := s.mayAct(r, in)
	if err == nil {
		var file *acting.File
		if file, code, err = s.change(w, r, in); err == nil {
			metrics.Force.Requests.WithLabelValues("changed").Inc()
			s.writeForce(w, r, file)
			return
		}
	}
	metrics.Force.Requests.WithLabelValues(resultWord(code)).Inc()
	switch code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="multivalue"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, code, err.Error())
}

// resultWord is the label of a request that failed: a few words for all of them.
func resultWord(code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return "denied"
	case http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return "stale"
	case http.StatusConflict:
		return "refused"
	case http.StatusInternalServerError:
		return "failed"
	}
	return "invalid"
}

// mayAct says why a request may not change anything, whatever it asks for. First comes what a browser is told by another site, so
// that such a site cannot use up the failures that are allowed.
func (s *Server) mayAct(r *http.Request, in settings) (code int, err error) {
	switch {
	case foreignOrigin(r):
		return http.StatusForbidden, errors.New("a page of another site may not change anything: use the form on this page, mvctl or curl; a proxy has to send the Host that the browser asked for")
	case in.forcer == nil:
		return http.StatusForbidden, errors.New("nothing can be changed here: add admin FILE to the block of status in the Corefile, or edit the file of force")
	case !s.isLocal(r):
		return http.StatusForbidden, errors.New("changes are made from this machine alone: use localhost, or the socket")
	case in.token == "" && fromBrowser(r.Header):
		return http.StatusForbidden, errors.New("a browser cannot make changes without a token: add token FILE to the block of status, or use mvctl or curl on the socket")
	case in.token != "":
		return s.tokens.verify(r, in.token)
	}
	return 0, nil
}

// foreignOrigin reports whether a browser sends the request for another site, or does not say for which one. Without DNS, a site has
// the host that the request names, which checkRequest has compared with ours.
func foreignOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return true
	}
	origins := r.Header.Values("Origin")
	for _, origin := range origins {
		_, host, ok := strings.Cut(origin, "://")
		if !ok || host == "" || !strings.EqualFold(host, r.Host) {
			return true
		}
	}
	return len(origins) > 1
}

// fromBrowser reports whether a page in a browser makes the request.
func fromBrowser(h http.Header) bool {
	return len(h.Values("Origin")) > 0 || len(h.Values("Sec-Fetch-Site")) > 0 || len(h.Values("Referer")) > 0
}

// isLocal reports whether a request came over a socket in the file system, or over loopback.
func (s *Server) isLocal(r *http.Request) bool {
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return local.IP.IsLoopback()
	}
	return false
}

// change reads a change from a request, and makes it.
func (s *Server) change(w http.ResponseWriter, r *http.Request, in settings) (*acting.File, int, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, http.StatusUnsupportedMediaType, errors.New("use Content-Type: application/json")
	}
	// A proxy that compresses makes the tag weak. It is a hash of the file, so it means the same.
	tag := strings.TrimPrefix(strings.TrimSpace(r.Header.Get("If-Match")), "W/")
	if tag == "" || tag == "*" {
		return nil, http.StatusPreconditionRequired, errors.New("say which content of the file is meant: send the ETag of GET " + forcePath + " as If-Match")
	}
	c, code, err := readChange(w, r)
	if err != nil {
		return nil, code, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), forceTimeout)
	defer cancel()
	file, err := in.forcer.Change(ctx, tag, c)
	code = refusalStatus(err)
	switch {
	case err == nil:
		said.Infof("status: %s: %s", actorOf(r, in), madeText(file))
	case code != http.StatusBadRequest:
		said.Warningf("status: %s: %s was not done: %v", actorOf(r, in), askedText(c), err)
	}
	return file, code, err
}

// readChange reads the body of a request.
func readChange(w http.ResponseWriter, r *http.Request) (c acting.Change, code int, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err = d.Decode(&c); err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("more than one value")
		} else if err == io.EOF {
			err = nil
		}
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return c, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is too large: use at most %d bytes, with networks in place of addresses", maxBody)
	}
	if err != nil {
		return c, http.StatusBadRequest, fmt.Errorf(`invalid body: %w: use {"state": "drain", "networks": ["192.0.2.1"], "until": "+2h", "reason": "disk"}`, err)
	}
	return c, 0, nil
}

// refusalStatus is the status of an error of a Forcer, 0 for none.
func refusalStatus(err error) int {
	refusal, ok := errors.AsType[*acting.Refusal](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return http.StatusInternalServerError
	}
	return map[acting.Kind]int{
		acting.Invalid:      http.StatusBadRequest,
		acting.Stale:        http.StatusPreconditionFailed,
		acting.Unchangeable: http.StatusConflict,
	}[refusal.Kind]
}
