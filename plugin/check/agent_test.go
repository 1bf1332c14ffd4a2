package check_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// agentLines are lines of agents, and what they mean. TestAgentAsHAProxy holds the same table against HAProxy, except for
// weights over 100 %.
var agentLines = []struct {
	line string
	want report.Report // without Decides
}{
	{"", report.Report{}},
	{"up", report.Report{Health: "up"}},
	{"UP", report.Report{Health: "up"}},
	{"down", report.Report{Health: "down"}},
	{"Down", report.Report{Health: "down"}},
	{"fail", report.Report{Health: "fail"}},
	{"stopped", report.Report{Health: "stopped"}},
	{"ready", report.Report{Admin: "ready"}},
	{"drain", report.Report{Admin: "drain"}},
	{"MAINT", report.Report{Admin: "maint"}},
	{"75%", report.Report{HasWeight: true, Weight: 75}},
	{"0%", report.Report{HasWeight: true}},
	{"100%", report.Report{HasWeight: true, Weight: 100}},
	{"007%", report.Report{HasWeight: true, Weight: 7}},
	{"up,ready 50%", report.Report{Health: "up", Admin: "ready", HasWeight: true, Weight: 50}},
	{"up,\tready,,  20%\t", report.Report{Health: "up", Admin: "ready", HasWeight: true, Weight: 20}},
	{"  drain", report.Report{Admin: "drain"}},
	{"down up", report.Report{Health: "up"}},
	{"up down", report.Report{Health: "down"}},
	{"maint drain", report.Report{Admin: "drain"}},
	{"maint ready", report.Report{Admin: "ready"}},
	{"10% 20%", report.Report{HasWeight: true, Weight: 20}},
	{"20%,10% ready", report.Report{HasWeight: true, Weight: 10, Admin: "ready"}},
	{"fail #disk full", report.Report{Health: "fail", Reason: `"disk full"`}},
	{"down # up", report.Report{Health: "down", Reason: `"up"`}},
	{"#down", report.Report{Reason: `"down"`}},
	{"50% maxconn:30", report.Report{HasWeight: true, Weight: 50}},
	{"maxconn:30 down", report.Report{Health: "down"}},
	{"down#x", odd(report.Report{}, report.OddWord, `an unknown word "down#x", which changes nothing`)},
	{"downer", odd(report.Report{}, report.OddWord, `an unknown word "downer", which changes nothing`)},
	{"hello down", odd(report.Report{Health: "down"}, report.OddWord, `an unknown word "hello", which changes nothing`)},
	{"75", odd(report.Report{}, report.OddWord, `an unknown word "75", which changes nothing`)},
	{"%", odd(report.Report{}, report.OddWord, `an unknown word "%", which changes nothing`)},
	{"-5%", odd(report.Report{}, report.OddWord, `an unknown word "-5%", which changes nothing`)},
	{"50%%", odd(report.Report{}, report.OddWeight, `an invalid weight "50%%", which changes nothing: use 0 to 100`)},
	{"5a%", odd(report.Report{}, report.OddWeight, `an invalid weight "5a%", which changes nothing: use 0 to 100`)},
	{"50%x", odd(report.Report{}, report.OddWeight, `an invalid weight "50%x", which changes nothing: use 0 to 100`)},
	{"30% 50%x", odd(report.Report{}, report.OddWeight, `an invalid weight "50%x", which changes nothing: use 0 to 100`)},
	{"down;up", odd(report.Report{}, report.OddWord, `an unknown word "down;up", which changes nothing`)},
	{"150%", odd(report.Report{HasWeight: true, Weight: 100}, report.OddExcess, `a weight over 100 % "150%", which counts as 100`)},
	{"99999999999999999999%", odd(report.Report{HasWeight: true, Weight: 100}, report.OddExcess, `a weight over 100 % "99999999999999999999%", which counts as 100`)},
}

func odd(r report.Report, kind report.Oddity, text string) report.Report {
	r.Odd, r.OddKind = text, kind
	return r
}

// ask probes and returns what the backend says of itself.
func ask(c *check.Check, addr netip.AddrPort) (report.Report, error) {
	var r report.Report
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.Probe(check.Listen(ctx, &r), addr)
	return r, err
}

// Each line means what it means to HAProxy (B100). The probe passes unless the line takes the backend out.
func TestAgentLines(t *testing.T) {
	for _, tc := range agentLines {
		for _, end := range []string{"\n", "\r\n", "\r", "\nmaint\n"} {
			p := listen(t, "127.0.0.1", say(tc.line+end))
			want := tc.want
			want.Decides = true
			c := mustNew(t, "agent://:1")
			got, err := ask(c, p.addr)
			if got != want {
				t.Errorf("%q: %+v, want %+v", tc.line+end, got, want)
			}
			if (err != nil) != (want.Refusal() != "") || errors.Is(err, check.ErrAbstain) {
				t.Errorf("%q: %v", tc.line+end, err)
			}
			if again := probe(c, p.addr); reason(again) != reason(err) {
				t.Errorf("%q: without a listener %v, with one %v", tc.line+end, again, err)
			}
		}
	}
}

// Without a whole line an agent has said nothing. Beside other checks that proves nothing, alone it is a failure (B100).
func TestSilentAgent(t *testing.T) {
	long := strings.Repeat("x", 5000) + "\n"
	for _, tc := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"closed", func(net.Conn) {}, "no response: connection closed"},
		{"half a line", func(conn net.Conn) { fmt.Fprint(conn, "dow") }, "incomplete line: connection closed"},
		{"half a line, then silence", func(conn net.Conn) { fmt.Fprint(conn, "down"); hold(conn) }, "incomplete line: timed out"},
		{"silence", hold, "no response: timed out"},
		{"a long line", say(long), "line longer than 4 KiB"},
	} {
		p := listen(t, "127.0.0.1", tc.serve)
		c := mustNew(t, "agent://:1")
		err := probeFor(c.Alone(), p.addr, brief)
		if reason(err) != tc.want || errors.Is(err, check.ErrAbstain) {
			t.Errorf("%s, alone: %v, want %s", tc.name, err, tc.want)
		}
		err = probeFor(c, p.addr, brief)
		if reason(err) != "could not ask: no word from the agent: "+tc.want || !errors.Is(err, check.ErrAbstain) || !errors.Is(err, check.ErrSilent) {
			t.Errorf("%s, beside others: %v", tc.name, err)
		}
	}
	dead := refusing(t)
	if err := probe(mustNew(t, "agent://:1"), dead); reason(err) != "could not ask: no word from the agent: connection refused" {
		t.Error(err)
	}
	if err := probe(mustNew(t, "agent://:1").Alone(), dead); reason(err) != "connection refused" {
		t.Error(err)
	}
	if err := probe(mustNew(t, "agent://:1", opt("from", "192.0.2.1")), dead); !errors.Is(err, check.ErrAbstain) || errors.Is(err, check.ErrSilent) {
		t.Errorf("a fault of this host is blamed on the agent: %v", err)
	}
}

// A text is sent before the line is read. It may be a secret, so nothing of the line is repeated then.
func TestAgentSends(t *testing.T) {
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		got := make([]byte, 5)
		n, _ := conn.Read(got)
		fmt.Fprintf(conn, "maint %s 12%s%% #%s\n", got[:n], got[:n], got[:n])
	})
	c := mustNew(t, "agent://:1", opt("send", `web1\n`))
	r, err := ask(c, p.addr)
	if want := (report.Report{Decides: true, Admin: "maint", Odd: "an unknown word, which changes nothing"}); r != want || reason(err) != "backend says maint" {
		t.Errorf("%+v, %v, want %+v", r, err, want)
	}
	if c.String() != "agent://:1 send …" || c.Alone().String() != "agent://:1 send … alone" || c.Alone().Secret() != c.Secret() {
		t.Errorf("%s, %s", c, c.Alone())
	}
}

// What makes no sense for an agent is refused, with what would be right.
func TestAgentRefused(t *testing.T) {
	for _, tc := range []struct {
		url   string
		lines [][]string
		want  string
	}{
		{"agent://", nil, "agent needs a port, that of the agent and not of the service: write it as in agent://:9777"},
		{"agent://web:1", nil, "agent does not use a host: write agent://:9777"},
		{"agent://:1/x", nil, "agent takes no path and no query: write agent://:9777"},
		{"agent://:1", [][]string{opt("invert")}, "option invert is for dns, dot, exec, grpc, grpcs, http, https, icmp, mysql, postgres, redis, rediss, tcp, tls: agent takes connect_timeout, first_byte_timeout, from, proxy_protocol, send"},
		{"agent://:1", [][]string{opt("send", "a"), opt("send", "b")}, "option send: an agent reads one text: keep one"},
		{"http://", [][]string{opt("weight_header", "X-Weight"), opt("invert")}, "option weight_header: cannot be used together with invert: remove one of the two"},
		{"http://", [][]string{opt("weight_header", "a b")}, `option weight_header: invalid header name "a b": use one such as X-Weight`},
		{"http://", [][]string{opt("weight_header", "trailer")}, "option weight_header: header Trailer is about the connection and has no weight: use one such as X-Weight"},
		{"tcp://:1", [][]string{opt("weight_header", "X-Weight")}, "option weight_header is for http, https: tcp takes "},
	} {
		if _, err := check.New(tc.url, options(tc.lines...)...); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s %v: %v, want %s", tc.url, tc.lines, err, tc.want)
		}
	}
}

// The header of a good answer is the weight, over HTTP/1.1 and HTTP/2 alike. Without one it is 100, and what is no number from
// 0 to 100 says nothing (B101).
func TestWeightHeader(t *testing.T) {
	const bad = ", which changes nothing: use 0 to 100"
	for _, tc := range []struct {
		head string // further lines of the head
		want report.Report
	}{
		{"", report.Report{HasWeight: true, Weight: 100}},
		{"X-Weight: 50", report.Report{HasWeight: true, Weight: 50}},
		{"x-weight: 50%", report.Report{HasWeight: true, Weight: 50}},
		{"X-Weight:  7 % ", report.Report{HasWeight: true, Weight: 7}},
		{"X-Weight: 0", report.Report{HasWeight: true}},
		{"X-Weight: 100", report.Report{HasWeight: true, Weight: 100}},
		{"X-Weight: 10\r\nX-Weight: 20", report.Report{HasWeight: true, Weight: 20}},
		{"X-Weight: 101", odd(report.Report{}, report.OddWeight, `an invalid weight "101"`+bad)},
		{"X-Weight: -1", odd(report.Report{}, report.OddWeight, `an invalid weight "-1"`+bad)},
		{"X-Weight: 5.5", odd(report.Report{}, report.OddWeight, `an invalid weight "5.5"`+bad)},
		{"X-Weight:", odd(report.Report{}, report.OddWeight, `an invalid weight ""`+bad)},
		{"X-Weight: 50%%", odd(report.Report{}, report.OddWeight, `an invalid weight "50%%"`+bad)},
		{"X-Weight: full", odd(report.Report{}, report.OddWeight, `an invalid weight "full"`+bad)},
	} {
		head := tc.head
		if head != "" {
			head += "\r\n"
		}
		p := listen(t, "127.0.0.1", answer("HTTP/1.1 200 OK\r\n"+head+"Content-Length: 2\r\n\r\nok"))
		for _, c := range []*check.Check{mustNew(t, "http://", opt("weight_header", "x-weight")), mustNew(t, "http://", opt("weight_header", "X-Weight"), opt("body", "ok"))} {
			if got, err := ask(c, p.addr); err != nil || got != tc.want {
				t.Errorf("%s: %q: %+v, %v, want %+v", c, tc.head, got, err, tc.want)
			}
			if c.Talk() != nil || !c.Reports() {
				t.Errorf("%s: asked by the event loop, or not listened to", c)
			}
		}
		failing := mustNew(t, "http://", opt("weight_header", "X-Weight"), opt("status", "204"))
		if got, err := ask(failing, p.addr); reason(err) != "status 200" || got != (report.Report{}) {
			t.Errorf("a failure: %q: %+v, %v", tc.head, got, err)
		}
		if got, err := ask(mustNew(t, "http://"), p.addr); err != nil || got != (report.Report{}) {
			t.Errorf("without the option: %+v, %v", got, err)
		}
	}
	p := listen(t, "127.0.0.1", answer("HTTP/1.1 200 OK\r\nX-Weight: secret\r\n\r\n"))
	secret := mustNew(t, "http://", opt("weight_header", "X-Weight"), opt("header", "X-Token", "secret"))
	if got, _ := ask(secret, p.addr); got.Odd != "an invalid weight"+bad {
		t.Errorf("a secret is repeated: %q", got.Odd)
	}
}
