package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/miekg/dns"
)

// explainView is the data of explain.html.
type explainView struct {
	*status.Snapshot
	Question     status.Question      // the zero value if none was asked
	Client       string               // as it was typed, so that a mistake can be corrected in the form
	Types        []string             // offered by the form; the JSON takes any type
	Error        string               // what is wrong with the question, or why there is no explanation
	Asked        bool                 // a name is given
	Live         bool                 // the script keeps the page up to date
	Explanations []status.Explanation // one a server block
	Copy         copyLinks            // to hand it on
}

// Link returns the page for another name and type, for the same client.
func (v explainView) Link(name, rrtype string) string {
	q := url.Values{"name": {name}, "type": {rrtype}}
	if v.Client != "" {
		q.Set("client", v.Client)
	}
	if v.Question.DNSSEC {
		q.Set("do", "1")
	}
	return (&url.URL{Path: "/explain", RawQuery: q.Encode()}).String()
}

// serveExplainPage shows the explanation of one answer, or an empty form if no name is given. The parameters are those that
// parseQuestion reads. An invalid one gets status 400 and the form with what was typed.
func (s *Server) serveExplainPage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") != "" { // so that a link to a page is one to its text, too
		s.serveExplain(w, r)
		return
	}
	snap := s.loadPageSnapshot(w, r)
	if snap == nil {
		return
	}
	status := http.StatusOK
	v := explainView{Snapshot: snap, Client: r.URL.Query().Get("client"), Types: []string{"A", "AAAA", "HTTPS", "SVCB", "SRV", "MX"}}
	v.Asked = r.URL.Query().Get("name") != ""
	if v.Asked {
		var err error
		if v.Question, err = parseQuestion(r); err == nil {
			v.Explanations, err = s.explainInTime(r.Context(), v.Question)
		} else {
			status = http.StatusBadRequest
		}
		if err != nil {
			v.Error = err.Error()
		}
	}
	if v.Question.Type != "" && !slices.Contains(v.Types, v.Question.Type) { // the form must not ask for another one
		v.Types = append(v.Types, v.Question.Type)
	}
	v.Copy = linksTo("/v1/explain", "name", v.Question.Name, "type", v.Question.Type, "client", v.Client, "do", r.URL.Query().Get("do"))
	// An invalid question stays invalid, so that page need not be loaded again. A source that failed may work the next time.
	v.Live = v.Asked && status == http.StatusOK
	renderPage(w, r, status, "explain.html", v)
}

// serveExplain answers /v1/explain. Unlike the page it does not give up after explainTimeout, so a program can wait longer for slow
// plugins: until writeTimeout, after which the response can no longer be written.
func (s *Server) serveExplain(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuestion(r)
	text, wrong := wantsMarkdown(r)
	if err = cmp.Or(err, wrong); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	all, err := s.source.Explain(r.Context(), q)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if text {
		s.writeExplained(w, r, q, all)
		return
	}
	writeJSON(w, r, map[string]any{"explanations": nonNil(all)})
}

// writeExplained writes explanations as Markdown.
func (s *Server) writeExplained(w http.ResponseWriter, r *http.Request, q status.Question, all []status.Explanation) {
	snap := s.loadSnapshot(w, r)
	if snap == nil {
		return
	}
	m := new(markdown)
	m.title(fmt.Sprintf("How %s %s is answered", code(q.Name), code(q.Type)), snap)
	if q.Client.IsValid() {
		m.printf("- For the client %s", q.Client)
	}
	if len(all) == 0 {
		m.printf("- No stanza of any server block covers this name, so its answers are not changed")
	}
	for i := range all {
		m.explanation(&all[i])
	}
	writeMarkdown(w, r, m)
}

// parseQuestion reads the parameters of an explanation: name is required; type is A by default; do=1 sets the DO bit; client is
// an address or a network.
func parseQuestion(r *http.Request) (status.Question, error) {
	v := r.URL.Query()
	// A name without a final dot is taken for a full one: there is no search list.
	q := status.Question{Name: strings.ToLower(dns.Fqdn(v.Get("name"))), Type: strings.ToUpper(v.Get("type")), DNSSEC: v.Get("do") == "1"}
	if _, ok := dns.IsDomainName(q.Name); !ok || v.Get("name") == "" {
		return q, fmt.Errorf("invalid domain name %q: use one such as www.example.org", v.Get("name"))
	}
	if q.Type == "" { // A, as with dig
		q.Type = "A"
	}
	if _, ok := dns.StringToType[q.Type]; !ok {
		return q, fmt.Errorf("invalid record type %q: use one such as A or AAAA", v.Get("type"))
	}
	if do := v.Get("do"); do != "" && do != "0" && do != "1" {
		return q, fmt.Errorf("invalid do %q: use 1 for a query with the DO bit, or 0", do)
	}
	if text := v.Get("client"); text != "" {
		// It goes into the question as EDNS Client Subnet (RFC 7871); an address is a network of full length there.
		addr, err := netip.ParseAddr(text)
		if q.Client, _ = addr.Prefix(addr.BitLen()); err != nil {
			if q.Client, err = netip.ParsePrefix(text); err != nil {
				return q, fmt.Errorf("invalid client %q: use an address or a network, such as 192.0.2.0/24", text)
			}
		}
	}
	return q, nil
}

// explainInTime asks the source for an explanation, for at most explainTimeout. A plugin below may ignore its context; then its
// goroutine is left behind, and ends when the plugin returns.
func (s *Server) explainInTime(ctx context.Context, q status.Question) ([]status.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	type result struct {
		all []status.Explanation
		err error
	}
	done := make(chan result, 1) // buffered: a late result finds no receiver
	go func() {
		all, err := s.source.Explain(ctx, q)
		done <- result{all, err}
		// Not before the result is there, and not by the caller, who may have gone. Then both are ready below.
		cancel()
	}()
	select {
	case r := <-done:
		return r.all, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done: // select draws one of those that are ready
		return r.all, r.err
	default:
		return nil, errLate
	}
}

var errLate = errors.New("the plugins that serve the zone did not answer in time")
