package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// openAPI is the description that the status serves of itself.
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

// wrong lists where a value is not what a schema says. It knows the words that the description uses.
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

// What is answered is what the OpenAPI file says, which is served too, and each path in it is there (B75).
func TestOpenAPI(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", explainedZone)
	s.file("forced", "drain 127.0.0.12")
	v, base := s.shown(explaining)
	for name := range strings.FieldsSeq("whole thin open drain forced backup nodata servfail signed dry") {
		v.ask(name + ".example.org A")
	}
	v.settled(2, 4)
	var api openAPI
	s.json(base+"/openapi.json", &api)
	answered := make(map[string]bool)
	for _, path := range []string{
		"/v1/summary", "/v1/targets", "/v1/targets?limit=1", "/v1/targets?limit=x", "/v1/targets?state=unknown", "/v1/names", "/v1/names?name=thin", "/v1/names?after=x", "/v1/checks",
		"/v1/explain?name=thin.example.org", "/v1/explain?name=drain.example.org", "/v1/explain?name=servfail.example.org", "/v1/explain?name=signed.example.org&do=1",
		"/v1/explain?name=_s._tcp.example.org&type=SRV", "/v1/explain?name=exempt.example.org", "/v1/explain?name=new.example.org", "/v1/explain?name=x.invalid", "/v1/explain",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		status, body := s.get(base + path)
		var value any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		described := api.at("paths", u.Path, "get", "responses", fmt.Sprint(status))
		if ref, ok := described.(map[string]any)["$ref"].(string); ok {
			described = api.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		schema := openAPI(described.(map[string]any)).at("content", "application/json", "schema")
		for _, complaint := range api.wrong(path, schema, value) {
			t.Error(complaint)
		}
		answered[u.Path] = true
	}
	for path := range maps.Keys(api.at("paths").(map[string]any)) {
		if status, _ := s.head(base + path); !answered[path] && status != http.StatusOK {
			t.Errorf("%s is described, and answers %d", path, status)
		}
	}
	if complaints := api.wrong("a change", api.at("components", "schemas", "Change"), map[string]any{"number": "1", "to": "away"}); len(complaints) != 7 {
		t.Errorf("the test lets pass what is wrong: %q", complaints)
	}
}

// head asks for the head of an answer.
func (s *scene) head(url string) (int, http.Header) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Head(url)
	if err != nil {
		return 0, nil
	}
	r.Body.Close()
	return r.StatusCode, r.Header
}
