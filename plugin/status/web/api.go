package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// defaultLimit is how many entries a page of a list has, and maxLimit how many a client can ask for. A page of maxLimit
	// targets is a few megabytes of JSON.
	defaultLimit = 100
	maxLimit     = 1000
	// maxNames is how many names of a target are listed. One address may have thousands.
	maxNames = 16
)

// discardLog drops the log lines of net/http about clients. Any client can cause them, and must not be able to fill the log.
var discardLog = log.New(io.Discard, "", 0)

// stamp formats a time for JSON and for the datetime attribute of HTML.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// writeBody writes a response. A response with status 200 has an ETag, and a client that sends the same one back gets 304
// without a body (RFC 9110, section 13.1.2). So to poll an unchanged list costs almost no traffic.
func writeBody(w http.ResponseWriter, r *http.Request, status int, media string, body []byte) {
	if status == http.StatusOK {
		sum := sha256.Sum256(body) // of the content, so that replicas and restarts make the same tag
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		w.Header().Set("ETag", tag)
		if matchesETag(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", media)
	// With the length set a response to HEAD has the headers of GET (RFC 9110, section 9.3.2).
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// matchesETag reports whether the values of If-None-Match contain a tag, or the star, which stands for any. The comparison is
// the weak one (RFC 9110, section 8.8.3.2): a proxy that compresses a body makes its tag weak.
func matchesETag(lists []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(lists, ","), ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// writeJSON writes a response with status 200. The JSON is indented, since people read it with curl.
func writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeBody(w, r, http.StatusOK, "application/json", body.Bytes())
}

// writeError writes an error as JSON. The text says what is wrong, then what to do.
func writeError(w http.ResponseWriter, status int, what string) {
	body, _ := json.Marshal(map[string]string{"error": what}) // cannot fail for strings
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// loadSnapshot returns the snapshot for a JSON request. If the source fails it writes 503 and returns nil.
func (s *Server) loadSnapshot(w http.ResponseWriter, r *http.Request) *status.Snapshot {
	snap, err := s.source.Snapshot(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1") // in seconds: the pool is busy, or starting
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return nil
	}
	return snap
}

// serveSummary answers /v1/summary. It has no parameters, and is the cheapest way to see whether anything is down.
func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	if snap := s.loadSnapshot(w, r); snap != nil {
		sum := snap.Summary // a copy: the snapshot is shared
		sum.Stanzas, sum.Peers = nonNil(sum.Stanzas), s.inForce().peers
		writeJSON(w, r, sum)
	}
}

// serveChecks answers /v1/checks. There are as many checks as lines in the Corefile, so this list has no pages.
func (s *Server) serveChecks(w http.ResponseWriter, r *http.Request) {
	if snap := s.loadSnapshot(w, r); snap != nil {
		writeJSON(w, r, map[string]any{"checks": nonNil(snap.Checks)})
	}
}

// serveTargets answers /v1/targets: one page of the targets that match the filter, in the order of the snapshot. Parameters, all
// optional: those of the filter, limit, and after with the cursor of the page before.
func (s *Server) serveTargets(w http.ResponseWriter, r *http.Request) {
	snap, f := s.filteredSnapshot(w, r)
	if snap == nil {
		return
	}
	// The key is unique except for checks that differ in a secret alone; for those the position in the cursor decides.
	key := func(t *status.Target) string { return t.Address.String() + " " + t.Check + " " + t.Pace }
	list, err := paginate(r, snap.FilterTargets(f), key)
	text, wrong := wantsMarkdown(r)
	if err = cmp.Or(err, wrong); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	if text {
		writeMarkdown(w, r, targetsMarkdown(snap, list))
		return
	}
	writeJSON(w, r, map[string]any{"targets": limitNames(list.items), "total": list.total, "next": list.next})
}

// limitNames returns copies of the targets with at most maxNames names each, and how many names are left out. The filter has
// been applied before, with all names.
func limitNames(targets []*status.Target) []status.Target {
	all := make([]status.Target, len(targets))
	for i, t := range targets {
		all[i] = *t
		all[i].Names, all[i].MoreNames = nonNil(t.Names[:min(len(t.Names), maxNames)]), max(0, len(t.Names)-maxNames)
	}
	return all
}

// serveNames answers /v1/names: one page of the names that match the filter.
func (s *Server) serveNames(w http.ResponseWriter, r *http.Request) {
	snap, f := s.filteredSnapshot(w, r)
	if snap == nil {
		return
	}
	list, err := paginate(r, snap.FilterNames(f), func(n *status.Name) string { return n.Name })
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, r, map[string]any{"names": nonNil(list.items), "total": list.total, "next": list.next})
}

// nonNil makes a nil list an empty one, which JSON writes as [] and not as null. The OpenAPI file promises lists.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// filterStates are the values of the parameter state: measured states, whether it is forced or drained, and idle.
var filterStates = []string{"up", "down", "unknown", "forced", "drain", "idle"}

// parseFilter reads the parameters q, name, address, state and check.
func parseFilter(r *http.Request) (status.Filter, error) {
	q := r.URL.Query() // unknown parameters are ignored, so that links to newer versions work
	f := status.Filter{Query: strings.TrimSpace(q.Get("q")), Name: q.Get("name"), Address: q.Get("address"), State: strings.ToLower(q.Get("state")), Check: q.Get("check")}
	if f.State != "" && !slices.Contains(filterStates, f.State) {
		return f, fmt.Errorf("invalid state %q: use one of %s", q.Get("state"), strings.Join(filterStates, ", "))
	}
	// Without a slash the address is a part of one, such as 192.0.2 or :80.
	if _, err := netip.ParsePrefix(f.Address); err != nil && strings.Contains(f.Address, "/") {
		return f, fmt.Errorf("invalid network %q: use one such as 192.0.2.0/24, or a part of an address", f.Address)
	}
	return f, nil
}

// filteredSnapshot returns the snapshot and the filter for a JSON request. If either fails it writes the error and returns nil.
func (s *Server) filteredSnapshot(w http.ResponseWriter, r *http.Request) (*status.Snapshot, status.Filter) {
	f, err := parseFilter(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return nil, f
	}
	return s.loadSnapshot(w, r), f
}

// listPage is one page of a list.
type listPage[T any] struct {
	items []T
	total int    // entries in the whole list
	next  string // the cursor of the next page; empty on the last one
}

// parseLimit reads how many entries a page has.
func parseLimit(v url.Values) (int, error) {
	text := v.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	// A limit out of range is an error: a client that asks for 5000 and gets 1000 might take them for all.
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, fmt.Errorf("invalid limit %q: use a number from 1 to %d", text, maxLimit)
	}
	return limit, nil
}

// paginate returns the page that a request asks for: up to limit entries after the cursor in after. No state is kept between
// requests, so the list may change from one page to the next. While the last entry of a page stays in the list, the next page
// begins right after it: no entry that stays is listed twice, or left out.
func paginate[T any](r *http.Request, all []T, key func(T) string) (p listPage[T], err error) {
	v := r.URL.Query()
	limit, err := parseLimit(v)
	if err != nil {
		return p, err
	}
	start := 0
	if text := v.Get("after"); text != "" {
		if start, err = pageStart(all, key, text); err != nil {
			return p, err
		}
	}
	end := min(len(all), start+limit) // start may be len(all): then the page is empty
	p = listPage[T]{items: all[start:end], total: len(all)}
	if end < len(all) {
		p.next = fmt.Sprintf("%d.%s", end, base64.RawURLEncoding.EncodeToString([]byte(key(all[end-1]))))
	}
	return p, nil
}

// pageStart returns the index at which a page begins. A cursor has the index of the page's first entry and the key of the last
// entry before it. If that entry has moved, it is searched; if it is gone, the index decides, less one for the entry.
func pageStart[T any](all []T, key func(T) string, cursor string) (int, error) {
	// The format is INDEX.KEY, with the key in base64: it may contain anything. Clients treat it as opaque.
	place, encoded, _ := strings.Cut(cursor, ".")
	at, err := strconv.Atoi(place)
	last, err2 := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || err2 != nil || at < 1 {
		return 0, fmt.Errorf("invalid after %q: use the value of next of the page before", cursor)
	}
	if at <= len(all) && key(all[at-1]) == string(last) {
		return at, nil // the usual case: nothing before it has changed
	}
	if i := slices.IndexFunc(all, func(x T) bool { return key(x) == string(last) }); i >= 0 {
		return i + 1, nil
	}
	return min(at-1, len(all)), nil // the entry is gone, so those after it have moved up by one
}
