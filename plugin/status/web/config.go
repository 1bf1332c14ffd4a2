package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/status/config"
)

// configView is the data of config.html.
type configView struct {
	*status.Snapshot
	Failed  bool // a newer Corefile could not be started
	Manual  string
	Blocks  []configBlock
	Filter  string // part of a name, a value or a place
	Stanzas int    // before the filter
	Page    pager
}

// stanzasPerPage is how many stanzas a page has: each takes some seven kilobytes.
const stanzasPerPage = 20

// configBlock is a server block with its stanzas.
type configBlock struct {
	Keys    string
	Stanzas []config.Stanza
}

// serveConfig answers /v1/config: the configuration in force. There are as many stanzas as in the Corefile, so it has no pages.
func (s *Server) serveConfig(w http.ResponseWriter, r *http.Request) {
	inForce, err := s.source.Config(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	shown := *inForce // a copy, as it may be shared
	shown.Stanzas = nonNil(shown.Stanzas)
	writeJSON(w, r, shown)
}

// serveConfigPage shows the same as a page, by server block. The parameter find picks the stanzas that have a text,
// and page is the number of the page.
func (s *Server) serveConfigPage(w http.ResponseWriter, r *http.Request) {
	snap := s.loadPageSnapshot(w, r)
	if snap == nil {
		return
	}
	inForce, err := s.source.Config(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		showError(w, r, http.StatusServiceUnavailable, err)
		return
	}
	v := configView{Snapshot: snap, Failed: inForce.ReloadFailed, Manual: manualURL, Filter: r.URL.Query().Get("find"), Stanzas: len(inForce.Stanzas)}
	picked := slices.DeleteFunc(slices.Clone(inForce.Stanzas), func(x config.Stanza) bool { return !stanzaHas(&x, v.Filter) })
	v.Page = newPager(r, "page", len(picked), stanzasPerPage)
	for _, stanza := range picked[v.Page.First:v.Page.Last] {
		// Stanzas of a block follow each other, and blocks with the same keys stay apart no less than their text does.
		if n := len(v.Blocks); n == 0 || v.Blocks[n-1].Keys != stanza.Block {
			v.Blocks = append(v.Blocks, configBlock{Keys: stanza.Block})
		}
		last := &v.Blocks[len(v.Blocks)-1]
		last.Stanzas = append(last.Stanzas, stanza)
	}
	renderPage(w, r, http.StatusOK, "config.html", v)
}

// stanzaHas reports whether a text, in any case, is in what is shown of a stanza.
func stanzaHas(s *config.Stanza, text string) bool {
	has := func(in string) bool { return strings.Contains(strings.ToLower(in), strings.ToLower(text)) }
	return has(s.At) || has(s.Block) || has(s.Zones) || has(s.Text) ||
		slices.ContainsFunc(s.Properties, func(p config.Property) bool { return has(p.Name+" "+p.Value) || has(p.At) })
}

// manualURL is the manual. The page links to it, and loads nothing from it.
const manualURL = "https://github.com/coredns-multivalue/multivalue/blob/main/docs/manual.md"

// manualPlaces are the headings under which the manual explains a property at length. The others are listed under its syntax.
var manualPlaces = map[string]string{
	"check": "checks", "interval": "pace", "timeout": "pace", "rise": "pace", "fall": "pace", "types": "records", "all_down": "another-name",
	"force": "forced-states", "select": "nearest-first", "topology": "nearest-first", "state": "restarts", "fleet": "fleet", "annotations": "annotations",
}

// manualLink is where the manual explains a property.
func manualLink(property string) string {
	word, _, _ := strings.Cut(property, " ") // "fleet key" is explained with fleet
	place := manualPlaces[word]
	if place == "" {
		place = "syntax"
	}
	return (&url.URL{Scheme: "https", Host: "github.com", Path: strings.TrimPrefix(manualURL, "https://github.com"), Fragment: place}).String()
}

// ID is the anchor of a stanza, by which a link finds it.
func (b configBlock) ID(s config.Stanza) string { return rowID(s.At, s.Block) }
