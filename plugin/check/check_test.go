package check_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

func TestAccepted(t *testing.T) {
	for _, tt := range []struct {
		url     string
		options []check.Option
		want    string
		port    uint16
	}{
		{"tcp://:5432", nil, "tcp://:5432", 5432},
		{"TCP://:0443", nil, "tcp://:443", 443},
		{"http://:8080/healthz", nil, "http://:8080/healthz", 8080},
		{"http://", nil, "http://:80/", 80},
		{"http://:80", nil, "http://:80/", 80},
		{"http:///a//b?", nil, "http://:80/a//b", 80},
		{"HTTP://WWW.Example.ORG.:80?x=1&y", nil, "http://www.example.org/?x=1&y", 80},
		{"http://my_svc.default/%7e%2F", nil, "http://my_svc.default/%7e%2F", 80},
		{"https://Bücher.Example:8443/a?b", nil, "https://xn--bcher-kva.example:8443/a?b", 8443},
		{"http://my_svc.bücher:81?x", nil, "http://my_svc.xn--bcher-kva:81/?x", 81},
		{"https://", options(opt("server_name", "BÜCHER.example.")), "https://:443/ server_name xn--bcher-kva.example", 443},
		{"http://192.0.2.1:8080", nil, "http://192.0.2.1:8080/", 8080},
		{"http://[2001:DB8:0::1]", nil, "http://[2001:db8::1]/", 80},
		{"http://[::1]:81/", nil, "http://[::1]:81/", 81},
		{"https://www.example.org:443/healthz?x=1", nil, "https://www.example.org/healthz?x=1", 443},
		{"https://:8443", options(opt("insecure")), "https://:8443/ insecure", 8443},
		{"https://", options(opt("server_name", "WWW.example.org.")), "https://:443/ server_name www.example.org", 443},
		{"https://www.example.org:8443/healthz", options(opt("body", "ok"), opt("status", "404,200-249,250-299")),
			"https://www.example.org:8443/healthz status 200-299,404 body ok", 8443},
		{"tcp://:25", options(opt("expect", `220 \x41\x0d`), opt("expect_regex", `^a\r$`)), `tcp://:25 expect "220 A\\r" expect_regex ^a\r$`, 25},
		{"tcp://:25", options(opt("reset"), opt("expect_regex", "b"), opt("expect", "é\\\\\\xff"), opt("expect", "a")),
			`tcp://:25 expect_regex b expect é\\\xff expect a reset`, 25},
		{"tcp://Mail.example.org:25", options(opt("expires", "336h"), opt("starttls")), "tcp://mail.example.org:25 starttls expires 14d", 25},
		{"https://:8443/x", options(opt("host", "owner")), "https://:8443/x host owner", 8443},
		{"tls://db.example.org", options(opt("alpn", "h2,http/1.1"), opt("expires", "90m")), "tls://db.example.org alpn h2,http/1.1 expires 1h30m0s", 0},
		{"http://", options(opt("status", "500-500")), "http://:80/ status 500", 80},
		{"http://", options(opt("status", "200-599,101-101")), "http://:80/ status 101,200-599", 80},
		{"http://", options(opt("method", "HEAD")), "http://:80/ method HEAD", 80},
		{"http://", options(opt("body", "all good")), `http://:80/ body "all good"`, 80},
		{"http://", options(opt("body", `"`)), `http://:80/ body "\""`, 80},
		{"http://", options(opt("body", "\x00\xff")), `http://:80/ body "\x00\xff"`, 80},
		{"http://", options(opt("body_regex", `^\d+$`)), `http://:80/ body_regex ^\d+$`, 80},
		{"http://", options(opt("header", "x-token", "s3cret"), opt("header", "Accept", "a b")),
			"http://:80/ header Accept … header X-Token …", 80},
	} {
		c, err := check.New(tt.url, tt.options...)
		if err != nil {
			t.Errorf("New(%s): %v", tt.url, err)
			continue
		}
		if c.String() != tt.want || c.Port() != tt.port {
			t.Errorf("New(%s) = %s, port %d; want %s, port %d", tt.url, c, c.Port(), tt.want, tt.port)
		}
		if c.Secret() == 0 {
			again(t, c)
		}
	}
}

// again checks that the text of a check makes an equal check.
func again(t *testing.T, c *check.Check) {
	t.Helper()
	url, list := split(t, c.String())
	second, err := check.New(url, list...)
	if err != nil {
		t.Fatalf("%s is not accepted again: %v", c, err)
	}
	if second.String() != c.String() || second.Port() != c.Port() {
		t.Fatalf("%s, port %d, became %s, port %d", c, c.Port(), second, second.Port())
	}
}

// split undoes String, as a reader of a configuration would.
func split(t *testing.T, text string) (url string, list []check.Option) {
	var words []string
	for text != "" {
		if quoted, err := strconv.QuotedPrefix(text); err == nil && quoted[0] == '"' {
			word, _ := strconv.Unquote(quoted)
			words, text = append(words, word), strings.TrimPrefix(text[len(quoted):], " ")
			continue
		}
		word, rest, _ := strings.Cut(text, " ")
		words, text = append(words, word), rest
	}
	url, words = words[0], words[1:]
	for len(words) > 0 {
		n, ok := check.Takes(words[0])
		if n < 0 {
			n = len(words) - 1
		}
		if !ok || len(words) < n+1 {
			t.Fatalf("%q is no option with its values", words)
		}
		list, words = append(list, check.Option{Name: words[0], Values: words[1 : n+1]}), words[n+1:]
	}
	return url, list
}

// everyScheme is the list of schemes in error messages.
const everyScheme = "agent, dns, dot, exec, grpc, grpcs, http, https, icmp, mysql, postgres, redis, rediss, tcp, tls"

func TestRefusedURL(t *testing.T) {
	for url, want := range map[string]string{
		"":                          "url has no scheme: start with one of " + everyScheme + ", as in http://:8080/healthz",
		"//www.example.org/":        "url has no scheme: start with one of " + everyScheme + ", as in http://:8080/healthz",
		"ftp://:21":                 `unknown scheme "ftp": use one of ` + everyScheme,
		"http:/healthz":             "url has no // after http: write it as in http://:8080/healthz",
		"http:healthz":              "url has no // after http: write it as in http://:8080/healthz",
		"tcp:5432":                  "url has no // after tcp: write it as in tcp://:5432",
		"tcp://www.example.org:1":   "tcp does not use a host: write tcp://:5432",
		"tcp://:1/":                 "tcp takes no path and no query: write tcp://:5432",
		"tcp://:1?x":                "tcp takes no path and no query: write tcp://:5432",
		"tls://h:1/":                "tls takes no path and no query: write tls://db.example.org:5432",
		"tls://:1":                  "tls has no name to verify the certificate against: name a host, as in tls://www.example.org:1, or add server_name NAME or insecure",
		"http://:0":                 `invalid port "0": use 1 to 65535`,
		"http://:65536":             `invalid port "65536": use 1 to 65535`,
		"http://:http":              `invalid url: invalid port ":http" after host`,
		"http://u:s3cret@h/":        "url has credentials, which are not allowed there: put them in a file, and use the option basic_auth or bearer",
		"redis://:s3cret@h":         "url has credentials, which are not allowed there: remove them, the check needs none",
		"postgres://u:s3cret@h/":    "url has credentials, which are not allowed there: remove them, the check needs none",
		"http://u:s3cret/@h/":       "url has credentials, which are not allowed there: put them in a file, and use the option basic_auth or bearer",
		"http://h/#top":             "url has a fragment, which is never sent: remove the # and what follows it",
		"http://h/#":                "url has a fragment, which is never sent: remove the # and what follows it",
		"http://h/a b":              "invalid character ' ' in url: write it percent-encoded",
		"http://h/\r\nX: y":         `invalid character '\r' in url: write it percent-encoded`,
		"http://www.example.org/ü":  "invalid character 'ü' in url: write it percent-encoded",
		"http://u:s3cretü@b.org/":   "invalid character 'ü' in url: write it percent-encoded",
		"http://m\xfcnchen.example": `invalid host in url: name "m\xfcnchen.example" is not UTF-8`,
		"http://-ü.example":         "",
		"http://h/%zz":              `invalid url: invalid URL escape "%zz"`,
		"http://-a.example":         `invalid host "-a.example": use a dns name or an ip address`,
		"http://a..example":         `invalid host "a..example": use a dns name or an ip address`,
		"http://*.example":          `invalid host "*.example": use a dns name or an ip address`,
		"http://.":                  `invalid host ".": use a dns name or an ip address`,
		"http://192.0.2.256":        `invalid host "192.0.2.256": use a dns name or an ip address`,
		"http://[fe80::1%25eth0]/":  `invalid host "fe80::1%eth0": use a dns name or an ip address`,
		"http://[192.0.2.1]/":       "invalid url: invalid IP-literal",
		"http://[www.example.org]":  "",
		"http://[::1]x:80/":         "",
		"http://2001:db8::1/":       "",
		"http://[]/":                "",
		"https://:8443/": "https has no name to verify the certificate against: name a host, as in " +
			"https://www.example.org:8443, or add server_name NAME or insecure",
		"http://" + strings.Repeat("a", 64) + ".example":      "",
		"http://" + strings.Repeat("a.", 127) + "example.org": "",
	} {
		c, err := check.New(url)
		if err == nil {
			t.Errorf("New(%q) = %s, want an error", url, c)
		} else if want != "" && err.Error() != want {
			t.Errorf("New(%q):\n%s\nwant\n%s", url, err, want)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("New(%q) tells the password: %v", url, err)
		}
	}
}

func TestRefusedOption(t *testing.T) {
	empty, bundle := file(t, ""), newAuthority(t).file(t)
	long := strings.Repeat("/a", 1000)
	httpTakes := "http takes " + strings.Join(check.Options("http"), ", ")
	for _, tt := range []struct {
		url   string
		lines [][]string
		index int
		want  string
	}{
		{"http://", [][]string{opt("bdoy", "x")}, 0, `unknown option "bdoy": ` + httpTakes},
		{"http://", [][]string{opt("method", "PUT"), opt("insecure")}, 1, "option insecure is for " + withTLS + ": " + httpTakes},
		{"tcp://:1", [][]string{opt("status", "200")}, 0, "option status is for http, https: tcp takes " + strings.Join(check.Options("tcp"), ", ")},
		{"http://", [][]string{opt("body")}, 0, "option body has 0 values: write body TEXT"},
		{"https://h", [][]string{opt("insecure", "yes")}, 0, "option insecure has 1 values: write insecure"},
		{"http://", [][]string{opt("header", "Authorization", "Bearer", "s3cret")}, 0, "option header has 3 values: write header NAME VALUE"},
		{"http://", [][]string{opt("body", "a"), opt("status", "200"), opt("body", "a")}, 2, "duplicate option body: keep one"},
		{"http://", [][]string{opt("method", "get")}, 0, `option method: method "get" is not in upper case: write GET`},
		{"http://", [][]string{opt("method", "A B")}, 0, `option method: invalid method "A B": use one such as GET or HEAD`},
		{"http://", [][]string{opt("method", "CONNECT")}, 0, ""},
		{"http://", [][]string{opt("body", "x"), opt("method", "HEAD")}, 1, "option method: HEAD has no body: remove the options about the body, or use GET"},
		{"http://", [][]string{opt("method", "HEAD"), opt("body_regex", "x")}, 0, ""},
		{"http://", [][]string{opt("header", "host", "x")}, 0, "option header: header Host cannot be set here: put the host in the URL"},
		{"http://", [][]string{opt("header", "connection", "x")}, 0, "option header: header Connection is set by the check itself: remove it"},
		{"http://", [][]string{opt("header", "Content-Length", "1")}, 0, ""},
		{"http://", [][]string{opt("header", "transfer-encoding", "chunked")}, 0, ""},
		{"http://", [][]string{opt("header", "", "x")}, 0, `option header: invalid header name "": use one such as X-Probe`},
		{"http://", [][]string{opt("header", "X:", "x")}, 0, ""},
		{"http://", [][]string{opt("header", "X-A", "s3cret\r\nX-B: y")}, 0, "option header: the value of header X-A has a control character: remove it"},
		{"http://", [][]string{opt("status", "")}, 0, ""},
		{"http://", [][]string{opt("status", "200,")}, 0, ""},
		{"http://", [][]string{opt("status", "99")}, 0, ""},
		{"http://", [][]string{opt("status", "+20")}, 0, ""},
		{"http://", [][]string{opt("status", "600")}, 0, `option status: invalid status "600": use 101, or codes and ranges from 200 to 599, such as 200-299,404`},
		{"http://", [][]string{opt("status", "100")}, 0, ""},
		{"http://", [][]string{opt("status", "200,103")}, 0, `option status: invalid status "103": use 101, or codes and ranges from 200 to 599, such as 200-299,404`},
		{"http://", [][]string{opt("status", "199")}, 0, ""},
		{"http://", [][]string{opt("status", "101-200")}, 0, `option status: invalid status "101-200": use 101, or codes and ranges from 200 to 599, such as 200-299,404`},
		{"http://", [][]string{opt("status", "199-200")}, 0, ""},
		{"http://", [][]string{opt("status", "100-599")}, 0, ""},
		{"http://", [][]string{opt("status", "299-200")}, 0, ""},
		{"http://", [][]string{opt("body", "")}, 0, "option body: the text has 0 bytes: write 1 to 5120"},
		{"http://", [][]string{opt("body", strings.Repeat("x", 5121))}, 0, "option body: the text has 5121 bytes: write 1 to 5120"},
		{"http://", [][]string{opt("body_regex", "(")}, 0, "option body_regex: error parsing regexp: missing closing ): `(`"},
		{"http://", [][]string{opt("body_regex", "")}, 0, ""},
		{"https://h", [][]string{opt("server_name", "a b")}, 0, `option server_name: invalid host "a b": use a dns name or an ip address`},
		{"https://h", [][]string{opt("ca", empty+"x")}, 0, "option ca: open " + empty + "x: no such file or directory"},
		{"https://h", [][]string{opt("ca", empty)}, 0, ""},
		{"https://h", [][]string{opt("insecure"), opt("ca", bundle)}, 1, "option ca: cannot be used together with insecure, which verifies nothing: remove one of the two"},
		{"https://h", [][]string{opt("insecure"), opt("cert", empty)}, 1, "option cert: needs the option key FILE"},
		{"https://h", [][]string{opt("insecure"), opt("key", empty)}, 1, "option key: needs the option cert FILE"},
		{"https://h", [][]string{opt("key", empty), opt("cert", empty)}, 1, ""},
		{"https://h", [][]string{opt("expires", "soon")}, 0, `option expires: invalid duration "soon": use a number with a unit, such as 14d or 336h`},
		{"https://h", [][]string{opt("expires", "-1d")}, 0, ""},
		{"https://h", [][]string{opt("expires", "0s")}, 0, `option expires: invalid duration "0s": use 1s to 3650d, such as 14d`},
		{"https://h", [][]string{opt("expires", "3651d")}, 0, ""},
		{"https://h", [][]string{opt("expires", "999ms")}, 0, `option expires: invalid duration "999ms": use 1s to 3650d, such as 14d`},
		{"tls://h:1", [][]string{opt("alpn", "h2,imap,h2")}, 0, `option alpn: duplicate protocol "h2": keep one`},
		{"https://h", [][]string{opt("alpn", "h2"), opt("header", "te", "trailers")}, 0, "option alpn: header Te does not work over h2: write alpn http/1.1, or remove the option"},
		{"https://h", [][]string{opt("status", "101,200"), opt("alpn", "h2,http/1.1")}, 1, "option alpn: status 101 does not work over h2: write alpn http/1.1, or remove the option"},
		{"https://h", [][]string{opt("hold"), opt("alpn", "h2")}, 1, "option alpn: hold does not work over h2: write alpn http/1.1, or remove the option"},
		{"http://", [][]string{opt("expect_header", "connection", "")}, 0, "option expect_header: header Connection is about the connection and is not tested: remove the option"},
		{"http://", [][]string{opt("no_header", "Trailer", "x")}, 0, "option no_header: header Trailer is about the connection and is not tested: remove the option"},
		{"https://h", [][]string{opt("no_header", "Transfer-Encoding", "x")}, 0, "option no_header: header Transfer-Encoding is about the connection and is not tested: remove the option"},
		{"https://", [][]string{opt("server_name", "a.example"), opt("host", "owner")}, 0, "option server_name: cannot be used together with host owner: remove one of the two"},
		{"https://h", [][]string{opt("alpn", "h3")}, 0, `option alpn: unsupported protocol "h3": https speaks h2 and http/1.1`},
		{"http://", [][]string{opt("no_body", "")}, 0, "option no_body: the text has 0 bytes: write 1 to 5120"},
		{"http://", [][]string{opt("method", "HEAD"), opt("no_body_regex", "x")}, 0, ""},
		{"http://", [][]string{opt("expect_header", "a b", "x")}, 0, `option expect_header: invalid header name "a b": use one such as X-Probe`},
		{"http://", [][]string{opt("no_header", "a", "(")}, 0, ""},
		{"http://", [][]string{opt("bearer", empty)}, 0, `option bearer: ` + strconv.Quote(empty) + `: invalid token: write one token without spaces`},
		{"http://", [][]string{opt("basic_auth", empty)}, 0, ""},
		{"http://", [][]string{opt("bearer", long)}, 0, `option bearer: "` + strings.Repeat("/a", 29) + `/"…: no such file or directory`},
		{"http://", [][]string{opt("basic_auth", filepath.Dir(empty))}, 0, ""},
		{"http://", [][]string{opt("basic_auth", bundle)}, 0, ""},
		{"tls://h:1", [][]string{opt("alpn", "h2,")}, 0, `option alpn: invalid protocol name "": use names such as h2,http/1.1`},
		{"http://", [][]string{opt("host", "www.example.org")}, 0, "option host: write host owner, for the name of the record; any other host stands in the url"},
		{"http://h", [][]string{opt("host", "owner")}, 0, "option host: cannot be used with a host in the url: remove one of the two"},
		{"http://", [][]string{opt("host", "owner"), opt("hold")}, 1, ""},
		{"tcp://:1", [][]string{opt("host", "owner")}, 0, ""},
		{"tcp://:1", [][]string{opt("send", "")}, 0, "option send: the text has 0 bytes: write 1 to 4096"},
		{"tcp://:1", [][]string{opt("send", `s3cret`), opt("expect", `a\qb`)}, 1, `option expect: invalid escape at byte 2 of the text: write \r, \n, \t, \xHH, or \\ for a backslash`},
		{"tcp://:1", [][]string{opt("send", `a\r\s3cret`)}, 0, `option send: invalid escape at byte 4 of the text: write \r, \n, \t, \xHH, or \\ for a backslash`},
		{"tcp://:1", [][]string{opt("expect", `a\`)}, 0, ""},
		{"tcp://:1", [][]string{opt("expect", `\x4`)}, 0, ""},
		{"tcp://:1", [][]string{opt("expect", `\xzz`)}, 0, ""},
		{"tcp://:1", [][]string{opt("expect_regex", "(")}, 0, ""},
		{"tcp://:1", [][]string{opt("expect_regex", "")}, 0, "option expect_regex: empty expression would match every line: write one, or remove the option"},
		{"tcp://:1", [][]string{opt("insecure")}, 0, "option insecure: needs the step starttls: add it, or remove the option"},
		{"tcp://h:1", [][]string{opt("starttls"), opt("starttls")}, 1, "option starttls: duplicate step, tls starts only once: keep one"},
		{"tcp://:1", [][]string{opt("hold"), opt("expect", "a")}, 0, ""},
		{"tcp://:1", [][]string{opt("reset"), opt("hold")}, 1, ""},
	} {
		c, err := check.New(tt.url, options(tt.lines...)...)
		var wrong *check.OptionError
		switch {
		case !errors.As(err, &wrong):
			t.Errorf("New(%s, %q) = %v, %v; want an OptionError", tt.url, tt.lines, c, err)
		case wrong.Index != tt.index || tt.want != "" && wrong.Error() != tt.want:
			t.Errorf("New(%s, %q):\n%d %s\nwant\n%d %s", tt.url, tt.lines, wrong.Index, wrong, tt.index, tt.want)
		case strings.Contains(err.Error(), "s3cret"):
			t.Errorf("New(%s, %q) tells the secret: %v", tt.url, tt.lines, err)
		}
	}
}

func TestOptionErrorUnwraps(t *testing.T) {
	_, err := check.New("https://h", options(opt("ca", filepath.Join(t.TempDir(), "none")))...)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v does not wrap the cause", err)
	}
}

func TestTakes(t *testing.T) {
	for name, want := range map[string]int{"insecure": 0, "status": 1, "header": 2, "nothing": -1} {
		n, ok := check.Takes(name)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("Takes(%s) = %d, %t; want %d", name, n, ok, want)
		}
	}
	for scheme, want := range map[string]string{
		"HTTP": "basic_auth bearer body body_regex connect_timeout expect_header first_byte_timeout from header hold host invert method no_body no_body_regex no_header proxy_protocol reuse reuse_for status weight_header",
		"tcp":  "ca cert connect_timeout expect expect_regex expires first_byte_timeout from hold insecure invert key proxy_protocol reset send server_name starttls tls_timeout",
		"tls":  "alpn ca cert connect_timeout expires from host insecure invert key proxy_protocol server_name tls_timeout",
		"ftp":  "",
	} {
		if got := strings.Join(check.Options(scheme), " "); got != want {
			t.Errorf("Options(%s) = %s, want %s", scheme, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	secret := func(lines ...[]string) uint64 { return mustNew(t, "http://", lines...).Secret() }
	a, b := opt("header", "A", "1"), opt("header", "B", "2")
	if secret() != 0 || secret(opt("body", "x")) != 0 {
		t.Error("a check that hides nothing has a secret")
	}
	if secret(a, b) == 0 || secret(a, b) != secret(b, a) {
		t.Error("the order of different headers matters")
	}
	seen := map[uint64]bool{}
	for _, other := range [][][]string{
		{a, b}, {a}, {b}, {opt("header", "A", "2"), opt("header", "B", "1")}, {opt("header", "A", "")},
		{opt("header", "A", "1"), opt("header", "A", "2")}, {opt("header", "A", "2"), opt("header", "A", "1")},
	} {
		seen[secret(other...)] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d different secrets of 7 different checks", len(seen))
	}
}

// FuzzNew: New never panics, and the text of a check without secrets makes an equal check.
func FuzzNew(f *testing.F) {
	f.Add("https://www.example.org:8443/healthz?x=1", "status", "200-299,404", "", "body", "all good", "")
	f.Add("http://[::1]:80//a%2f", "header", "X-Token", "x", "method", "HEAD", "")
	f.Add("tcp://:5432", "", "", "", "", "", "")
	f.Add("https://", "insecure", "", "", "server_name", "a.example", "")
	f.Add("tls://h:1", "expires", "14d", "", "alpn", "h2", "")
	f.Add("tcp://:1", "expect", `220 \r\n\x00`, "", "from", "192.0.2.1", "")
	f.Add("tcp://:1", "proxy_protocol", "", "", "reset", "", "")
	f.Add("http://", "expect_header", "a", "b", "no_body", "c", "")
	f.Fuzz(func(t *testing.T, url, name1, a1, b1, name2, a2, b2 string) {
		var list []check.Option
		for _, line := range [][]string{{name1, a1, b1}, {name2, a2, b2}} {
			n, ok := check.Takes(line[0])
			if n < 0 {
				n = 2
			}
			if file := slices.Contains([]string{"ca", "cert", "key", "basic_auth", "bearer"}, line[0]); ok && !file {
				list = append(list, check.Option{Name: line[0], Values: line[1 : n+1]})
			}
		}
		c, err := check.New(url, list...)
		if err != nil {
			return
		}
		if strings.ContainsFunc(c.String(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q does not print", c)
		}
		if c.Secret() == 0 {
			again(t, c)
		}
	})
}
