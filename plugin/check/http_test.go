package check_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
)

func TestStatus(t *testing.T) {
	var code atomic.Int64
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		if readRequest(conn) != nil {
			fmt.Fprintf(conn, "HTTP/1.1 %d Something\r\nContent-Length: 0\r\n\r\n", code.Load())
		}
	})
	byDefault := mustNew(t, "http://")
	byList := mustNew(t, "http://", opt("status", "101,204,404,599"))
	byRange := mustNew(t, "http://", opt("status", "250-303,500-501"))
	for n := 100; n <= 599; n++ {
		code.Store(int64(n))
		final := n == 101 || n >= 200 // another 1xx is followed by nothing here
		for c, want := range map[*check.Check]bool{
			byDefault: n >= 200 && n <= 399,
			byList:    slices.Contains([]int{101, 204, 404, 599}, n),
			byRange:   n >= 250 && n <= 303 || n == 500 || n == 501,
		} {
			got := reason(probe(c, p.addr))
			switch {
			case want && got != "":
				t.Errorf("%s with %d: %s", c, n, got)
			case final && !want && got != fmt.Sprintf("status %d", n):
				t.Errorf("%s with %d: %q", c, n, got)
			case !final && got != "no response: connection closed":
				t.Errorf("%s with %d: %q", c, n, got)
			}
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := listen(t, "127.0.0.1", answer(ok))
	p := listen(t, "127.0.0.1", answer("HTTP/1.1 302 Found\r\nLocation: http://"+elsewhere.addr.String()+"/\r\n\r\n"))
	if err := probe(mustNew(t, "http://"), p.addr); err != nil {
		t.Error(err)
	}
	if got := reason(probe(mustNew(t, "http://", opt("status", "200")), p.addr)); got != "status 302" {
		t.Errorf("%q, want status 302", got)
	}
	if n := len(elsewhere.accepted()); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

// net/http reads the environment once per process, so the test needs a process of its own.
func TestProxiesOfTheEnvironment(t *testing.T) {
	const inner = "CHECK_TEST_PROXIED"
	if os.Getenv(inner) != "" {
		p := listen(t, "127.0.0.1", answer(ok))
		for _, url := range []string{"http://", "http://www.example.org/"} {
			if err := probe(mustNew(t, url), p.addr); err != nil {
				t.Errorf("%s: %v", url, err)
			}
		}
		if n := len(p.accepted()); n != 2 {
			t.Errorf("the peer was asked %d times", n)
		}
		return
	}
	proxy := listen(t, "127.0.0.1", answer(ok))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+proxy.addr.String())
	}
	t.Setenv(inner, "yes")
	out, err := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$").CombinedOutput()
	if err != nil || len(proxy.accepted()) != 0 {
		t.Errorf("proxy asked %d times; %v: %s", len(proxy.accepted()), err, out)
	}
}

// asked returns the request that a peer receives from the check.
func asked(t *testing.T, host string, c *check.Check) (*http.Request, netip.AddrPort) {
	t.Helper()
	requests := make(chan *http.Request, 1)
	p := listen(t, host, func(conn net.Conn) {
		requests <- readRequest(conn)
		fmt.Fprint(conn, ok)
	})
	if err := probe(c, p.addr); err != nil {
		t.Fatal(err)
	}
	return <-requests, p.addr
}

func TestHostOnTheWire(t *testing.T) {
	for _, tt := range []struct{ url, host, want string }{
		{"http://", "127.0.0.1", "ADDR"},
		{"http://:8080/", "127.0.0.1", "ADDR"},
		{"http://", ports.IPv6(t), "ADDR"},
		{"http://www.example.org/", "127.0.0.1", "www.example.org:PORT"},
		{"http://www.example.org:80/", "127.0.0.1", "www.example.org"},
		{"http://www.example.org:8080/", ports.IPv6(t), "www.example.org:8080"},
		{"http://[2001:db8::1]:80/", "127.0.0.1", "[2001:db8::1]"},
	} {
		r, addr := asked(t, tt.host, mustNew(t, tt.url))
		words := strings.NewReplacer("ADDR", addr.String(), "PORT", strconv.Itoa(int(addr.Port())))
		if want := words.Replace(tt.want); r.Host != want {
			t.Errorf("%s at %s: Host %q, want %q", tt.url, addr, r.Host, want)
		}
	}
}

func TestRequest(t *testing.T) {
	plain, _ := asked(t, "127.0.0.1", mustNew(t, "http:////a%2Fb/%7e?x=1&y"))
	if got := plain.Method + " " + plain.RequestURI; got != "GET //a%2Fb/%7e?x=1&y" {
		t.Errorf("request line %q", got)
	}
	if !plain.Close || plain.UserAgent() != "coredns-multivalue" || plain.Header["Accept-Encoding"] != nil {
		t.Errorf("close %t, headers %v", plain.Close, plain.Header)
	}
	r, _ := asked(t, "127.0.0.1", mustNew(t, "http://", opt("method", "POST"), opt("body", "ok"),
		opt("header", "user-agent", "mine"), opt("header", "X-Two", "a"), opt("header", "x-two", "b")))
	if r.Method != "POST" || r.UserAgent() != "mine" || r.Header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("%s, headers %v", r.Method, r.Header)
	}
	if got := r.Header["X-Two"]; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("X-Two %q", got)
	}
}

func TestHead(t *testing.T) {
	p := listen(t, "127.0.0.1", answer("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
	if err := probe(mustNew(t, "http://", opt("method", "HEAD")), p.addr); err != nil {
		t.Error(err)
	}
}

// encodings are the ways in which HTTP can send a body.
var encodings = map[string]func(body string) string{
	"length": func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	},
	"close": func(body string) string { return "HTTP/1.0 200 OK\r\n\r\n" + body },
	"chunked": func(body string) string {
		text := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		for chunk := range slices.Chunk([]byte(body), 999) {
			text += fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
		}
		return text + "0\r\n\r\n"
	},
	"gzip": func(body string) string {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write([]byte(body))
		w.Close()
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n%s", packed.Len(), &packed)
	},
}

func TestBody(t *testing.T) {
	pad := func(before, after int) string {
		return strings.Repeat("x", before) + "needle" + strings.Repeat("y", after)
	}
	for encoding, write := range encodings {
		for _, tt := range []struct {
			name, body string
			want       bool
		}{
			{"alone", "needle", true},
			{"first byte", pad(0, 9000), true},
			{"last byte", pad(5120-6, 0), true},
			{"last byte of more", pad(5120-6, 9000), true},
			{"one byte behind", pad(5120-5, 9000), false},
			{"wholly behind", pad(5120, 9000), false},
			{"over the seam of two chunks", pad(999-3, 3000), true},
			{"absent", "haystack", false},
			{"empty", "", false},
		} {
			t.Run(encoding+"/"+tt.name, func(t *testing.T) {
				p := listen(t, "127.0.0.1", answer(write(tt.body)))
				for option, missing := range map[string]string{
					"body": `body does not contain "needle"`, "body_regex": `body does not match "ne+dle"`,
				} {
					value := map[string]string{"body": "needle", "body_regex": "ne+dle"}[option]
					got := reason(probe(mustNew(t, "http://", opt(option, value)), p.addr))
					if tt.want && got != "" || !tt.want && got != missing {
						t.Errorf("%s: %q", option, got)
					}
				}
			})
		}
	}
}

// $ matches at the end of the body, and at the end of the part that is searched.
func TestBodyRegexSeesTheEnd(t *testing.T) {
	for body, want := range map[string]string{
		"all ok":                      "",
		"ok, not":                     `body does not match "ok$"`,
		strings.Repeat("ok", 3000):    "",
		"ok" + strings.Repeat(".", 9): `body does not match "ok$"`,
	} {
		p := listen(t, "127.0.0.1", answer(encodings["length"](body)))
		if got := reason(probe(mustNew(t, "http://", opt("body_regex", "ok$")), p.addr)); got != want {
			t.Errorf("%.20q: %q, want %q", body, got, want)
		}
	}
}

func TestBodyAndRegexMustBothHold(t *testing.T) {
	for body, want := range map[string]string{
		"ab": "", "a": `body does not match "b"`, "b": `body does not contain "a"`,
	} {
		p := listen(t, "127.0.0.1", answer(encodings["length"](body)))
		c := mustNew(t, "http://", opt("body", "a"), opt("body_regex", "b"))
		if got := reason(probe(c, p.addr)); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
	}
}

func TestInterimResponses(t *testing.T) {
	for n, want := range map[int]string{5: "", 6: "more than 5 interim responses"} {
		flood := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", n)
		p := listen(t, "127.0.0.1", answer(flood+ok))
		if got := reason(probe(mustNew(t, "http://", opt("body", "ok")), p.addr)); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestUnwanted(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		response string
		lines    [][]string
		want     string
	}{
		{head + "\r\nall good", [][]string{opt("no_body", "maintenance")}, ""},
		{head + "\r\nmaintenance", [][]string{opt("no_body", "maintenance")}, `body contains "maintenance"`},
		{head + "\r\ngood, maintenance", [][]string{opt("body", "good"), opt("no_body", "maintenance")}, `body contains "maintenance"`},
		{head + "\r\nbad", [][]string{opt("body", "good"), opt("no_body", "maintenance")}, `body does not contain "good"`},
		{head + "\r\nerror 17", [][]string{opt("no_body_regex", `error \d+$`)}, `body matches "error \\d+$"`},
		{head + "\r\nerror none", [][]string{opt("no_body_regex", `error \d+$`)}, ""},
		{head + "Content-Length: 99\r\n\r\ngood", [][]string{opt("no_body", "maintenance")}, "reading the body: connection closed"},
		{head + "Content-Length: 99\r\n\r\ngood", [][]string{opt("body", "good"), opt("no_body", "maintenance")}, "reading the body: connection closed"},
		{head + "\r\n" + strings.Repeat("x", 5120) + "maintenance", [][]string{opt("no_body", "maintenance")}, ""},
		{head + "\r\n", [][]string{opt("no_body", "maintenance"), opt("no_body_regex", "x")}, ""},
	} {
		p := listen(t, "127.0.0.1", answer(tt.response))
		if got := reason(probe(mustNew(t, "http://", tt.lines...), p.addr)); got != tt.want {
			t.Errorf("%.60q, %v: %q, want %q", tt.response, tt.lines, got, tt.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	p := listen(t, "127.0.0.1", answer("HTTP/1.1 200 OK\r\nX-Role: replica\r\nx-role: primary\r\nEmpty:\r\n\r\n"))
	for _, tt := range []struct {
		lines [][]string
		want  string
	}{
		{[][]string{opt("expect_header", "x-role", "^primary$")}, ""},
		{[][]string{opt("expect_header", "X-Role", "^primary$"), opt("expect_header", "X-Role", "^replica$")}, ""},
		{[][]string{opt("expect_header", "X-Role", "^witness$")}, `header "X-Role" does not match "^witness$"`},
		{[][]string{opt("expect_header", "X-Rule", "")}, `no header "X-Rule"`},
		{[][]string{opt("expect_header", "empty", "^$")}, ""},
		{[][]string{opt("no_header", "X-Role", "^witness$")}, ""},
		{[][]string{opt("no_header", "X-Rule", "")}, ""},
		{[][]string{opt("no_header", "X-Role", "rep")}, `header "X-Role" matches "rep"`},
	} {
		c := mustNew(t, "http://", tt.lines...)
		if got := reason(probe(c, p.addr)); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.lines, got, tt.want)
		}
		if c.Talk() == nil {
			t.Errorf("%v is no conversation", tt.lines)
		}
	}
}

// In a body with an unknown coding nothing can be found or missed, so the check fails: what must
// not occur may be in it (B37).
func TestBodyInAnotherCoding(t *testing.T) {
	for coding, want := range map[string]string{
		"br": `unknown content coding "br"`, "GZIP, gzip": `unknown content coding "gzip, gzip"`,
		"gzip\r\nContent-Encoding: br": `unknown content coding "gzip, br"`, "identity": "", " , Identity": "", "x": `unknown content coding "x"`,
	} {
		p := listen(t, "127.0.0.1", answer("HTTP/1.1 200 OK\r\nContent-Encoding: "+coding+"\r\nContent-Length: 6\r\n\r\nneedle"))
		for _, option := range [][]string{opt("no_body", "hay"), opt("no_body_regex", "hay"), opt("body", "needle"), opt("body_regex", "needle")} {
			wanted := want
			if want != "" {
				wanted = "reading the body: " + want
			}
			if got := reason(probe(mustNew(t, "http://", option), p.addr)); got != wanted {
				t.Errorf("%q, %s: %q, want %q", coding, option[0], got, wanted)
			}
		}
	}
}

// A peer that repeats what it was told is not quoted if that may be a secret, neither by a probe
// nor by a talk.
func TestHTTPKeepsTheSecret(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("probe:hunter2secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const hidden = "malformed response (not shown, it may repeat a secret)"
	for _, tt := range []struct {
		option []string
		want   string
	}{
		{opt("header", "X-Token", "hunter2secret"), hidden},
		{opt("basic_auth", secret), hidden},
		{opt("bearer", secret), hidden},
		{opt("method", "HEAD"), `malformed response "bad token hunter2secret"`}, // which we have not told it
	} {
		p := listen(t, "127.0.0.1", func(c net.Conn) {
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "bad token hunter2secret\r\n\r\n")
		})
		c := mustNew(t, "http://", tt.option)
		if got := reason(probe(c, p.addr)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.option[0], got, tt.want)
		}
		if talk := c.Talk(); talk != nil {
			if _, err := talk.Hear([]byte("bad token hunter2secret\r\n\r\n"), io.EOF); reason(err) != tt.want {
				t.Errorf("%s, by a talk: %q, want %q", tt.option[0], reason(err), tt.want)
			}
		}
	}
}

// A secret may come back after a body, or as the name of its coding. A body that cannot be read
// does not satisfy an expression that matches nothing at all.
func TestUnreadableBody(t *testing.T) {
	const ok, hidden = "HTTP/1.1 200 OK\r\n", "hunter2secret"
	token := opt("header", "X-Token", hidden)
	for _, tt := range []struct {
		response string
		lines    [][]string
		want     string
	}{
		{ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + hidden + "\r\n\r\n", [][]string{token, opt("no_body", "x")}, "reading the body: malformed trailer"},
		{ok + "Content-Encoding: " + hidden + "\r\n\r\n", [][]string{token, opt("no_body", "x")}, "reading the body: unknown content coding"},
		{ok + "Content-Encoding: br\r\n\r\n", [][]string{opt("body_regex", "^$")}, `reading the body: unknown content coding "br"`},
		{ok + "Content-Encoding: gzip\r\n\r\nnot packed", [][]string{opt("body_regex", ".*")}, "reading the body: not gzip"},
	} {
		p := listen(t, "127.0.0.1", answer(tt.response))
		if got := reason(probe(mustNew(t, "http://", tt.lines...), p.addr)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.response, got, tt.want)
		}
	}
}
