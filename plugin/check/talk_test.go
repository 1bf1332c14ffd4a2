package check

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// ends are the ways in which a conversation can end; nil is none yet.
var ends = []error{nil, io.EOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, os.ErrDeadlineExceeded}

// silence is a reader that has no more for now. Reading from it would have to wait.
type silence struct{ asked bool }

func (s *silence) Read([]byte) (int, error) {
	s.asked = true
	return 0, io.EOF
}

// FuzzHear lets a peer send anything, in pieces of any size, and end in every way. A talk gives the
// result of judgeResponse, as early as that does and no earlier, and reads no more than a probe.
func FuzzHear(f *testing.F) {
	for _, seed := range []string{
		"", "HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok",
		"SSH-2.0-\x1b[2J\r\n", "no\n", "HTTP/9 9 9\n", "HTTP/1.1 2000 OK\n", "HTTP/1.1 200 OK\nA B\n", "HTTP/1.1 200 OK\n A: B\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 ", "\n", "HTTP/1.1 200 OK\nA: b\n c\n\n",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 12000), "HTTP/1.1 200 " + strings.Repeat("x", 1<<16),
	} {
		for size := range 3 {
			f.Add([]byte(seed), uint16(size), uint8(size+1))
		}
	}
	talks := []*Talk{newTalk(build(f, "http://")), newTalk(build(f, "http://", Option{"method", []string{"HEAD"}}, Option{"hold", nil})),
		newTalk(build(f, "http://", Option{"status", []string{"101,200-599"}}))}
	f.Fuzz(func(t *testing.T, data []byte, size uint16, end uint8) {
		ended := ends[int(end)%len(ends)]
		for _, talk := range talks {
			received := 0
			over, result := false, error(nil)
			for part := range slices.Chunk(data, int(size)+max(1, len(data)/20)) {
				received += len(part)
				quiet := new(silence)
				_, want := talk.http.judgeResponse(io.MultiReader(bytes.NewReader(data[:received]), quiet))
				if over, result = talk.Hear(data[:received], nil); over == quiet.asked {
					t.Fatalf("%q: over %t, and judge had to wait %t", data[:received], over, quiet.asked)
				}
				if over {
					agree(t, data[:received], result, want)
					break
				}
			}
			if !over && received >= responseLimit {
				t.Fatalf("not over after %d bytes", received)
			}
			if !over && ended != nil {
				if over, result = talk.Hear(data, ended); !over {
					t.Fatalf("%q: not over after %v", data, ended)
				}
				_, want := talk.http.judgeResponse(io.MultiReader(bytes.NewReader(data), failing{ended}))
				agree(t, data, result, want)
			}
			if result != nil {
				decent(t, result.Error())
			}
			holds := talk.Holds(data)
			// What is asked again is judged in the same way, and what is left is complete only if all was read.
			over, result = talk.Hear(data, nil)
			alsoOver, stays, complete, same := talk.HearAll(data, nil)
			if over != alsoOver || over && fmt.Sprint(result) != fmt.Sprint(same) || (stays || complete) && (same != nil || !holds) || complete && !stays {
				t.Fatalf("%q: over %t, %v; all: over %t, %v, stays %t, complete %t; holds %t", data, over, result, alsoOver, same, stays, complete, holds)
			}
			if complete {
				if _, _, more, _ := talk.HearAll(append(data[:len(data):len(data)], 'x'), nil); more {
					t.Fatalf("%q: complete, and so is it with something after it", data)
				}
			}
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func agree(t *testing.T, data []byte, got, want error) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%q: %v, and by judge %v", data, got, want)
	}
}

// Who keeps the connection open, by the last of the responses (RFC 9112, 9.3).
func TestHolds(t *testing.T) {
	talk := newTalk(build(t, "http://", Option{"hold", nil}))
	for response, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":                                             true,
		"HTTP/1.1 204 No\r\n\r\n":                                                                    true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                                      true,
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok":                        false,
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\nok":                     false,
		"HTTP/1.1 200 OK\r\n\r\nok":                                                                  false, // its end is the body's
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok":                                             false,
		"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                      true,
		"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n": false,
	} {
		if got := talk.Holds([]byte(response)); got != want {
			t.Errorf("%q: %t", response, got)
		}
	}
	if !newTalk(nil).Holds(nil) {
		t.Error("a tcp check holds nothing")
	}
}

// Which checks are talks: not those in TLS or about a body.
func TestTalks(t *testing.T) {
	for _, tt := range []struct {
		url     string
		options []Option
		want    bool
	}{
		{"tcp://:1", nil, true},
		{"http://", nil, true},
		{"http://", []Option{{"method", []string{"POST"}}, {"header", []string{"A", "b"}}}, true},
		{"http://", []Option{{"body", []string{"ok"}}}, false},
		{"http://", []Option{{"body_regex", []string{"ok"}}}, false},
		{"https://www.example.org/", nil, false},
	} {
		c, err := New(tt.url, tt.options...)
		if err != nil || (c.Talk() != nil) != tt.want {
			t.Errorf("%s %v: %t, %v", tt.url, tt.options, c.Talk() != nil, err)
		}
	}
}

// recorder is a connection that records what is sent.
type recorder struct{ bytes.Buffer }

func (*recorder) Read([]byte) (int, error) { return 0, io.EOF }

// A talk sends exactly the bytes that a probe sends.
func TestTalkRequest(t *testing.T) {
	for _, url := range []string{"http://", "http://:8080/a%2Fb?x=1&y", "http://www.example.org/", "http://www.example.org:80/", "http://my_svc.default:8080//",
		"http://[2001:db8::1]:80/", "http://host.invalid/host.invalid"} {
		for _, options := range [][]Option{nil, {{"hold", nil}}, {{"method", []string{"POST"}}}, {{"method", []string{"HEAD"}}, {"hold", nil}},
			{{"header", []string{"User-Agent", ""}}}, {{"header", []string{"Accept", "host.invalid"}}, {"header", []string{"X-A", "b"}}}} {
			h := buildHeld(t, url, options)
			for _, addr := range []string{"192.0.2.1:80", "192.0.2.1:8080", "[2001:db8::1]:80", "[2001:db8::1]:443", "[fe80::1%eth0]:8080", "[::ffff:192.0.2.1]:80"} {
				at := netip.MustParseAddrPort(addr)
				var sent recorder
				request, err := h.requestFor(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = h.exchangeHTTP1(&sent, request)
				if got := newTalk(h).Request(at); !bytes.Equal(got, sent.Bytes()) {
					t.Errorf("%s %v at %s:\n%q\nwant\n%q", url, options, addr, got, sent.String())
				}
			}
		}
	}
}

// buildHeld is build with what New does for hold.
func buildHeld(t *testing.T, url string, options []Option) *httpCheck {
	t.Helper()
	h := build(t, url, options...)
	hold := slices.ContainsFunc(options, func(o Option) bool { return o.Name == "hold" })
	if h.request.Close == hold {
		t.Fatalf("hold %t, close %t", hold, h.request.Close)
	}
	return h
}

// A failure before anything is received has the same reason as with Probe.
func TestWordsOfEnds(t *testing.T) {
	talk := newTalk(build(t, "http://"))
	for _, tt := range []struct {
		got  error
		want string
	}{
		{talk.Unconnected(netip.AddrPort{}, os.ErrDeadlineExceeded), "connect: timed out"},
		{talk.Unconnected(netip.AddrPort{}, syscall.ECONNREFUSED), "connection refused"},
		{talk.Unsent(os.ErrDeadlineExceeded), "request not sent: timed out"},
		{talk.Unsent(syscall.EPIPE), "request not sent: connection reset"},
	} {
		if tt.got.Error() != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
