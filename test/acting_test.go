package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// acting has a page over which people may change DIR/forced.
const acting = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        force DIR/forced
        status AT {
            admin DIR/forced
            BLOCK
        }
    }
}`

const secret = "0123456789abcdef0123456789abcdef"

// hand is a client that changes forced states.
type hand struct {
	*scene
	url    string
	client *http.Client
}

// handOf is a client of an address of status.
func (s *scene) handOf(address string) hand {
	transport := &http.Transport{DisableKeepAlives: true}
	url := "http://" + address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		url = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return hand{s, url + "/v1/force", &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// sees returns what the server says of the file, and its tag.
func (h hand) sees() (file map[string]any, tag string) {
	h.Helper()
	r, err := h.client.Get(h.url)
	if err != nil {
		h.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&file); err != nil || r.StatusCode != http.StatusOK {
		h.Fatal(r.Status, err)
	}
	return file, r.Header.Get("ETag")
}

// describes reads the description of the server.
func (h hand) describes(api *openAPI) {
	h.Helper()
	r, err := h.client.Get(strings.Replace(h.url, "/v1/force", "/openapi.json", 1))
	if err != nil {
		h.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(api); err != nil {
		h.Fatal(err)
	}
}

// does sends a change with headers, and returns the status, the headers and the body.
func (h hand) does(body string, headers ...string) (int, http.Header, string) {
	h.Helper()
	r, err := http.NewRequest(http.MethodPost, h.url, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	reply, err := h.client.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		h.Fatal(err)
	}
	return reply.StatusCode, reply.Header, string(text)
}

// makes sends a change of what the file has now, which has to be made.
func (h hand) makes(body string, headers ...string) string {
	h.Helper()
	_, tag := h.sees()
	code, header, text := h.does(body, append(headers, "If-Match", tag)...)
	if _, now := h.sees(); code != http.StatusOK || header.Get("ETag") != now || now == tag {
		h.Fatalf("%d %s, tags %s %s %s", code, text, tag, header.Get("ETag"), now)
	}
	return text
}

// content is what the file has.
func (s *scene) content(name string) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// Over a socket, a change is in the next answer, the file keeps what others wrote, and the log says who did it and why (B118).
func TestActingOverASocket(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	mark := logs.Mark()
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	s.file("forced", "# ours\r\ndown 192.0.2.1   # another\r\n")
	at := "unix:" + filepath.Join(s.dir, "socket")
	v := s.serve(replace(acting, "AT", at, "BLOCK", "peers http://192.0.2.2:9253/"))
	v.comesTo("www.example.org A", "11 12 13")
	v.settled(3, 0)
	h := s.handOf(at)
	text := h.makes(`{"state": "drain", "networks": ["127.0.0.11"], "until": "+2h", "reason": "rack 4\nup 127.0.0.12"}`)
	if got := members(v.ask("www.example.org A")); got != "12 13" { // at once, and not after a poll
		t.Errorf("after the drain: %s", got)
	}
	if strings.Contains(text, "notes") {
		t.Errorf("notes about an address that is probed: %s", text)
	}
	if !strings.Contains(text, `"scope": "this replica only"`) {
		t.Errorf("the answer does not say that the other replica is not changed: %s", text)
	}
	h.makes(`{"state": "down", "networks": ["127.0.0.12/31\n"]}`)
	if got := members(v.ask("www.example.org A")); got != "11" {
		t.Errorf("with the others down: %s", got)
	}
	h.makes(`{"state": "release", "networks": ["127.0.0.11"]}`)
	if text := h.makes(`{"state": "up", "networks": ["127.0.0.11", "192.0.2.200", "2001:db8::/32"]}`); !strings.Contains(text, "no address that is probed now is in 192.0.2.200 2001:db8::/32\"") {
		t.Errorf("a state of addresses that are not there is not noted: %s", text)
	}
	h.makes(`{"state": "release", "networks": ["127.0.0.11", "192.0.2.200", "2001:db8::/32"]}`)
	if got := s.content("forced"); got != "# ours\r\ndown 192.0.2.1   # another\r\ndown 127.0.0.12/31\r\n" {
		t.Errorf("the file has %q", got)
	}
	var api openAPI
	h.describes(&api)
	file, _ := h.sees()
	if complaints := api.wrong("the file", api.at("components", "schemas", "ForceFile"), any(file)); len(complaints) > 0 {
		t.Errorf("%q", complaints)
	}
	if lines := fmt.Sprint(file["lines"]); lines != "[map[line:2 networks:[192.0.2.1] reason:another state:down] map[line:3 networks:[127.0.0.12/31] state:down]]" || file["writable"] != true {
		t.Errorf("%v", file)
	}
	want := fmt.Sprintf("status: uid %d (pid %d): drain 127.0.0.11 until ", os.Getuid(), os.Getpid())
	if got := logs.Since(mark); !strings.Contains(got, want) || !strings.Contains(got, `("rack 4 up 127.0.0.12") in `+filepath.Join(s.dir, "forced")) {
		t.Errorf("the log lacks %q: %s", want, got)
	}
	if got := logs.Since(mark); !strings.Contains(got, "): down 127.0.0.12/31 in "+filepath.Join(s.dir, "forced")) {
		t.Errorf("the log has what was sent, and not the network: %s", got)
	}
	if code, _, _ := h.does("{}", "Origin", "http://localhost", "If-Match", `"x"`); code != http.StatusForbidden {
		t.Errorf("a browser acts without a token: %d", code)
	}
}

// Over loopback a change needs the token, which can be replaced, and a request that is not right changes nothing (B118).
func TestActingOverLoopback(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.file("token", secret+"\n")
	at := "127.0.0.1:" + freePort(t)
	v := s.serve(replace(acting, "AT", at, "BLOCK", "token DIR/token\nhost status.example.org"))
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	h := s.handOf(at)
	const drain = `{"state": "drain", "networks": ["127.0.0.11"]}`
	_, tag := h.sees()
	right := []string{"Authorization", "Bearer " + secret, "If-Match", tag}
	for _, tc := range []struct {
		what    string
		body    string
		headers []string
		code    int
		says    string
	}{
		{"no token", drain, []string{"If-Match", tag}, 401, "a token is needed"},
		{"a wrong token", drain, []string{"If-Match", tag, "Authorization", "Bearer " + secret + "x"}, 401, "wrong token"},
		{"another scheme", drain, []string{"If-Match", tag, "Authorization", "Basic " + secret}, 401, "wrong token"},
		{"no tag", drain, right[:2], 428, "send the ETag of GET /v1/force as If-Match"},
		{"any tag", drain, append(right[:2:2], "If-Match", "*"), 428, "send the ETag"},
		{"another tag", drain, append(right[:2:2], "If-Match", `"x"`), 412, "has changed meanwhile"},
		{"another weak tag", drain, append(right[:2:2], "If-Match", `W/"x"`), 412, "has changed meanwhile"},
		{"a form", drain, append(right, "Content-Type", "text/plain"), 415, "application/json"},
		{"not JSON", "drain", right, 400, "invalid body"},
		{"another field", `{"state": "drain", "networks": ["127.0.0.11"], "untill": "+2h"}`, right, 400, "untill"},
		{"two values", drain + drain, right, 400, "more than one value"},
		{"another state", `{"state": "dwon", "networks": ["127.0.0.11"]}`, right, 400, "use drain, down, up or release"},
		{"a large body", drain + strings.Repeat(" ", 17<<10), right, 413, "use at most 16384 bytes"},
		{"another site", drain, append(right, "Origin", "http://127.0.0.1:1"), 403, "another site"},
		{"no site", drain, append(right, "Origin", "null"), 403, "another site"},
		{"a link", drain, append(right, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 403, "another site"},
		{"the same machine", drain, append(right, "Sec-Fetch-Site", "same-site"), 403, ""},
		{"another host", drain, append(right, "Host", "evil.example"), 421, "unknown host"},
		{"a proxy that sends another host", drain, append(right, "Host", "localhost:9253", "Origin", "https://status.example.org"), 403, "a proxy has to send the Host"},
		{"a proxy that sends the host", drain, append(right[:2:2], "Host", "status.example.org", "Origin", "https://status.example.org", "If-Match", `"x"`), 412, "has changed meanwhile"},
	} {
		code, header, text := h.does(tc.body, tc.headers...)
		var failure struct{ Error string }
		if err := json.Unmarshal([]byte(text), &failure); err != nil || code != tc.code || !strings.Contains(failure.Error, tc.says) {
			t.Errorf("%s: %d %s, want %d %s", tc.what, code, text, tc.code, tc.says)
		}
		if cors := header.Get("Access-Control-Allow-Origin"); cors != "" || code == 401 && header.Get("WWW-Authenticate") != `Bearer realm="multivalue"` {
			t.Errorf("%s: %v", tc.what, header)
		}
		if _, now := h.sees(); now != tag || strings.Contains(text, secret) {
			t.Fatalf("%s: the file was changed: %s", tc.what, text)
		}
	}
	// A proxy that compresses makes the tag weak. It still names one content.
	if code, _, text := h.does(drain, "Authorization", "bearer "+secret, "Origin", "http://"+at, "If-Match", "W/"+tag); code != http.StatusOK {
		t.Fatalf("a weak tag: %d %s", code, text)
	}
	if got := members(v.ask("www.example.org A")); got != "12" {
		t.Errorf("after the drain: %s", got)
	}
	s.moveTo("token", strings.Repeat("n", 16)) // rotated without a reload
	if code, _, text := h.does(drain, right...); code != 401 {
		t.Errorf("the old token: %d %s", code, text)
	}
	h.makes(`{"state": "release", "networks": ["127.0.0.11"]}`, "Authorization", "Bearer "+strings.Repeat("n", 16))
	s.moveTo("token", "short")
	if code, _, text := h.does(drain, right...); code != 500 || strings.Contains(text, "short\n") || !strings.Contains(text, "openssl rand -hex 32") {
		t.Errorf("a short token: %d %s", code, text)
	}
}

// Wrong tokens are compared a few times a second, and no more: then also the right one has to wait (B118).
func TestActingLimitsGuesses(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.file("token", secret)
	at := "127.0.0.1:" + freePort(t)
	s.serve(replace(acting, "AT", at, "BLOCK", "token DIR/token"))
	h := s.handOf(at)
	s.eventually(func() bool {
		code, header, _ := h.does("{}", "Authorization", "Bearer "+strings.Repeat("x", 32))
		return code == http.StatusTooManyRequests && header.Get("Retry-After") == "1"
	}, func() string { return "guesses are never refused" })
	s.eventually(func() bool {
		code, _, _ := h.does("{}", "Authorization", "Bearer "+secret)
		return code == http.StatusPreconditionRequired
	}, func() string { return "the right token is refused for good" })
}

// A reload that takes the right away takes it at once, one that fails changes nothing, and one that gives it needs no restart (B118).
func TestActingOverReloads(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.file("token", secret)
	s.file("forced", "")
	at := "127.0.0.1:" + freePort(t)
	full := replace(acting, "AT", at, "BLOCK", "token DIR/token")
	none := replace(full, "admin DIR/forced", "peers http://192.0.2.2/", "token DIR/token", "")
	v := s.serve(none)
	h := s.handOf(at)
	may := func() bool {
		file, tag := h.sees()
		code, _, text := h.does(`{"state": "drain", "networks": ["127.0.0.11"]}`, "Authorization", "Bearer "+secret, "If-Match", tag)
		if file["admin"] != (code == http.StatusOK) || code != http.StatusOK && code != http.StatusForbidden || file["admin"] == false && fmt.Sprint(file["lines"], file["file"]) != "[] <nil>" {
			t.Errorf("%v, %d %s", file, code, text)
		}
		if code == http.StatusOK {
			s.file("forced", "")
		}
		return code == http.StatusOK
	}
	if may() {
		t.Error("it may act without admin")
	}
	v.mustReload(full)
	if !may() {
		t.Error("it may not act with admin")
	}
	for what, broken := range map[string]string{
		"without admin, and broken": replace(none, "QUICK", "QUICK\n limit x"),
		"another plugin":            replace(none, "bind 127.0.0.1", "bind 127.0.0.1\n cache -5"),
		"a port in use":             replace(none, "status "+at, "status 127.0.0.11:"+s.port),
		"no such token":             replace(full, "token DIR/token", "token DIR/nothing"),
		"a file of no force":        replace(full, "admin DIR/forced", "admin DIR/other"),
	} {
		err := v.reload(broken)
		if err == nil {
			t.Fatalf("%s: the reload did not fail", what)
		}
		if what == "no such token" && (!strings.Contains(err.Error(), "Corefile:15 - Error during parsing: status: the token file") || !strings.Contains(err.Error(), "does not exist: make one with: openssl rand -hex 32")) {
			t.Error(err)
		}
		if what == "a file of no force" && !strings.Contains(err.Error(), "Corefile:14 - Error during parsing: status: admin") {
			t.Error(err)
		}
		if !may() {
			t.Errorf("%s: a failed reload takes the right away", what)
		}
	}
	v.mustReload(none)
	if may() {
		t.Error("after the reload it may act")
	}
	v.mustReload(replace(none, "status "+at+" {", "status "+at+"\n }\n multivalue a.example.org {\n CALM\n status unix:DIR/other {"))
	if may() {
		t.Error("without a block it may act")
	}
}

// A ConfigMap is not changed, and the answer says what to edit (B118).
func TestActingOnAConfigMap(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	for _, err := range []error{
		os.Mkdir(filepath.Join(s.dir, "..1"), 0o700),
		os.Symlink("..1", filepath.Join(s.dir, "..data")),
		os.Symlink("..data/forced", filepath.Join(s.dir, "forced")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.file("..1/forced", "drain 127.0.0.12\n")
	at := "unix:" + filepath.Join(s.dir, "socket")
	v := s.serve(replace(acting, "AT", at, "BLOCK", ""))
	v.comesTo("www.example.org A", "11")
	h := s.handOf(at)
	file, tag := h.sees()
	code, _, text := h.does(`{"state": "down", "networks": ["127.0.0.11"]}`, "If-Match", tag)
	if code != http.StatusConflict || !strings.Contains(text, "edit the ConfigMap") || file["writable"] != false || !strings.Contains(fmt.Sprint(file["why"]), "edit the ConfigMap") {
		t.Errorf("%d %s, %v", code, text, file)
	}
	if got := s.content("..1/forced"); got != "drain 127.0.0.12\n" {
		t.Errorf("the file has %q", got)
	}
}

const actingElsewhere = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
        force DIR/forced
        status unix:DIR/socket {
            admin DIR/forced
        }
    }
    multivalue bare.example.org {
        QUICK
    }
    multivalue other.example.org {
        check http://:PORT/other
        within 127.0.0.0/8
        force DIR/others
    }
    multivalue quiet.example.org {
        QUICK
    }
}`

// A change that some stanzas do not read is told with their file and line, whether they read another file or none (B118).
func TestActingIsNotReadEverywhere(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nbare A 127.0.0.11\nbare A 127.0.0.13\nother A 127.0.0.11\nother A 127.0.0.13")
	v := s.serve(actingElsewhere)
	names := strings.Fields("www bare other")
	for _, name := range names {
		v.ask(name + ".example.org A")
	}
	v.settled(5, 0) // 11, 12 and 13 for two stanzas, and 11 and 13 for the other
	h := s.handOf("unix:" + filepath.Join(s.dir, "socket"))
	forced, others := filepath.Join(s.dir, "forced"), filepath.Join(s.dir, "others")
	const none = "notes"
	bare := "the stanza at Corefile:15 judges 127.0.0.11, too, and does not read " + forced + ": nothing changes there"
	other := "the stanza at Corefile:21 judges 127.0.0.11, too, and reads " + others + ", and not " + forced + ": nothing changes there"
	for _, c := range []struct {
		body   string
		has    []string
		hasNot []string
	}{
		{`{"state": "drain", "networks": ["127.0.0.11"]}`, []string{bare, other}, []string{"Corefile:4 ", "Corefile:26"}},
		{`{"state": "down", "networks": ["127.0.0.12"]}`, nil, []string{none}},
		{`{"state": "drain", "networks": ["127.0.0.12/31"]}`, []string{"the stanza at Corefile:15 judges 127.0.0.12/31, too"}, []string{"Corefile:26"}},
		{`{"state": "release", "networks": ["127.0.0.11"]}`, nil, []string{none}},
		{`{"state": "down", "networks": ["2001:db8::1"]}`, []string{"do not read " + forced + ": those at Corefile:15, Corefile:21, Corefile:26\"", "no address that is probed now is in 2001:db8::1"}, []string{"Corefile:4,", "judges"}},
	} {
		text := h.makes(c.body)
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no note %q: %s", c.body, want, text)
			}
		}
		for _, not := range c.hasNot {
			if strings.Contains(text, not) {
				t.Errorf("%s: there is %q: %s", c.body, not, text)
			}
		}
	}
	if got := members(v.ask("bare.example.org A")); got != "11 13" { // which is what the notes say
		t.Errorf("what the stanza does not read is in force there: %s", got)
	}
}
