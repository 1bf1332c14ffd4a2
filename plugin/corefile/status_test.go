package corefile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/status/web"
)

// statusOf parses a stanza with a check on line 3 and a status on line 4, whose block begins on line 5.
func statusOf(address, block string) (*Config, error) {
	return parsed("check tcp://:80\nforce forced\nstatus " + address + " {\n" + block + "\n}")
}

// A block of status is read as it is written (B118).
func TestParseStatusBlock(t *testing.T) {
	c, err := statusOf("[::1]:9253", "peers http://192.0.2.17:9253 https://dns.example.org/status?a=b\nadmin forced\ntoken /etc/token\nhost dns1.example.org")
	want := &StatusBlock{"forced", "/etc/token", []string{"http://192.0.2.17:9253", "https://dns.example.org/status?a=b"}, []string{"dns1.example.org"}}
	if err != nil || !reflect.DeepEqual(c.StatusBlock, want) || c.Status != "[::1]:9253" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := parsed("check tcp://:80\nstatus {\npeers http://a/\n}\nlimit 3"); err != nil || c.Status != defaultStatus || c.Policy.Limit != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := parsed("check tcp://:80\nstatus"); err != nil || c.StatusBlock != nil {
		t.Errorf("without a block: %+v, %v", c, err)
	}
}

// A mistake in the block has its line and the fix (B78, B118).
func TestStatusBlockErrors(t *testing.T) {
	const url = "use the address of another page, such as http://192.0.2.17:9253/"
	for block, want := range map[string]string{
		"admni forced":                `6 status: unknown property "admni": did you mean "admin"?`,
		"admin":                       "6 status: admin takes 1 value, not 0: use admin FILE",
		"admin a b":                   "6 status: admin takes 1 value, not 2",
		`admin ""`:                    "6 status: admin without a file: name its path",
		"token t\ntoken t":            "7 status: duplicate token, first on line 6",
		"peers":                       "6 status: peers takes at least 1 value, not 0: use peers URL...",
		"peers 192.0.2.17:9253":       `6 status: invalid URL "192.0.2.17:9253" in peers: ` + url,
		"peers ftp://a/":              `6 status: invalid URL "ftp://a/" in peers: ` + url,
		"peers javascript:alert(1)":   "6 status: invalid URL",
		"peers http://:80/":           "6 status: invalid URL",
		"peers http://u:s3cret@a/":    "6 status: a URL in peers has a user name or a password, which the page would show: leave it out",
		"peers http://u:s3cret%zz@a/": "6 status: a URL in peers has a user name or a password",
		"peers http://a/ http://a/":   "6 status: duplicate URL http://a/ in peers",
		"peers http://a/" + strings.Repeat("a", 512): "6 status: a URL in peers has 521 bytes: use at most 512",
		"peers" + many(33):                           "6 status: peers has 33 URLs: use at most 32",
		"admin forced {\n}":                          "6 status: unexpected { in its block",
		"limit 3":                                    "6 status: limit is a property of multivalue, not a property of status: close the block",
		"file db":                                    `6 status: unexpected "file" in the block of status: close the block`,
	} {
		_, err := statusOf("localhost:9253", block)
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(strings.TrimPrefix(strings.Replace(err.Error(), " - Error during parsing: ", " ", 1), "Corefile:"), want) {
			t.Errorf("%.60s: %v, want %s", block, err, want)
		}
	}
	if _, err := parsed("check tcp://:80\nadmin forced"); err == nil || !strings.Contains(err.Error(), "admin is a property of status: write it in its block") {
		t.Errorf("outside of the block: %v", err)
	}
}

// many are URLs that differ.
func many(n int) (urls string) {
	for i := range n {
		urls += fmt.Sprintf(" http://a/%d", i)
	}
	return urls
}

// Who may act is told before anything listens: the file is one of force, a port is on loopback and has a token, and blocks for one
// page agree (B118).
func TestPagesAgree(t *testing.T) {
	const one = "127.0.0.1:9253"
	for _, tc := range []struct {
		what    string
		stanzas [][2]string // addresses and blocks
		want    string      // an error, or the page
	}{
		{"a socket", [][2]string{{"unix:/run/s", "admin forced"}}, "unix:/run/s admin=/r/forced token= []"},
		{"a socket with a token", [][2]string{{"unix:/run/s", "admin forced\ntoken t"}}, "unix:/run/s admin=/r/forced token=/r/t []"},
		{"loopback", [][2]string{{one, "token t\nadmin forced"}}, one + " admin=/r/forced token=/r/t []"},
		{"IPv6 loopback", [][2]string{{"[::1]:9253", "token t\nadmin forced"}}, "[::1]:9253 admin=/r/forced"},
		{"a page for all", [][2]string{{":9253", "peers http://a/"}}, ":9253 admin= token= [http://a/]"},
		{"no token", [][2]string{{one, "admin forced"}}, "Corefile:6 status: admin on 127.0.0.1:9253 needs a token, because any program of this machine can connect there: add token FILE, made with: openssl rand -hex 32"},
		{"no loopback", [][2]string{{":9253", "admin forced\ntoken t"}}, "Corefile:6 status: admin on :9253, which other hosts may reach: use localhost or a loopback address"},
		{"another host", [][2]string{{"192.0.2.1:9253", "admin forced\ntoken t"}}, "Corefile:6 status: admin on 192.0.2.1:9253, which other hosts may reach"},
		{"a token for nothing", [][2]string{{one, "token t"}}, "Corefile:6 status: token has no effect without admin: add admin FILE, or remove token"},
		{"another file", [][2]string{{one, "admin other\ntoken t"}}, "Corefile:6 status: admin /r/other, and no force of this Corefile names that file: use /r/forced, or add force /r/other to a stanza"},
		{"one has none", [][2]string{{one, ""}, {"localhost:9253", "admin forced\ntoken t"}, {one, ""}}, "localhost:9253 admin=/r/forced token=/r/t"},
		{"the same twice", [][2]string{{one, "admin forced\ntoken t"}, {one, "token t\nadmin ./forced"}}, one + " admin=/r/forced"},
		{"two that differ", [][2]string{{one, "admin forced\ntoken t"}, {one, "token u\nadmin forced"}}, "Corefile:5 status: the block differs from that of the same page at Corefile:5: write the same, or leave one of the two blocks out"},
		{"two pages", [][2]string{{one, "admin forced\ntoken t"}, {"127.0.0.1:1", ""}}, one + " admin=/r/forced token=/r/t []|127.0.0.1:1 admin= token= []"},
	} {
		var p Pages
		var err error
		for _, x := range tc.stanzas {
			text := "check tcp://:80\nforce forced\nstatus " + x[0]
			if x[1] != "" {
				text += " {\n" + x[1] + "\n}"
			}
			c, failed := parsed(text)
			if failed != nil {
				t.Fatal(failed)
			}
			if err = p.Include(c, func(path string) string { return "/r/" + strings.TrimPrefix(path, "./") }); err != nil {
				break
			}
		}
		var pages []web.Address
		if err == nil {
			pages, err = p.Shown()
		}
		var got []string
		for _, x := range pages {
			got = append(got, fmt.Sprintf("%s admin=%s token=%s %v", x.Address, x.Admin, x.Token, x.Peers))
		}
		text := strings.Join(got, "|")
		if err != nil {
			text = strings.Replace(err.Error(), " - Error during parsing: ", " ", 1)
		}
		if !strings.HasPrefix(text, tc.want) {
			t.Errorf("%s: %s, want %s", tc.what, text, tc.want)
		}
	}
}
