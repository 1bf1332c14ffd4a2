package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// acting is a server that keeps one order, by the contract of /v1/force. It stands for what a real server cannot be brought to in time,
// such as a file that another changes between two requests.
type acting struct {
	admin    bool
	changes  int // how often another changes the file before an order arrives
	version  int
	refuse   int // if not 0, the status of every order
	orders   []order
	headers  []http.Header
	fleet    bool
	received string
	more     string // JSON of more fields
}

func (x *acting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tag := func() string { return fmt.Sprintf(`"v%d"`, x.version) }
	show := func() {
		lines := `{"line":1,"state":"down","networks":["192.0.2.9/32"],"reason":"other` + fmt.Sprint(x.version) + `"}`
		for i, o := range x.orders {
			networks, _ := json.Marshal(o.Networks)
			lines += fmt.Sprintf(`,{"line":%d,"state":%q,"networks":%s,"until":"2026-01-02T12:00:00Z","reason":%q}`, i+2, o.State, networks, o.Reason)
		}
		w.Header().Set("ETag", tag())
		respond(w, 200, fmt.Sprintf(`{"file":"/etc/coredns/forced","admin":%t,"writable":true,"fleet":%t,"lines":[%s]%s}`, x.admin, x.fleet, lines, x.more))
	}
	if r.Method == http.MethodGet {
		show()
		return
	}
	if x.changes > 0 {
		x.changes--
		x.version++
	}
	body, _ := io.ReadAll(r.Body)
	x.headers, x.received = append(x.headers, r.Header), string(body)
	switch {
	case x.refuse != 0:
		respond(w, x.refuse, `{"error":"the server says why"}`)
	case r.Header.Get("If-Match") == "":
		respond(w, 428, `{"error":"no If-Match"}`)
	case r.Header.Get("If-Match") != tag():
		respond(w, 412, `{"error":"changed"}`)
	default:
		var o order
		if json.Unmarshal(body, &o) != nil || r.Header.Get("Content-Type") != "application/json" {
			respond(w, 400, `{"error":"bad"}`)
			return
		}
		x.orders = append(x.orders, o)
		x.version++
		show()
	}
}

// An order is sent with the tag of the file and the token, as the contract says, and what is forced then is shown (B119).
func TestAct(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"drain", "down", "up", "release"} {
		x := &acting{admin: true, fleet: state == "up"}
		args := []string{state, "192.0.2.1", "192.0.2.0/28"}
		want := fmt.Sprintf(`{"state":%q,"networks":["192.0.2.1","192.0.2.0/28"],"until":"","reason":""}`, state)
		if state != "release" {
			args = append(args, "--reason", "disk is full", "--until", "+2h")
			want = strings.Replace(want, `"until":"","reason":""`, `"until":"+2h","reason":"disk is full"`, 1)
		}
		got := mvctl(t, serving(t, x.ServeHTTP), map[string]string{"MVCTL_TOKEN_FILE": token}, args...)
		if got.code != 0 || x.received != want || len(x.headers) != 1 || x.headers[0].Get("Authorization") != "Bearer hunter2" || x.headers[0].Get("If-Match") != `"v0"` {
			t.Errorf("%+v\n%+v, want %s", got, x, want)
		}
		if !strings.Contains(got.out, "192.0.2.1 192.0.2.0/28") || !strings.Contains(got.out, "/etc/coredns/forced:2") || strings.Contains(got.out+got.err, "hunter2") {
			t.Errorf("%+v", got)
		}
		if strings.Contains(got.err, "on this server alone") != x.fleet {
			t.Errorf("in a fleet %t: %q", x.fleet, got.err)
		}
	}
}

// A file that another has changed meanwhile is tried once more, with what it has now, and what they changed is told. If it changes each
// time, that is status 4 (B119).
func TestActOnAChangedFile(t *testing.T) {
	for changes, want := range map[int]int{0: 0, 1: 0, 2: 4} {
		x := &acting{admin: true, changes: changes}
		got := mvctl(t, serving(t, x.ServeHTTP), nil, "drain", "192.0.2.1")
		if got.code != want || len(x.headers) != min(2, changes+1) || (len(x.orders) == 1) != (want == 0) {
			t.Errorf("%d changes: %+v, %d orders", changes, got, len(x.headers))
		}
		if told := strings.Contains(got.err, "removed by another: down 192.0.2.9/32 (other0)") && strings.Contains(got.err, "added by another: down 192.0.2.9/32 (other1)"); told != (changes > 0) {
			t.Errorf("%d changes: %q", changes, got.err)
		}
	}
}

// What the server refuses is status 4, or 2 for a request that is wrong, with its words, and is not tried again (B119).
func TestActRefused(t *testing.T) {
	for status, want := range map[int]int{400: 2, 401: 4, 403: 4, 409: 4, 413: 2, 415: 2, 428: 4, 429: 4, 503: 3} {
		x := &acting{admin: true, refuse: status}
		says := "the server says why"
		if status == 401 { // it would speak of HTTP
			says = "use --token-file or MVCTL_TOKEN_FILE"
		}
		if got := mvctl(t, serving(t, x.ServeHTTP), nil, "up", "192.0.2.1"); got.code != want || !strings.Contains(got.err, says) || len(x.headers) != 1 || got.out != "" {
			t.Errorf("%d: %+v, want %d", status, got, want)
		}
	}
	x := new(acting)
	if got := mvctl(t, serving(t, x.ServeHTTP), nil, "up", "192.0.2.1"); got.code != 4 || !strings.Contains(got.err, "add admin FILE") || len(x.headers) != 0 {
		t.Errorf("a listener that only shows: %+v", got)
	}
}

// What a change does not do is told, also to those who want JSON, and lines that the server leaves out are counted (B119).
func TestActNotes(t *testing.T) {
	x := &acting{admin: true, more: `,"more_lines":7,"notes":["no line names 192.0.2.200","b\u001b[31m"]`}
	server := serving(t, x.ServeHTTP)
	for _, output := range []string{"table", "json"} {
		got := mvctl(t, server, nil, "release", "192.0.2.200", "-o", output)
		if got.code != 0 || !strings.Contains(got.err, "mvctl: note: no line names 192.0.2.200\nmvctl: note: b") || strings.Contains(got.err, "\x1b") || strings.Contains(got.out, "and 7 more of its lines\n") != (output == "table") {
			t.Errorf("%s: %+v", output, got)
		}
	}
}

// The token goes only where no one else can read it, and it is not in an error (B119).
func TestTokenInTheClear(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "hunter2", "empty": " \n", "two": "hunter2\nhunter3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for server, name := range map[string]string{"http://192.0.2.1:9253": "good", "http://localhost.example.org": "good", "http://127.0.0.1:1": "empty", "http://[::1]:1": "two"} {
		if got := mvctl(t, server, nil, "up", "192.0.2.1", "--token-file", filepath.Join(dir, name)); got.code != exitUsage || strings.Contains(got.err, "hunter") {
			t.Errorf("%s with %s: %+v", server, name, got)
		}
	}
}

// A line whose time is over is told apart, and where there are other replicas, that a change is about one of them (B119).
func TestEndedLinesAndScope(t *testing.T) {
	const line = `{"line": 1, "state": "down", "networks": ["192.0.2.9/32"], "until": "2026-01-02T12:00:00Z", "reason": "disk"%s}`
	for _, tc := range []struct{ fields, line, out, err string }{
		{`"fleet": false`, `, "ended": true`, "2026-01-02T12:00:00Z (has ended)", ""},
		{`"fleet": false, "scope": "this replica only"`, "", "2026-01-02T12:00:00Z ", "its peers have files of their own"},
		{`"fleet": true, "scope": "this replica only"`, "", "2026-01-02T12:00:00Z ", "the other members of its fleet have files of their own"},
	} {
		server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"x"`)
			respond(w, 200, `{"file": "/etc/coredns/forced", "admin": true, "writable": true, `+tc.fields+`, "lines": [`+fmt.Sprintf(line, tc.line)+`]}`)
		})
		got := mvctl(t, server, nil, "release", "192.0.2.1")
		if got.code != exitGood || !strings.Contains(got.out, tc.out) || strings.Contains(got.out, "ended") != (tc.line != "") {
			t.Errorf("%s: %+v", tc.fields, got)
		}
		if !strings.Contains(got.err, tc.err) || (tc.err == "") != (got.err == "") {
			t.Errorf("%s: said %q, want %q", tc.fields, got.err, tc.err)
		}
	}
}

// A filter that picks no change is told, and nothing else is written for a program (B119).
func TestNoChange(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/summary" {
			respond(w, 200, `{"started": "2026-01-02T12:00:00Z"}`)
			return
		}
		respond(w, 200, `{"changes": [], "total": 0, "next": 7, "lost": 0}`)
	})
	for args, want := range map[string]string{"changes --state drain": "The filter picks none.\n", "changes": "", "changes --state drain -o json": ""} {
		if got := mvctl(t, server, nil, strings.Fields(args)...); got.code != exitGood || got.out != want {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
}
