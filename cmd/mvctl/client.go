package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	defaultServer = "http://localhost:9253"
	// requestTimeout bounds a request. An explanation asks the plugins below, which may be slow.
	requestTimeout = 15 * time.Second
	// maxBody bounds a response, in bytes: a page of 1000 targets has a few megabytes.
	maxBody = 64 << 20
	// maxPages bounds a list, so that a server which never ends it does not keep us.
	maxPages = 10_000
)

// client talks to one server.
type client struct {
	http   http.Client
	base   string // the start of each URL
	shown  string // the server as it was named
	secret bool   // no one on the way can read a request
	token  string // empty for none
}

// newClient makes a client for the server that the options name. It does not connect yet. A URL may have a path, for a proxy that serves
// the status below one.
func (a *app) newClient() (*client, error) {
	// A redirect would lead to another server than the one that was named, with the token.
	c := &client{shown: a.server, http: http.Client{Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	// The form is that of the property status, so that it can be copied from the Corefile.
	if path, ok := strings.CutPrefix(a.server, "unix:"); ok {
		if path == "" {
			return nil, failf(exitUsage, "invalid server %q: use unix:PATH, such as unix:/run/coredns/status.sock", a.server)
		}
		c.base, c.secret = "http://localhost", true
		c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
		return c, nil
	}
	u, err := url.Parse(a.server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, failf(exitUsage, "invalid server: use a URL such as %s, or unix:PATH", defaultServer) // it may hold a password
	}
	// Only what stays on this host, or is encrypted, may have a token.
	addr, err := netip.ParseAddr(u.Hostname())
	c.base, c.secret = strings.TrimSuffix(u.String(), "/"), u.Scheme == "https" || u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	// The transport of the package would use a proxy of the environment, also for a token.
	c.http.Transport = &http.Transport{Proxy: nil}
	return c, nil
}

// readToken reads the token, which only changes need. It goes over nothing that others can read.
func (a *app) readToken(c *client) error {
	if a.tokenFile == "" {
		return nil
	}
	text, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return failf(exitUsage, "token file: %w", err)
	}
	if c.token = strings.TrimSpace(string(text)); c.token == "" || strings.ContainsAny(c.token, "\r\n") {
		return failf(exitUsage, "token file %s: write the token on one line, and nothing else", a.tokenFile)
	}
	if !c.secret {
		return failf(exitUsage, "the token would go to %s in clear text: use https, the unix socket, or localhost", c.shown)
	}
	return nil
}

// reply is a response that was good.
type reply struct {
	body []byte
	etag string
	date time.Time // the server's clock
}

// get asks for a path with some parameters; empty ones are left out.
func (c *client) get(ctx context.Context, path string, query url.Values) (reply, error) {
	// The server takes an empty parameter for a wrong one in some places.
	for key, values := range query {
		if values[0] == "" {
			delete(query, key)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.exchange(ctx, http.MethodGet, path, nil, nil)
}

// exchange sends a request. Its error has the status to exit with, and what the server says is wrong.
func (c *client) exchange(ctx context.Context, method, path string, header http.Header, body []byte) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, failf(exitUsage, "invalid server: %w", err)
	}
	// Names are canonical already, as those of constants here.
	for key, values := range header {
		request.Header[key] = values
	}
	got, err := c.http.Do(request)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which the message has already
		}
		return reply{}, failf(exitServer, "cannot reach %s: %w: look whether CoreDNS runs with status in its Corefile, or name another --server", c.shown, err)
	}
	// One byte more tells a response that is too long from one that just fits.
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, maxBody+1))
	switch {
	case err != nil:
		return reply{}, failf(exitServer, "reading from %s: %w", c.shown, err)
	case len(text) > maxBody:
		return reply{}, failf(exitServer, "%s sends more than %d MiB: ask for less with a filter", c.shown, maxBody>>20)
	case got.StatusCode != http.StatusOK:
		return reply{}, refusal(got.StatusCode, path, text)
	case !json.Valid(text):
		return reply{}, failf(exitServer, "%s does not answer with JSON: it is not the status of multivalue", c.shown)
	}
	// Ages are told by the clock of the server, since ours may differ.
	date, _ := http.ParseTime(got.Header.Get("Date"))
	return reply{text, got.Header.Get("ETag"), date}, nil
}

// statusError is what a server says against a request.
type statusError struct {
	status int    // of HTTP
	text   string // what is wrong, and the fix
}

// Error is the text of the server.
func (e *statusError) Error() string { return e.text }

// refusal is the error of a response that is not good. The words of the server are shown as they are: they say what is wrong, then the
// fix, and name the limits that this program does not know.
func refusal(status int, path string, body []byte) error {
	var said struct{ Error string }
	// What comes from elsewhere, such as a proxy, is no JSON.
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = fmt.Sprintf("the server answers %d %s", status, http.StatusText(status))
	}
	// What the server refuses may be right, and not allowed: scripts tell that from a mistake.
	code := exitUsage
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired, http.StatusMisdirectedRequest, http.StatusTooManyRequests:
		code = exitRefused
	case http.StatusNotFound: // our paths are right, so it does not know them yet
		code = exitServer
		path, _, _ = strings.Cut(path, "?")
		said.Error = fmt.Sprintf("the server has no %s: its version of multivalue may be older", path)
	default:
		if status < 400 || status >= 500 {
			code = exitServer
		}
	}
	return &exitError{code, &statusError{status, said.Error}}
}

// page is a page of any list, with its entries as the server wrote them.
type page struct {
	Total int    // entries in the whole list
	Next  string // the cursor of the next page; empty on the last one
}

// fetchAll gets all pages of a list. key is the name of the list in the JSON.
func (c *client) fetchAll(ctx context.Context, path, key string, query url.Values) (all []json.RawMessage, last reply, err error) {
	// That is the most the server gives, so a list of 10,000 targets takes ten requests.
	query.Set("limit", "1000")
	for range maxPages {
		if last, err = c.get(ctx, path, query); err != nil {
			return nil, last, err
		}
		var p page
		// The entries stay as they are, so that fields of newer servers are passed through.
		fields := make(map[string]json.RawMessage)
		var some []json.RawMessage
		err := errors.Join(json.Unmarshal(last.body, &p), json.Unmarshal(last.body, &fields))
		if err == nil {
			err = json.Unmarshal(fields[key], &some)
		}
		if err != nil {
			return nil, last, failf(exitServer, "%s: unexpected JSON: %w", path, err)
		}
		all = append(all, some...)
		if p.Next == "" {
			return all, last, nil
		}
		query.Set("after", p.Next)
	}
	return nil, last, failf(exitServer, "%s: the list does not end after %d pages", path, maxPages)
}

// decode reads JSON of the server into a value.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return failf(exitServer, "unexpected JSON: %w", err)
	}
	return nil
}
