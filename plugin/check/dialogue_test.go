package check_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// script plays a peer: it writes "> text" byte by byte, and must read "< text".
func script(t *testing.T, lines ...string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for _, line := range lines {
			text, heard := strings.CutPrefix(line, "< ")
			if heard {
				buf := make([]byte, len(text))
				if _, err := io.ReadFull(r, buf); err != nil || string(buf) != text {
					t.Errorf("the peer heard %q, %v; want %q", buf, err, text)
					return
				}
				continue
			}
			for _, b := range []byte(strings.TrimPrefix(line, "> ")) {
				conn.Write([]byte{b})
			}
		}
		hold(conn)
	}
}

func TestDialogue(t *testing.T) {
	for name, tt := range map[string]struct {
		peer  []string
		lines [][]string
	}{
		"banner":              {[]string{"> 220 mail\r\n"}, [][]string{opt("expect", "220 ")}},
		"bytes":               {[]string{"< \x00\xff\\\t", "> \x01\x02"}, [][]string{opt("send", `\x00\xFF\\\t`), opt("expect", `\x01\x02`)}},
		"one after the other": {[]string{"> aab"}, [][]string{opt("expect", "a"), opt("expect", "a"), opt("expect", "b")}},
		"overlap":             {[]string{"> aaab"}, [][]string{opt("expect", "aab")}},
		"line":                {[]string{"> 250-a\r\n250-b\r\n250 c\r\nz"}, [][]string{opt("expect_regex", "^250 c$"), opt("expect", "z")}},
		"line, then the rest": {[]string{"> 250 a 250 b\r\n250 c\r\n"}, [][]string{opt("expect_regex", "^250 a"), opt("expect_regex", "^250 c")}},
		"turns": {[]string{"> 220 x\r\n", "< EHLO a\r\n", "> 250-x\r\n250 y\r\n", "< QUIT\r\n", "> 221 z\r\n"}, [][]string{
			opt("expect_regex", "^220 "), opt("send", `EHLO a\r\n`), opt("expect_regex", "^250 "), opt("send", `QUIT\r\n`), opt("expect", "221")}},
		"speak first": {[]string{"< PING\r\n", "> +PONG\r\n"}, [][]string{opt("send", `PING\r\n`), opt("expect", `+PONG\r\n`)}},
	} {
		p := listen(t, "127.0.0.1", script(t, tt.peer...))
		if err := probe(mustNew(t, "tcp://:1", tt.lines...), p.addr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The last line may end with the connection.
func TestDialogueAtTheEnd(t *testing.T) {
	p := listen(t, "127.0.0.1", func(conn net.Conn) { io.WriteString(conn, "no\r\nyes") })
	if err := probe(mustNew(t, "tcp://:1", opt("expect_regex", "^yes$")), p.addr); err != nil {
		t.Error(err)
	}
	cr := listen(t, "127.0.0.1", func(conn net.Conn) { io.WriteString(conn, "no\r\nyes\r") })
	if err := probe(mustNew(t, "tcp://:1", opt("expect_regex", "^yes$")), cr.addr); err != nil {
		t.Errorf("with half an end of its own: %v", err)
	}
	got := reason(probe(mustNew(t, "tcp://:1", opt("expect_regex", "^ye$")), p.addr))
	if want := `step 1, expect_regex "^ye$": connection closed, after "yes"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDialogueFails(t *testing.T) {
	expect, say := opt("expect", "250"), opt("send", `AUTH PLAIN s3cret\r\n`)
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		lines [][]string
		limit time.Duration
		want  string
	}{
		"silent":       {hold, [][]string{expect}, brief, `step 1, expect "250": timed out`},
		"other words":  {script(t, "> 554 no\r\n"), [][]string{expect}, brief, `step 1, expect "250": timed out, after "554 no"`},
		"closed":       {func(conn net.Conn) { io.WriteString(conn, "421 busy\r\n") }, [][]string{expect}, patient, `step 1, expect "250": connection closed, after "421 busy"`},
		"reset":        {reset, [][]string{expect}, patient, `(step 1, expect "250"|connect): connection reset`},
		"later":        {script(t, "> 250 ok\r\n", "< AUTH PLAIN s3cret\r\n", "> 535 no\r\n"), [][]string{expect, say, expect}, brief, `step 3, expect "250": timed out, after an answer with code 535`},
		"echo":         {func(conn net.Conn) { io.Copy(conn, conn) }, [][]string{say, expect}, brief, `step 2, expect "250": timed out, after an answer that is not shown`},
		"slow":         {trickle(strings.Repeat("no ", 1000)), [][]string{expect}, brief, `step 1, expect "250": timed out(, after "[no ]+")?`},
		"endless":      {babble("no"), [][]string{expect}, patient, `step 1, expect "250": longer than 64 KiB, after "[no]+"…`},
		"endless line": {babble("no"), [][]string{opt("expect_regex", "^250")}, patient, `step 1, expect_regex "\^250": longer than 64 KiB, after "[no]+"…`},
		"endless lines": {babble("no\n"), [][]string{opt("expect_regex", "^250")}, patient,
			`step 1, expect_regex "\^250": longer than 64 KiB(, after "no?")?`},
		"wild words":  {script(t, "> \x1b[2J\r\n"), [][]string{expect}, brief, `step 1, expect "250": timed out, after "\\x1b\[2J"`},
		"not tls":     {script(t, "> 250 ok\r\nnot tls\r\n"), [][]string{expect, opt("starttls"), opt("insecure")}, patient, `step 2, starttls: tls handshake: peer does not speak tls`},
		"endless tls": {babble("250 "), [][]string{expect, opt("starttls"), opt("insecure")}, patient, `step 2, starttls: tls handshake: longer than 64 KiB`},
		"stalled tls": {script(t, "> 250 ok\r\n"), [][]string{expect, opt("starttls"), opt("insecure")}, brief, `step 2, starttls: tls handshake: timed out`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, "127.0.0.1", tt.serve)
			c := mustNew(t, "tcp://:1", tt.lines...)
			patiently(t, tt.limit, tt.want, func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
		})
	}
}

// Nothing that was sent shows up in a reason, however the peer repeats it.
func TestDialogueKeepsTheSecret(t *testing.T) {
	for _, tt := range []struct{ send, answer, want string }{
		{`{"password":"hunter2secret"}\r\n`, "error: bad password hunter2secret\r\n", "an answer that is not shown"},
		{`AUTH probe:hunter2secret\r\n`, "535 hunter2secret is wrong\r\n", "an answer with code 535"},
		{`PASS hunter2secret\r\n`, "530-unknown PASS HUNTER2SECRE...\r\n", "an answer with code 530"},
		{`AUTH PLAIN AHByb2JlAGh1bnRlcjJzZWNyZXQ=\r\n`, "535 no hunter2secret\r\n", "an answer with code 535"},
		{`PIN 1234\r\n`, "123 is no pin\r\n", "an answer that is not shown"},
		{`PIN 1234\r\n`, "12345 is no pin\r\n", "an answer that is not shown"},
	} {
		p := listen(t, "127.0.0.1", func(c net.Conn) { bufio.NewReader(c).ReadString('\n'); io.WriteString(c, tt.answer) })
		got := reason(probe(mustNew(t, "tcp://:1", opt("send", tt.send), opt("expect", "+OK")), p.addr))
		if want := `step 2, expect "+OK": connection closed, after ` + tt.want; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// babble repeats a text until the connection is closed.
func babble(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for many := strings.Repeat(text, 1000); ; {
			if _, err := io.WriteString(conn, many); err != nil {
				return
			}
		}
	}
}

// The number of steps is bounded.
func TestDialogueOfManySteps(t *testing.T) {
	lines := slices.Repeat([][]string{opt("send", "x")}, 64)
	mustNew(t, "tcp://:1", lines...)
	if c, err := check.New("tcp://:1", options(append(lines, opt("send", "x"))...)...); err == nil {
		t.Errorf("%s is accepted", c)
	}
}

// A server announces TLS in a line, any part of which the check may expect, or in a single byte.
func TestStartTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, _ := sign(t, template("mail.example.org"), ca)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tt := range []struct{ announce, expect, regex string }{
		{"220 ready\r\n", "220", ""}, {"220 ready\r\n", `220 ready\r\n`, ""}, {"220 ready\r\n", "", "^220 "}, {"S", "S", ""},
	} {
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			script(t, "< STARTTLS\r\n", "> "+tt.announce)(&once{Conn: conn})
			overTLS(config, script(t, "< EHLO\r\n", "> 250 inside\r\n"))(conn)
		})
		step := opt("expect", tt.expect)
		if tt.regex != "" {
			step = opt("expect_regex", tt.regex)
		}
		lines := [][]string{opt("send", `STARTTLS\r\n`), step, opt("starttls"), opt("send", `EHLO\r\n`), opt("expect", "250 inside"), opt("ca", ca.file(t))}
		if err := probe(mustNew(t, "tcp://mail.example.org:1", lines...), p.addr); err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
		want := `step 3, starttls: tls handshake: certificate is for "mail.example.org", not "other.example.org"`
		if got := reason(probe(mustNew(t, "tcp://other.example.org:1", lines...), p.addr)); got != want {
			t.Errorf("%+v: %q, want %q", tt, got, want)
		}
	}
}

// once is a connection for a script: it ends when the script is over.
type once struct {
	net.Conn
	read int
}

func (o *once) Read(p []byte) (int, error) {
	if o.read == len("STARTTLS\r\n") {
		return 0, io.EOF
	}
	n, err := o.Conn.Read(p[:min(len(p), len("STARTTLS\r\n")-o.read)])
	o.read += n
	return n, err
}

func TestReset(t *testing.T) {
	for _, lines := range [][][]string{{opt("reset")}, {opt("reset"), opt("expect", "220")}} {
		end := make(chan error, 1)
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			_, err := fmt.Fprint(conn, "220 hello\r\n") // which may meet the reset already, and then nothing else does
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			end <- err
		})
		if err := probe(mustNew(t, "tcp://:1", lines...), p.addr); err != nil {
			t.Error(err)
		}
		if err := <-end; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: the peer saw %v, not a reset", lines, err)
		}
	}
}
