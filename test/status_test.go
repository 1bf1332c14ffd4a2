package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// showing is a Corefile whose server shows its status on port STATUS.
const showing = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        status 127.0.0.1:STATUS
    }
}`

// shown starts a server with its status on a free port, and returns the start of its URL.
func (s *scene) shown(corefile string) (*server, string) {
	s.Helper()
	port := freePort(s)
	return s.serve(strings.ReplaceAll(corefile, "STATUS", port)), "http://127.0.0.1:" + port
}

type statusTarget struct {
	Address, Check, Name, State, Forced, Reason string
	Probes                                      []struct {
		Seconds float64
		Failed  bool
	}
}

type explained struct {
	Explanations []struct {
		Block, Stanza, Zone, Rcode, Outcome string
		Steps, Records                      []string
		Sets                                []struct {
			Owner, Type, Outcome, Why, Fallback string
			Members                             []struct {
				Member, Why, State, Forced, Tier string
				Served, Within                   bool
				share
				Checks []struct{ State, Reason string }
			}
		}
	}
}

// share is what an explanation says about the draw of a member.
type share struct {
	Weight        int
	Warmup, First float64
}

// json fetches a response.
func (s *scene) json(url string, into any) {
	s.Helper()
	status, body := s.get(url)
	if status != http.StatusOK {
		s.Fatalf("%s: %d %s", url, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		s.Fatalf("%s: %v", url, err)
	}
}

// states lists the states of all targets by the last number of their address, sorted.
func (s *scene) states(base string) string {
	s.Helper()
	var page struct{ Targets []statusTarget }
	s.json(base+"/v1/targets", &page)
	var words []string
	for _, t := range page.Targets {
		host, _, _ := net.SplitHostPort(t.Address)
		words = append(words, host[strings.LastIndexByte(host, '.')+1:]+" "+t.State)
	}
	return strings.Join(words, ", ")
}

// The page and the JSON follow a server that dies and comes back, with the reason, and so does the stream (B75).
func TestStatusFollows(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v, base := s.shown(showing)
	v.comesTo("www.example.org A", "11 12")
	becomes := func(want string) {
		t.Helper()
		v.eventually(func() bool { return s.states(base) == want }, func() string { return fmt.Sprintf("%s, want %s", s.states(base), want) })
	}
	becomes("11 up, 12 up")
	stream, stop := s.stream(base)
	defer stop()
	s.kill(12)
	becomes("11 up, 12 down")
	if line := <-stream; !strings.Contains(line, `"address":"127.0.0.12:`+s.port+`"`) || !strings.Contains(line, `"name":"www.example.org.","from":"up","to":"down","reason":"connection refused"`) {
		t.Errorf("the stream says %s", line)
	}
	var page struct{ Targets []statusTarget }
	s.json(base+"/v1/targets?state=down", &page)
	if len(page.Targets) != 1 || page.Targets[0].Reason != "connection refused" || page.Targets[0].Name != "www.example.org." || len(page.Targets[0].Probes) < 3 {
		t.Errorf("%+v", page)
	}
	_, html := s.get(base + "/")
	for _, want := range []string{`class="down"`, "connection refused", "www.example.org.", ">filtered<", "1 of 2 is up, and the other is left out",
		"up again after 2 successful probes in a row", `<code>curl <span class="flag">-i </span>http://127.0.0.12:` + s.port + "/"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q:\n%s", want, html)
		}
	}
	s.start(12)
	becomes("11 up, 12 up")
	if line := <-stream; !strings.Contains(line, `"to":"up"`) {
		t.Errorf("the stream says %s", line)
	}
	if _, html = s.get(base + "/"); strings.Contains(html, `class="down"`) {
		t.Error("the page shows a row that is down")
	}
}

// stream reads the stream of changes.
func (s *scene) stream(base string) (changes <-chan string, stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/events", nil)
	if err != nil {
		s.Fatal(err)
	}
	transport := new(http.Transport)
	reply, err := transport.RoundTrip(r)
	if err != nil {
		s.Fatal(err)
	}
	lines := make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer reply.Body.Close()
		change := false
		for in := bufio.NewScanner(reply.Body); in.Scan(); {
			if change {
				lines <- in.Text()
			}
			change = in.Text() == "event: change"
		}
	}()
	return lines, func() { cancel(); <-ended; transport.CloseIdleConnections() }
}

// A filter finds all names that have an address, not only the name under which that address was first seen.
func TestStatusOfSharedAddresses(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\napi A 127.0.0.11\napi A 127.0.0.12\nother A 127.0.0.11\nother A 127.0.0.21")
	v, base := s.shown(replace(showing, "QUICK", "CALM"))
	for name := range strings.FieldsSeq("www api other") {
		v.ask(name + ".example.org A")
	}
	v.settled(1, 2)
	for query, want := range map[string]string{
		"names?address=127.0.0.12":         "api www",
		"names?state=up":                   "api other www",
		"names?address=127.0.0.21":         "other",
		"names?state=down&name=www":        "www",
		"names?address=127.0.0.12&name=th": "",
		"targets?name=api":                 "11 12",
		"targets?name=other":               "11 21",
		"targets?name=www&state=down":      "12",
	} {
		var page struct {
			Targets []struct{ Address string }
			Names   []struct{ Name string }
		}
		s.json(base+"/v1/"+query, &page)
		var got []string
		for _, x := range page.Targets {
			host, _, _ := net.SplitHostPort(x.Address)
			got = append(got, strings.TrimPrefix(host, "127.0.0."))
		}
		for _, x := range page.Names {
			got = append(got, strings.TrimSuffix(x.Name, ".example.org."))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %s", query, got, want)
		}
	}
	_, page := s.get(base + "/?name=api&address=127.0.0.12")
	for _, want := range []string{`href="/explain?name=www.example.org.&amp;type=A"`, `href="/explain?name=api.example.org.&amp;type=A"`, "<th scope=\"row\" class=\"addr\">127.0.0.12:"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if _, list, _ := strings.Cut(page, `id="changes"`); !strings.Contains(list, ">127.0.0.12:") {
		t.Errorf("the filter hides the change: %s", list)
	}
}

// A reload that keeps the line keeps the listener, and so does a reload that fails. A reload that drops the line
// closes the listener, and a changed line moves it. A name that was seen stays listed (B69, B70, B75).
func TestStatusOverReloads(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	port, other := freePort(t), freePort(t)
	corefile := strings.ReplaceAll(showing, "STATUS", port)
	v := s.serve(corefile)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	answers := func(port string) bool {
		status, _ := s.get("http://127.0.0.1:" + port + "/v1/summary")
		return status == http.StatusOK
	}
	stream, stop := s.stream("http://127.0.0.1:" + port)
	defer stop()
	v.mustReload(replace(corefile, "QUICK", "QUICK\n limit 3"))
	if !answers(port) {
		t.Error("after a reload the listener is closed")
	}
	s.kill(12)
	if line := <-stream; !strings.Contains(line, `"to":"down"`) {
		t.Errorf("a stream from before the reload says %s", line)
	}
	for what, broken := range map[string]string{
		"our own":        replace(corefile, "QUICK", "QUICK\n limit x"),
		"another plugin": replace(corefile, "bind 127.0.0.1", "bind 127.0.0.1\n cache -5"),
		"another port":   replace(corefile, "127.0.0.1:"+port, "127.0.0.1:"+other, "bind 127.0.0.1", "bind 127.0.0.1\n health 127.0.0.1:"+port),
		"a port in use":  replace(corefile, "status 127.0.0.1:"+port, "status 127.0.0.1:"+port+"\n }\n multivalue a.example.org {\n CALM\n status 127.0.0.11:"+s.port),
	} {
		err := v.reload(broken)
		if err == nil {
			t.Fatalf("%s: the reload did not fail", what)
		}
		broken = v.expand(broken)
		line := strings.Count(broken[:max(0, strings.LastIndex(broken, "status"))], "\n") + 1
		if what == "a port in use" && (!strings.Contains(err.Error(), fmt.Sprintf("Corefile:%d - status 127.0.0.11:%s", line, s.port)) || !strings.Contains(err.Error(), "address already in use")) {
			t.Errorf("the error is %v", err)
		}
		if !answers(port) || answers(other) {
			t.Errorf("%s: after a failed reload, the old port answers: %t, the new port: %t", what, answers(port), answers(other))
		}
	}
	if _, names := s.get("http://127.0.0.1:" + port + "/v1/names"); !strings.Contains(names, `"www.example.org."`) || !strings.Contains(names, `"outcome"`) {
		t.Errorf("the names after a reload: %s", names)
	}
	v.mustReload(strings.ReplaceAll(corefile, port, other))
	if answers(port) || !answers(other) {
		t.Error("the listener did not move")
	}
	v.mustReload(replace(corefile, "status 127.0.0.1:"+port, ""))
	if answers(port) || answers(other) {
		t.Error("without the line the listener is still open")
	}
	v.mustReload(corefile)
	if !answers(port) {
		t.Error("with the line restored the listener is closed")
	}
}

// Stanzas share a listener or have their own. A port that is in use makes the start fail and leaves the other port
// free.
func TestStatusAddresses(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	shared, own := freePort(t), freePort(t)
	two := strings.ReplaceAll(showing, "STATUS", shared)
	two = replace(two, "multivalue {", "multivalue a.example.org {\n CALM\n status 127.0.0.1:"+shared+"\n }\n multivalue b.example.org {\n CALM\n status 127.0.0.1:"+own+"\n }\n multivalue {")
	v := s.serve(two)
	for _, port := range []string{shared, own} {
		var summary struct {
			Running bool
			Stanzas []struct{ At, Zones string }
		}
		s.json("http://127.0.0.1:"+port+"/v1/summary", &summary)
		if !summary.Running || len(summary.Stanzas) != 3 {
			t.Errorf("%+v", summary)
		}
	}
	v.ask("www.example.org A")
	v.mustReload(strings.ReplaceAll(showing, "STATUS", shared))
	var summary struct{ Stanzas []struct{ At string } }
	if s.json("http://127.0.0.1:"+shared+"/v1/summary", &summary); len(summary.Stanzas) != 1 {
		t.Errorf("after the reload the status has %d stanzas", len(summary.Stanzas))
	}
	if status, _ := s.get("http://127.0.0.1:" + own + "/v1/summary"); status != 0 {
		t.Error("the listener of the removed stanza still answers")
	}
	err := v.reload(strings.ReplaceAll(strings.ReplaceAll(showing, "127.0.0.1:STATUS", ":STATUS"), "STATUS", shared))
	if err == nil || !strings.Contains(err.Error(), "a reload cannot change the host alone") {
		t.Errorf("another host on the same port: %v", err)
	}
	if status, _ := s.get("http://127.0.0.1:" + shared + "/v1/summary"); status != 200 {
		t.Error("after that the running server's listener is closed")
	}
}

// A request with a foreign host name, or one that wants to write, is refused (DNS rebinding).
func TestStatusIsGuarded(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	_, base := s.shown(showing)
	for what, edit := range map[string]func(*http.Request){
		"a strange name": func(r *http.Request) { r.Host = "evil.example" },
		"to write":       func(r *http.Request) { r.Method = http.MethodPost },
	} {
		r, err := http.NewRequest(http.MethodGet, base+"/v1/targets", nil)
		if err != nil {
			t.Fatal(err)
		}
		edit(r)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode/100 != 4 || strings.Contains(string(text), "targets") {
			t.Errorf("%s: %d %s", what, reply.StatusCode, text)
		}
	}
}
