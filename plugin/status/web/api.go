package web

import (
	"bytes"
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

	"github.com/miekg/dns"
)

const (
	// defaultLimit and maxLimit are how many entries an answer has, unless it is told, and at the most.
	defaultLimit = 100
	maxLimit     = 1000
	// maxNames is how many names of a target an answer lists.
	maxNames = 16
)

// discardLog drops what net/http has to say about clients: nobody may fill the log by talking nonsense to us.
var discardLog = log.New(io.Discard, "", 0)

// stamp is an instant as it is shown.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// writeBody sends a body. One that is no refusal has a tag, and is not sent to a client that has it already.
func writeBody(w http.ResponseWriter, r *http.Request, status int, media string, body []byte) {
	if status == http.StatusOK {
		sum := sha256.Sum256(body)
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		w.Header().Set("ETag", tag)
		if matchesETag(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// matchesETag reports whether a list of tags has one. A proxy that packs the body may have made it a weak one, which is as good here
// (RFC 9110, section 13.1.2); a star stands for any.
func matchesETag(lists []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(lists, ","), ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

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

// writeError says what is wrong, as JSON.
func writeError(w http.ResponseWriter, status int, what string) {
	body, _ := json.Marshal(map[string]string{"error": what})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// loadSnapshot gets one, or answers that there is none.
func (s *Server) loadSnapshot(w http.ResponseWriter, r *http.Request) *status.Snapshot {
	snap, err := s.source.Snapshot(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return nil
	}
	return snap
}

func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	if snap := s.loadSnapshot(w, r); snap != nil {
		sum := snap.Summary
		sum.Stanzas = nonNil(sum.Stanzas)
		writeJSON(w, r, sum)
	}
}

func (s *Server) serveChecks(w http.ResponseWriter, r *http.Request) {
	if snap := s.loadSnapshot(w, r); snap != nil {
		writeJSON(w, r, map[string]any{"checks": nonNil(snap.Checks)})
	}
}

func (s *Server) serveTargets(w http.ResponseWriter, r *http.Request) {
	snap, f := s.filteredSnapshot(w, r)
	if snap == nil {
		return
	}
	key := func(t *status.Target) string { return t.Address.String() + " " + t.Check + " " + t.Pace }
	list, err := paginate(r, snap.FilterTargets(f), key)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, r, map[string]any{"targets": limitNames(list.items), "total": list.total, "next": list.next})
}

// limitNames are targets with some of their names each, and how many more there are.
func limitNames(targets []*status.Target) []status.Target {
	all := make([]status.Target, len(targets))
	for i, t := range targets {
		all[i] = *t
		all[i].Names, all[i].MoreNames = nonNil(t.Names[:min(len(t.Names), maxNames)]), max(0, len(t.Names)-maxNames)
	}
	return all
}

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

func (s *Server) serveExplain(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuestion(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	all, err := s.source.Explain(r.Context(), q)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	writeJSON(w, r, map[string]any{"explanations": nonNil(all)})
}

// nonNil is a list that JSON shows as one though it is empty.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// filterStates are what one can filter by: measured, or forced.
var filterStates = []string{"up", "down", "unknown", "drain"}

// parseFilter reads what to pick.
func parseFilter(r *http.Request) (status.Filter, error) {
	q := r.URL.Query()
	f := status.Filter{Name: q.Get("name"), Address: q.Get("address"), State: strings.ToLower(q.Get("state")), Check: q.Get("check")}
	if f.State != "" && !slices.Contains(filterStates, f.State) {
		return f, fmt.Errorf("state %q: want one of %s", q.Get("state"), strings.Join(filterStates, ", "))
	}
	if _, err := netip.ParsePrefix(f.Address); err != nil && strings.Contains(f.Address, "/") {
		return f, fmt.Errorf("address %q is no network: want one such as 192.0.2.0/24, or a part of an address", f.Address)
	}
	return f, nil
}

// filteredSnapshot gets a snapshot, and reads what to pick of it. It is nil if either fails, and the client is told then.
func (s *Server) filteredSnapshot(w http.ResponseWriter, r *http.Request) (*status.Snapshot, status.Filter) {
	f, err := parseFilter(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return nil, f
	}
	return s.loadSnapshot(w, r), f
}

// parseQuestion reads what to explain.
func parseQuestion(r *http.Request) (status.Question, error) {
	v := r.URL.Query()
	q := status.Question{Name: strings.ToLower(dns.Fqdn(v.Get("name"))), Type: strings.ToUpper(v.Get("type")), DNSSEC: v.Get("do") == "1"}
	if _, ok := dns.IsDomainName(q.Name); !ok || v.Get("name") == "" {
		return q, fmt.Errorf("name %q is no domain name: want one such as www.example.org", v.Get("name"))
	}
	if q.Type == "" {
		q.Type = "A"
	}
	if _, ok := dns.StringToType[q.Type]; !ok {
		return q, fmt.Errorf("type %q is no type of records: want one such as A or AAAA", v.Get("type"))
	}
	if do := v.Get("do"); do != "" && do != "0" && do != "1" {
		return q, fmt.Errorf("do %q: want 1 to ask with the DO bit, or 0", do)
	}
	if text := v.Get("client"); text != "" {
		addr, err := netip.ParseAddr(text)
		if q.Client, _ = addr.Prefix(addr.BitLen()); err != nil {
			if q.Client, err = netip.ParsePrefix(text); err != nil {
				return q, fmt.Errorf("client %q is neither an address nor a network", text)
			}
		}
	}
	return q, nil
}

// listPage is a page of a list.
type listPage[T any] struct {
	items []T
	total int
	next  string // the cursor to go on from; empty at the end
}

// parseLimit is how many items a page has.
func parseLimit(v url.Values) (int, error) {
	text := v.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, fmt.Errorf("limit %q: want a count from 1 to %d", text, maxLimit)
	}
	return limit, nil
}

// paginate takes the page that a request asks for: up to limit items behind the one that after names. The order is that of the
// list, and an item that is gone by the next request leaves its place to the one behind it.
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
	end := min(len(all), start+limit)
	p = listPage[T]{items: all[start:end], total: len(all)}
	if end < len(all) {
		p.next = fmt.Sprintf("%d.%s", end, base64.RawURLEncoding.EncodeToString([]byte(key(all[end-1]))))
	}
	return p, nil
}

// pageStart is where a page begins. A cursor is the key of the last item of the page before, and where it stood.
func pageStart[T any](all []T, key func(T) string, cursor string) (int, error) {
	place, encoded, _ := strings.Cut(cursor, ".")
	at, err := strconv.Atoi(place)
	last, err2 := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || err2 != nil || at < 1 {
		return 0, fmt.Errorf("after %q: want what stood in next", cursor)
	}
	if at <= len(all) && key(all[at-1]) == string(last) {
		return at, nil // nothing has come or gone before it
	}
	if i := slices.IndexFunc(all, func(x T) bool { return key(x) == string(last) }); i >= 0 {
		return i + 1, nil
	}
	return min(at-1, len(all)), nil
}
