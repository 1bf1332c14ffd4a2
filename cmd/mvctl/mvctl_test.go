package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// ran is what a run of the program wrote, and its status.
type ran struct {
	code     int
	out, err string
}

// mvctl runs the program against a server, with the environment that is given.
func mvctl(t *testing.T, server string, env map[string]string, args ...string) ran {
	t.Helper()
	var out, errors bytes.Buffer
	a := &app{out: &out, errors: &errors, getenv: func(name string) string { return env[name] }}
	if server != "" {
		args = append(args, "--server", server)
	}
	code := a.execute(t.Context(), args)
	return ran{code, out.String(), errors.String()}
}

// serving starts a server whose responses the test decides about.
func serving(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

func respond(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// The version is that of the module.
func TestVersion(t *testing.T) {
	source, err := os.ReadFile("../../multivalue.go")
	if err != nil || !strings.Contains(string(source), "\nconst Version = \""+version+"\"\n") {
		t.Errorf("version %s is not that of multivalue.go: %v", version, err)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if got := mvctl(t, "", nil, args...); got.code != 0 || got.out != "mvctl "+version+"\n" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// What a user gets wrong is status 2, before any server is asked (B119).
func TestWrongUse(t *testing.T) {
	asked := serving(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("the server is asked for %s", r.URL) })
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"unknown command", []string{"nope"}}, {"unknown command", []string{"targets", "x"}}, {"accepts between 1 and 2", []string{"explain"}}, {"unknown flag", []string{"names", "--bogus"}},
		{"use table or json", []string{"targets", "-o", "yaml"}}, {"name an address", []string{"drain"}}, {"use one such as 192.0.2.1", []string{"drain", "www.example.org"}},
		{"use one such as 192.0.2.1", []string{"release", "192.0.2.0/33"}}, {"--until", []string{"down", "192.0.2.1", "--until", "2h"}}, {"--until", []string{"down", "192.0.2.1", "--until", "+0s"}},
		{"token file", []string{"up", "192.0.2.1", "--token-file", "/nonexistent"}},
	} {
		if got := mvctl(t, asked, nil, tt.args...); got.code != exitUsage || got.out != "" || !strings.Contains(got.err, tt.want) {
			t.Errorf("%q: %+v, want %q", tt.args, got, tt.want)
		}
	}
	for _, server := range []string{"localhost:9253", "ftp://localhost", "http://", "unix:", "http://user:hunter2@localhost", "http://localhost?x"} {
		if got := mvctl(t, server, nil, "targets"); got.code != exitUsage || strings.Contains(got.err, "hunter2") {
			t.Errorf("%s: %+v", server, got)
		}
	}
}

// The status says what is wrong with a server: it cannot be reached or cannot answer (3), it refuses (4), or the request is wrong (2).
// Its own words are shown (B119).
func TestStatuses(t *testing.T) {
	for status, want := range map[int]int{400: 2, 405: 2, 413: 2, 414: 2, 415: 2, 401: 4, 403: 4, 409: 4, 421: 4, 428: 4, 404: 3, 500: 3, 503: 3, 301: 3, 204: 3} {
		server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
			if status == 204 {
				w.WriteHeader(status)
				return
			}
			respond(w, status, `{"error":"what is wrong"}`)
		})
		got := mvctl(t, server, nil, "targets")
		if got.code != want || got.out != "" || status != 404 && status != 204 && !strings.Contains(got.err, "mvctl: what is wrong") {
			t.Errorf("%d: %+v, want %d", status, got, want)
		}
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, server := range []string{closed.URL, "unix:" + filepath.Join(t.TempDir(), "none")} {
		if got := mvctl(t, server, nil, "names"); got.code != exitServer || !strings.Contains(got.err, "cannot reach "+server) {
			t.Errorf("%+v", got)
		}
	}
	for _, text := range []string{"<html>", `{"targets": 1}`, `{"targets": [{"streak": "x"}]}`} {
		server := serving(t, func(w http.ResponseWriter, _ *http.Request) { respond(w, 200, text) })
		if got := mvctl(t, server, nil, "targets"); got.code != exitServer || !strings.Contains(got.err, "JSON") {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// The server may be named by the environment, and is reached over a socket too (B119).
func TestServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { respond(w, 200, `{"members":[],"total":0,"next":""}`) })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	if got := mvctl(t, "", map[string]string{"MVCTL_SERVER": "unix:" + path}, "members"); got.code != 0 || got.out != "This server is in no fleet.\n" {
		t.Errorf("%+v", got)
	}
}

// paged is a server with n targets, of which each tenth is down, in pages of at most 7.
func paged(t *testing.T, n int) string {
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("after"))
		end := min(n, from+7)
		var items []string
		for i := from; i < end; i++ {
			state := "up"
			if i%10 == 3 {
				state = "down"
			}
			items = append(items, fmt.Sprintf(`{"address":"192.0.2.%d:80","check":"tcp://:80","state":"%s","reason":"a\u001b[31mb\u202ec","later":%d,"name":"n%d"}`, i, state, i, i))
		}
		next := ""
		if end < n {
			next = strconv.Itoa(end)
		}
		respond(w, 200, fmt.Sprintf(`{"targets":[%s],"total":%d,"next":%q}`, strings.Join(items, ","), n, next))
	})
}

// All pages of a list are fetched, each entry once, and as the server wrote it; with --fail, one that is down is status 1 (B119).
func TestLists(t *testing.T) {
	for _, n := range []int{0, 1, 7, 50} {
		server := paged(t, n)
		got := mvctl(t, server, nil, "targets", "-o", "json")
		var page struct {
			Targets []struct {
				Address string
				Later   int // a field that this program does not know
			}
			Total int
			Next  string
		}
		if err := json.Unmarshal([]byte(got.out), &page); err != nil || got.code != 0 || len(page.Targets) != n || page.Total != n || page.Targets == nil {
			t.Fatalf("%d: %v, %+v", n, err, got)
		}
		for i, x := range page.Targets {
			if x.Address != fmt.Sprintf("192.0.2.%d:80", i) || x.Later != i {
				t.Errorf("%d: %+v", i, x)
			}
		}
		table := mvctl(t, server, nil, "targets")
		if lines := strings.Count(table.out, "\n"); lines != n+1 || table.code != 0 {
			t.Errorf("%d: %d lines: %s", n, lines, table.out)
		}
		want := exitGood
		if n > 3 {
			want = exitTrouble
		}
		if got := mvctl(t, server, nil, "targets", "--fail"); got.code != want || got.err != "" || got.out != table.out {
			t.Errorf("%d with --fail: %+v, want %d", n, got, want)
		}
	}
	endless := serving(t, func(w http.ResponseWriter, _ *http.Request) { respond(w, 200, `{"targets":[],"total":9,"next":"1"}`) })
	if got := mvctl(t, endless, nil, "targets"); got.code != exitServer || !strings.Contains(got.err, "does not end") {
		t.Errorf("%+v", got)
	}
}

// Nothing that a server sends reaches the terminal as a command, in tables, errors and JSON; the JSON still says the same (B119).
func TestNothingForTheTerminal(t *testing.T) {
	const nasty = "a\x1b[31m\x1b]0;t\x07\u009b31mb\u202ec\u2028d\U000e0001e\tf"
	text, _ := json.Marshal(nasty)
	raw := strings.NewReplacer(`\u001b`, `\u001b`, `\u2028`, "\u2028").Replace(string(text))
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/explain":
			respond(w, 200, `{"explanations":[{"name":`+raw+`,"steps":[`+raw+`],"records":[`+raw+`],"outcome":`+raw+`,"sets":[{"owner":`+raw+`,"members":[{"member":`+raw+`,"state":`+raw+`}]}]}]}`)
		case "/v1/config":
			respond(w, 200, `{"stanzas":[{"at":`+raw+`,"properties":[{"name":`+raw+`,"value":`+raw+`}]}]}`)
		case "/v1/changes":
			respond(w, 200, `{"changes":[{"number":1,"address":`+raw+`,"to":`+raw+`,"reason":`+raw+`}],"total":1,"next":1,"lost":0}`)
		case "/v1/summary":
			respond(w, 200, `{"started":"2026-01-02T12:00:00Z"}`)
		case "/v1/targets":
			respond(w, 400, `{"error":`+raw+`}`)
		default:
			key := strings.TrimPrefix(r.URL.Path, "/v1/")
			respond(w, 200, `{"`+key+`":[{"name":`+raw+`,"state":`+raw+`,"site":`+raw+`,"answers":[{"type":`+raw+`}]}],"total":1,"next":""}`)
		}
	})
	for _, args := range []string{"targets", "names", "members", "changes", "config", "explain x"} {
		for _, output := range []string{"table", "json"} {
			got := mvctl(t, server, nil, append(strings.Fields(args), "-o", output)...)
			for _, r := range got.out + got.err {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Fatalf("%s as %s writes %q: %q", args, output, r, got.out+got.err)
				}
			}
			if !strings.Contains(got.out+got.err, "a\\u001b[31m") {
				t.Errorf("%s as %s does not show the text: %q", args, output, got.out+got.err)
			}
			if output == "json" && got.out != "" {
				var v any
				if err := json.Unmarshal([]byte(got.out), &v); err != nil || !strings.Contains(fmt.Sprint(v), nasty) {
					t.Errorf("%s: the JSON says something else: %v %q", args, err, got.out)
				}
			}
		}
	}
}

// The columns of a table are as wide as their widest field, with colours and without; colours are for terminals alone.
func TestTable(t *testing.T) {
	rows := [][]cell{{state("up"), plain("a"), plain("end")}, {state("unknown"), plain("longer"), plain("")}}
	var bare, coloured bytes.Buffer
	writeRows(&bare, rows, false)
	writeRows(&coloured, rows, true)
	if want := "✓ up       a       end\n? unknown  longer\n"; bare.String() != want {
		t.Errorf("%q, want %q", bare.String(), want)
	}
	if got := strings.NewReplacer("\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(coloured.String()); got != bare.String() || got == coloured.String() {
		t.Errorf("%q", coloured.String())
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if (&app{out: file, getenv: func(string) string { return "" }}).colours() {
		t.Error("a file gets colours")
	}
	terminal, err := os.Open("/dev/null") // a device for characters, as a terminal is
	if err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("Windows has no file /dev/null")
		}
		t.Fatal(err)
	}
	defer terminal.Close()
	for variables, want := range map[string]bool{"": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		name, value, _ := strings.Cut(variables, "=")
		if got := (&app{out: terminal, getenv: func(n string) string {
			if n == name {
				return value
			}
			return ""
		}}).colours(); got != want {
			t.Errorf("%s: %t", variables, got)
		}
	}
}

// changing is a server that numbers its changes, and is restarted as the test wants.
type changing struct {
	mu      sync.Mutex
	started time.Time
	first   int // number of the first change that is kept
	changes []string
	down    bool
	asked   func(path string) // before each request, if not nil
}

func (c *changing) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes = append(c.changes, fmt.Sprintf(`{"number":%d,"at":"%s","address":"%s","to":"down"}`, c.first+len(c.changes), c.started.Add(time.Second).Format(time.RFC3339), name))
}

func (c *changing) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started, c.changes, c.first = c.started.Add(time.Hour), nil, 1
}

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.asked != nil {
		c.asked(r.URL.Path)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down:
		respond(w, 503, `{"error":"busy"}`)
	case r.URL.Path == "/v1/summary":
		respond(w, 200, `{"started":"`+c.started.Format(time.RFC3339)+`"}`)
	default:
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		last := c.first + len(c.changes) - 1
		if after > last {
			after = 0
		}
		lost := max(0, c.first-1-after)
		news := c.changes[max(0, after+1-c.first):]
		next := last
		page := news[:min(3, len(news))]
		if len(page) < len(news) {
			next = last - len(news) + len(page)
		}
		respond(w, 200, fmt.Sprintf(`{"changes":[%s],"total":%d,"next":%d,"lost":%d}`, strings.Join(page, ","), len(news), next, lost))
	}
}

// read is one look of the reader, as the addresses of the changes.
func read(t *testing.T, r *changeReader) string {
	t.Helper()
	all, lost, err := r.unread(t.Context())
	var names []string
	for _, c := range all {
		names = append(names, c.Address)
	}
	text := strings.Join(names, " ")
	if lost > 0 {
		text += fmt.Sprintf(" lost %d", lost)
	}
	if err != nil {
		text += " failed"
	}
	return strings.TrimSpace(text)
}

// No change is lost or shown twice, over pages, failures and restarts, also one between two requests of the same look, and one after
// which there are more changes than we had seen (B119).
func TestChangesOnce(t *testing.T) {
	c := &changing{started: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), first: 1}
	server := serving(t, c.ServeHTTP)
	a := &app{server: server, getenv: os.Getenv}
	to, err := a.newClient()
	if err != nil {
		t.Fatal(err)
	}
	r := &changeReader{client: to, filters: new(filters)}
	look := func(want string) {
		t.Helper()
		if got := read(t, r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for i := range 8 {
		c.add(fmt.Sprint("a", i))
	}
	look("a0 a1 a2 a3 a4 a5 a6 a7")
	look("")
	c.add("a8")
	c.down = true
	look("failed")
	c.down = false
	look("a8")
	c.restart()
	for i := range 12 { // more than the nine that were seen
		c.add(fmt.Sprint("b", i))
	}
	look("b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 b10 b11")
	c.restart()
	look("")
	c.add("c0")
	look("c0")
	// A restart in the middle of a look: after the changes were read, and before.
	for _, at := range []int{2, 3} {
		c.add(fmt.Sprint("old", at))
		n := 0
		c.asked = func(string) {
			if n++; n == at {
				c.restart()
				c.add(fmt.Sprint("new", at))
			}
		}
		want := fmt.Sprintf("old%d new%d", at, at)
		if at == 2 { // before they were read: those of the old process are gone with it
			want = "new2"
		}
		look(want)
		c.asked = nil
		look("")
	}
	c.first, c.changes = 41, nil // one was seen, and the others are no longer kept
	c.add("last")
	look("last lost 39")
	r = &changeReader{client: to, filters: new(filters)} // one that has seen none yet misses none
	look("last")
	r = &changeReader{client: to, filters: new(filters), after: 30}
	look("last lost 10")
}

// changes -f goes on over a failure of the server, says so once, and ends with status 0 when it is interrupted. A server that was
// never there is status 3 (B119).
func TestFollow(t *testing.T) {
	c := &changing{started: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), first: 1}
	c.add("first")
	server := serving(t, c.ServeHTTP)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := make(chan string, 100), &lineWriter{}
	in.lines = out
	errors := &lineWriter{lines: make(chan string, 100)}
	ended := make(chan int)
	go func() {
		a := &app{out: in, errors: errors, getenv: func(string) string { return "" }}
		ended <- a.execute(ctx, []string{"changes", "-f", "-o", "json", "--server", server})
	}()
	if got := <-out; !strings.Contains(got, `"address":"first"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
	c.mu.Lock()
	c.down = true
	c.mu.Unlock()
	if got := <-errors.lines; !strings.Contains(got, "busy; trying again") {
		t.Errorf("%q", got)
	}
	c.mu.Lock()
	c.down = false
	c.mu.Unlock()
	if got := <-errors.lines; !strings.Contains(got, "answers again") {
		t.Errorf("%q", got)
	}
	c.add("second")
	if got := <-out; !strings.Contains(got, `"address":"second"`) {
		t.Errorf("%q", got)
	}
	cancel()
	if code := <-ended; code != exitGood {
		t.Errorf("interrupted: %d", code)
	}
	c.mu.Lock()
	c.down = true
	c.mu.Unlock()
	if got := mvctl(t, server, nil, "changes", "-f"); got.code != exitServer {
		t.Errorf("%+v", got)
	}
}

// lineWriter hands over what is written, line by line.
type lineWriter struct {
	text  string
	lines chan string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.text += string(p)
	for {
		line, rest, ok := strings.Cut(w.text, "\n")
		if !ok {
			return len(p), nil
		}
		w.lines <- line + "\n"
		w.text = rest
	}
}
