package check

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/net/http2"
)

// FuzzUnescape: unescape reads what escape has written, and that is printable.
func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"", `a\r\n\t\\\x00\xFFé`, `\`, `\x`, `\x4`, `\xg0`, "\xff", "\ufffd\u202e\x1b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, raw := range [][]byte{[]byte(text), must(unescape(text))} {
			again, err := unescape(escape(raw))
			if err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%q became %s, then %q, %v", raw, escape(raw), again, err)
			}
			if shown := escape(raw); strings.Trim(quote(shown), `"`) == "" && len(raw) > 0 {
				t.Errorf("%q is shown as nothing", raw)
			}
		}
	})
}

func must(raw []byte, err error) []byte {
	if err != nil {
		return nil
	}
	return raw
}

// half is a connection whose written bytes are dropped.
type half struct {
	io.Reader
	io.Writer
}

// FuzzDialogue lets a peer send anything, in pieces of any size. The result does not depend on the
// pieces, no more is read than promised, and the reason is fit for a log.
func FuzzDialogue(f *testing.F) {
	for _, seed := range []string{"", "220 a\r\n250 b\r\n", "250-a\r\n250-b\r\n250 c\r\nbye", "\n\n\n", "a220", strings.Repeat("x", 1<<16), "secret 250", "220 250 secret\r\n", "250 \xff"} {
		f.Add([]byte(seed), "220", "^250 ", uint16(3))
		f.Add([]byte(seed), `b\r\n`, "[a-c]$", uint16(1000))
		f.Add([]byte(seed+"220 go ahead\r\n\x16\x03\x01"), "220", "^220", uint16(2))
		f.Add([]byte(seed+"S\x15\x03\x01\n"), "S", "^S", uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, text, regex string, size uint16) {
		s := new(settings)
		for i, o := range []Option{{"expect", []string{text}}, {"send", []string{"secret words"}}, {"expect_regex", []string{regex}}, {"expect", []string{text}}} {
			if s.addOption(i, o, &schemes[slices.IndexFunc(schemes, func(s scheme) bool { return s.name == "tcp" })]) != nil {
				return
			}
		}
		var results []string
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data)),
			&pieces{data, int(size) + 1}} {
			count := &counter{r: r}
			d := &dialogue{conn: half{count, io.Discard}, left: responseLimit}
			err := d.runSteps(context.Background(), s.steps)
			if count.n > responseLimit {
				t.Errorf("read %d bytes", count.n)
			}
			result := ""
			if err != nil {
				result = err.Error()
				decent(t, result)
			}
			results = append(results, result)
		}
		if len(slices.Compact(results)) != 1 {
			t.Errorf("the result turns on the pieces: %q", results)
		}
		beginsTLS(t, data, must(unescape(text)), int(size)+1)
		said := bytes.Contains(data, []byte("secret")) && strings.HasPrefix(results[0], "step 1") // by the peer, before us
		if !said && strings.Contains(results[0], "secret") && !strings.Contains(text+regex, "secret") {
			t.Errorf("what was sent is told: %s", results[0])
		}
	})
}

// beginsTLS has a peer announce TLS by a text, and checks what the TLS layer reads: what follows
// the end of the line, unless TLS follows the text at once. That does not depend on the pieces
// either.
func beginsTLS(t *testing.T, data, text []byte, size int) {
	t.Helper()
	if len(text) == 0 || len(data) >= responseLimit {
		return
	}
	for _, size := range []int{1, size, len(data) + 1} {
		d := &dialogue{conn: half{&pieces{data, size}, io.Discard}, left: responseLimit}
		if d.expect(text) != nil {
			return
		}
		rest := data[bytes.Index(data, text)+len(text):]
		tls := len(rest) > 0 && (rest[0] == 0x15 || rest[0] == 0x16)
		if i := bytes.IndexByte(rest, '\n'); !bytes.HasSuffix(text, []byte("\n")) && !tls {
			rest = rest[i+1:]
			if i < 0 {
				rest = nil
			}
		}
		got, err := io.ReadAll(&startTLSConn{Conn: quietPeer{Reader: d.conn}, clear: d})
		if err != nil || !bytes.Equal(got, rest) {
			t.Errorf("behind %q of %q in pieces of %d: %q, %v, want %q", text, data, size, got, err, rest)
		}
	}
}

// pieces reads in pieces of one size.
type pieces struct {
	data []byte
	size int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.data[:min(len(p.data), p.size)])
	p.data = p.data[n:]
	return n, nil
}

// FuzzHTTP2 lets a peer send any frames, in pieces of any size. There is no panic, no more bytes
// are read than promised, and the reason is fit for a log.
func FuzzHTTP2(f *testing.F) {
	frames := func(write func(*http2.Framer)) []byte {
		var out bytes.Buffer
		framer := http2.NewFramer(&out, nil)
		framer.AllowIllegalWrites = true
		write(framer)
		return out.Bytes()
	}
	head := []byte{0x88} // status 200, in the table that everybody has
	for _, write := range []func(*http2.Framer){
		func(f *http2.Framer) {},
		func(f *http2.Framer) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true})
			_ = f.WriteData(1, true, []byte("ok"))
		},
		func(f *http2.Framer) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
			_ = f.WriteContinuation(1, true, []byte{0x0f, 0x2b, 1, 'a'})
			_ = f.WriteDataPadded(1, false, []byte("o"), []byte{0, 0})
			_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		},
		func(f *http2.Framer) {
			_ = f.WritePing(false, [8]byte{})
			_ = f.WriteGoAway(7, http2.ErrCodeNo, []byte("x"))
		},
		func(f *http2.Framer) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: head, EndHeaders: true})
		},
		func(f *http2.Framer) { _ = f.WriteWindowUpdate(1, 0); _ = f.WriteData(1, false, nil) },
	} {
		f.Add(frames(write), false)
		f.Add(frames(write), true)
	}
	checks := []*httpCheck{
		build(f, "https://h"), build(f, "https://h", Option{"body", []string{"ok"}}, Option{"expect_header", []string{"a", ".*"}}),
		build(f, "https://h", Option{"no_body_regex", []string{"o+k"}}, Option{"status", []string{"200-599"}}),
	}
	f.Fuzz(func(t *testing.T, data []byte, bytewise bool) {
		for _, h := range checks {
			count := &counter{r: io.MultiReader(bytes.NewReader(data), &repeat{data: data})}
			var r io.Reader = count
			if bytewise {
				r = iotest.OneByteReader(count)
			}
			request, err := h.requestFor(t.Context(), netip.MustParseAddrPort("192.0.2.1:443"))
			if err != nil {
				t.Fatal(err)
			}
			err = h.exchangeHTTP2(half{r, io.Discard}, request)
			if count.n > responseLimit {
				t.Errorf("read %d bytes", count.n)
			}
			if err != nil {
				decent(t, err.Error())
			}
		}
	})
}
