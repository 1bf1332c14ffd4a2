package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// openAPI is the description that the status server has of itself.
type openAPI map[string]any

// at follows a path of keys.
func (o openAPI) at(path ...string) any {
	var x any = map[string]any(o)
	for _, key := range path {
		m, _ := x.(map[string]any)
		x = m[key]
	}
	return x
}

// wrong lists where a value does not match a schema. It knows the keywords that the description uses.
func (o openAPI) wrong(where string, schema, value any) (all []string) {
	s, ok := schema.(map[string]any)
	if !ok {
		return []string{where + ": there is no schema"}
	}
	for word, arg := range s {
		switch word {
		case "$ref":
			all = append(all, o.wrong(where, o.at(strings.Split(strings.TrimPrefix(arg.(string), "#/"), "/")...), value)...)
		case "type":
			if !hasType(value, arg.(string)) {
				all = append(all, fmt.Sprintf("%s: %v is no %s", where, value, arg))
			}
		case "enum":
			if !slices.Contains(arg.([]any), value) {
				all = append(all, fmt.Sprintf("%s: %v is none of %v", where, value, arg))
			}
		case "format":
			if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(value)); err != nil {
				all = append(all, fmt.Sprintf("%s: %v", where, err))
			}
		case "items":
			list, _ := value.([]any)
			for i, item := range list {
				all = append(all, o.wrong(fmt.Sprintf("%s[%d]", where, i), arg, item)...)
			}
		case "maxItems":
			if list, _ := value.([]any); len(list) > int(arg.(float64)) {
				all = append(all, fmt.Sprintf("%s has %d items", where, len(list)))
			}
		case "properties":
			all = append(all, o.wrongProperties(where, s, value)...)
		case "required", "additionalProperties", "description":
		default:
			all = append(all, fmt.Sprintf("%s: this test does not know the word %s", where, word))
		}
	}
	return all
}

func (o openAPI) wrongProperties(where string, schema map[string]any, value any) (all []string) {
	object, _ := value.(map[string]any)
	known := schema["properties"].(map[string]any)
	for key, v := range object {
		if known[key] == nil {
			all = append(all, where+" has "+key+", which is not described")
			continue
		}
		all = append(all, o.wrong(where+"."+key, known[key], v)...)
	}
	required, _ := schema["required"].([]any)
	for _, key := range required {
		if _, ok := object[key.(string)]; !ok {
			all = append(all, where+" lacks "+key.(string))
		}
	}
	return all
}

func hasType(value any, want string) bool {
	switch v := value.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

// described returns the description of a response, by the status code and the path without its query.
func (o openAPI) described(path string, status int) openAPI {
	path, _, _ = strings.Cut(path, "?")
	return o.refers(o.at("paths", path, "get", "responses", fmt.Sprint(status)))
}

// refers returns what the description contains, or what it refers to.
func (o openAPI) refers(x any) openAPI {
	m, _ := x.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		return o.refers(o.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	}
	return m
}

// disagrees lists where a response does not match the description.
func (o openAPI) disagrees(path string, r *http.Response) []string {
	what := fmt.Sprint(path, " ", r.StatusCode)
	described := o.described(path, r.StatusCode)
	if described == nil {
		return []string{what + " is not described"}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return []string{err.Error()}
	}
	content, _ := described["content"].(map[string]any)
	if content == nil && len(body) == 0 {
		return nil
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var value any = string(body)
	if media == "application/json" {
		if err := json.Unmarshal(body, &value); err != nil {
			return []string{what + ": " + err.Error()}
		}
	}
	if content[media] == nil {
		return []string{what + " has the media type " + media + ", which is not described"}
	}
	return o.wrong(what, openAPI(content).at(media, "schema"), value)
}

// fetch requests a path, with changes to the request.
func (s *scene) fetch(base, path string, edit func(*http.Request)) *http.Response {
	s.Helper()
	r, err := http.NewRequest(http.MethodGet, base+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { reply.Body.Close() })
	return reply
}

// described starts a server whose status shows at least one of everything.
func (s *scene) described() (*server, string, openAPI) {
	v, base := s.explains("drain 127.0.0.12")
	for name := range strings.FieldsSeq("whole thin open drain forced backup nodata servfail signed dry") {
		v.ask(name + ".example.org A")
	}
	v.settled(2, 4)
	var api openAPI
	s.json(base+"/openapi.json", &api)
	return v, base, api
}

// The responses match the OpenAPI file, which is served too, and each path in the file exists (B75).
func TestOpenAPI(t *testing.T) {
	s := newScene(t, 11, 12)
	_, base, api := s.described()
	answered := map[string]bool{"/events": true} // see TestOpenAPIOfTheStream
	for _, path := range []string{
		"/v1/summary", "/v1/targets", "/v1/targets?limit=1", "/v1/targets?limit=x", "/v1/targets?state=unknown", "/v1/names", "/v1/names?name=thin", "/v1/names?after=x", "/v1/checks",
		"/v1/explain?name=thin.example.org", "/v1/explain?name=drain.example.org", "/v1/explain?name=servfail.example.org", "/v1/explain?name=signed.example.org&do=1",
		"/v1/explain?name=_s._tcp.example.org&type=SRV", "/v1/explain?name=exempt.example.org", "/v1/explain?name=new.example.org", "/v1/explain?name=x.invalid", "/v1/explain",
		"/v1/changes", "/v1/changes?after=1", "/v1/changes?after=x", "/v1/members", "/v1/members?site=a", "/v1/members?state=x", "/v1/config", "/v1/force",
		"/v1/incident", "/v1/incident?name=thin", "/v1/incident?format=markdown", "/v1/incident?format=x", "/v1/targets?format=markdown", "/v1/explain?name=thin.example.org&format=markdown",
	} {
		for _, complaint := range api.disagrees(path, s.fetch(base, path, nil)) {
			t.Error(complaint)
		}
		bare, _, _ := strings.Cut(path, "?")
		answered[bare] = true
	}
	for path := range api.at("paths").(map[string]any) {
		if !answered[path] {
			t.Errorf("%s is described, but not tested", path)
		}
	}
	var page struct{ Changes []any }
	if s.json(base+"/v1/changes", &page); len(page.Changes) == 0 {
		t.Error("no change to compare with the description")
	}
	if complaints := api.wrong("a change", api.at("components", "schemas", "Change"), map[string]any{"number": "1", "to": "away"}); len(complaints) != 7 {
		t.Errorf("the test accepts a wrong value: %q", complaints)
	}
}

// Each path refuses a request as the description says, and replies 304 to a request with the current tag (B75).
func TestOpenAPIRefusals(t *testing.T) {
	s := newScene(t, 11, 12)
	_, base, api := s.described()
	refusals := map[int]func(*http.Request){
		http.StatusForbidden:          func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		http.StatusMethodNotAllowed:   func(r *http.Request) { r.Method = http.MethodPost },
		http.StatusRequestURITooLong:  func(r *http.Request) { r.URL.RawQuery = "name=" + strings.Repeat("x", 2048) },
		http.StatusMisdirectedRequest: func(r *http.Request) { r.Host = "evil.example" },
	}
	for path := range api.at("paths").(map[string]any) {
		for status, edit := range refusals {
			if path == "/v1/force" && status == http.StatusMethodNotAllowed {
				edit = func(r *http.Request) { r.Method = http.MethodPut } // POST is its own, see TestActingOverLoopback
			}
			reply := s.fetch(base, path, edit)
			if reply.StatusCode != status || reply.Header.Get("ETag") != "" {
				t.Errorf("%s: %d with tag %q, want %d", path, reply.StatusCode, reply.Header.Get("ETag"), status)
			}
			for _, complaint := range api.disagrees(path, reply) {
				t.Error(complaint)
			}
		}
		large := s.tooLarge(base, path)
		if large.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s with a head without an end: %d", path, large.StatusCode)
		}
		for _, complaint := range api.disagrees(path, large) {
			t.Error(complaint)
		}
		if path == "/events" || path == "/v1/summary" || path == "/v1/targets" {
			continue // no tag, or one that changes with every probe
		}
		full := path
		if path == "/v1/explain" {
			full = path + "?name=thin.example.org"
		}
		s.eventually(func() bool {
			tag := s.fetch(base, full, nil).Header.Get("ETag")
			again := s.fetch(base, full, func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
			return tag != "" && again.StatusCode == http.StatusNotModified && len(api.disagrees(path, again)) == 0
		}, func() string { return full + " never matches its previous tag" })
	}
}

// tooLarge sends as much of a request head as the server accepts, and never ends it. It sends no more, because unread
// data may make the system drop the response.
func (s *scene) tooLarge(base, path string) *http.Response {
	s.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	begin := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nX: "
	if _, err := io.WriteString(conn, begin+strings.Repeat("x", 12<<10-len(begin))); err != nil {
		s.Fatal(err)
	}
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.Fatal(err)
	}
	return reply
}

// Each parameter that is described has an effect: its values are accepted, and a value that the description rules out
// is refused (B75).
func TestOpenAPIParameters(t *testing.T) {
	s := newScene(t, 11, 12)
	_, base, api := s.described()
	tried := 0
	for path, x := range api.at("paths").(map[string]any) {
		list, _ := openAPI(x.(map[string]any)).at("get", "parameters").([]any)
		for _, x := range list {
			p := api.refers(x)
			good, bad := valuesOf(p)
			for _, text := range good {
				s.parameter(base, path, p, text, http.StatusOK)
				tried++
			}
			for _, text := range bad {
				s.parameter(base, path, p, text, http.StatusBadRequest)
				tried++
			}
		}
	}
	if tried < 40 {
		t.Errorf("only %d values of parameters were tested", tried)
	}
}

// valuesOf returns values that a parameter accepts, and others that it does not.
func valuesOf(p openAPI) (good, bad []string) {
	schema := openAPI(p.at("schema").(map[string]any))
	if list, ok := schema["enum"].([]any); ok {
		for _, x := range list {
			good = append(good, fmt.Sprint(x))
		}
		return good, []string{"bogus"}
	}
	if schema["type"] == "integer" {
		for _, word := range []string{"minimum", "maximum", "default"} {
			if n, ok := schema[word].(float64); ok {
				good = append(good, fmt.Sprint(int(n)))
			}
		}
		bad = []string{"x", "-1", "1.5"}
		if n, ok := schema["maximum"].(float64); ok {
			bad = append(bad, fmt.Sprint(int(n)+1))
		}
		return good, bad
	}
	for _, word := range []any{p["example"], schema["default"]} {
		if word != nil {
			good = append(good, fmt.Sprint(word))
		}
	}
	if len(good) == 0 {
		good = []string{"192.0.2.1"} // a part of any name, or an address
	}
	if p["name"] == "after" {
		good, bad = nil, []string{"x"}
	}
	return good, bad
}

// parameter sends one parameter and checks the status code. It sends HEAD, because a stream does not end.
func (s *scene) parameter(base, path string, p openAPI, value string, want int) {
	s.Helper()
	name := p["name"].(string)
	reply := s.fetch(base, path, func(r *http.Request) {
		r.Method = http.MethodHead
		if p["in"] == "header" {
			r.Header.Set(name, value)
			return
		}
		query := url.Values{name: {value}}
		if path == "/v1/explain" && name != "name" {
			query.Set("name", "thin.example.org")
		}
		r.URL.RawQuery = query.Encode()
	})
	if reply.StatusCode != want {
		s.Errorf("%s with %s %q: %d, want %d", path, name, value, reply.StatusCode, want)
	}
}

// Each event of a stream matches the description, and each event that is described occurs (B75).
func TestOpenAPIOfTheStream(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v, base := s.shown(showing)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	s.kill(12)
	v.comesTo("www.example.org A", "11")
	port := base[strings.LastIndexByte(base, ':')+1:]
	corefile := strings.ReplaceAll(showing, "STATUS", port)
	v.mustReload(replace(corefile, "status 127.0.0.1:"+port, "")) // changes are kept only if a status server can show them
	v.mustReload(corefile)
	var api openAPI
	s.json(base+"/openapi.json", &api)
	reply := s.fetch(base, "/events", func(r *http.Request) { r.Header.Set("Last-Event-ID", "0") })
	if media, _, _ := mime.ParseMediaType(reply.Header.Get("Content-Type")); openAPI(api.described("/events", 200)).at("content", media) == nil {
		t.Errorf("the stream has the media type %s", media)
	}
	described := api.at("paths", "/events", "get", "x-events").(map[string]any)
	seen := make(map[string]bool)
	var id, kind string
	for in := bufio.NewScanner(reply.Body); len(seen) < len(described) && in.Scan(); {
		key, value, _ := strings.Cut(in.Text(), ": ")
		switch key {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			var data any
			if err := json.Unmarshal([]byte(value), &data); err != nil || id == "" {
				t.Errorf("%s with id %q: %v", kind, id, err)
			}
			for _, complaint := range api.wrong(kind, described[kind], data) {
				t.Error(complaint)
			}
			if seen[kind] = true; kind == "lost" {
				s.start(12) // so that something changes
			}
		}
	}
	if len(seen) != len(described) {
		t.Errorf("the description has the events %v, the stream %v", slices.Sorted(maps.Keys(described)), seen)
	}
}
