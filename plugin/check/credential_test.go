package check_test

import (
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

func TestCredentials(t *testing.T) {
	seen := make(chan string, 1)
	plain := listen(t, "127.0.0.1", func(conn net.Conn) {
		if r := readRequest(conn); r != nil {
			seen <- r.Header.Get("Authorization")
		}
		conn.Write([]byte(ok))
	})
	secure := serveHTTP2(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string, age time.Duration) {
		t.Helper()
		// As Kubernetes does it: a new file in the place of the old one.
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600),
			os.Chtimes(path+".new", time.Now().Add(-age), time.Now().Add(-age)), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, tt := range []struct {
		option, first, second, want1, want2 string
	}{
		{"basic_auth", "probe:s3cret\n", "probe:n3wer:x", basic("probe:s3cret"), basic("probe:n3wer:x")},
		{"bearer", "s3cret\r\n", "n3wer", "Bearer s3cret", "Bearer n3wer"},
	} {
		for _, age := range []time.Duration{0, time.Hour} { // two versions may bear one time, or one size
			write(tt.first, age)
			http, https := mustNew(t, "http://", opt(tt.option, path)), mustNew(t, "https://", opt(tt.option, path), opt("insecure"))
			for range 2 {
				if err := probe(http, plain.addr); err != nil || <-seen != tt.want1 {
					t.Error(err)
				}
			}
			write(tt.second, age)
			for c, addr := range map[*check.Check]*peer{http: plain, https: {addr: secure}} {
				if err := probe(c, addr.addr); err != nil {
					t.Error(err)
				}
				if got := <-seen; got != tt.want2 {
					t.Errorf("%s of %v: %q, want %q", tt.option, age, got, tt.want2)
				}
				if c.Talk() != nil || strings.Contains(c.String(), "n3wer") || !strings.HasSuffix(c.String(), tt.option+" "+path) && c == http {
					t.Errorf("%s", c)
				}
				if again := mustNew(t, "http://", opt(tt.option, path)); c == http && again.Secret() != c.Secret() {
					t.Error("another password makes another check, which loses what is known")
				}
			}
		}
	}
	inPlace(t, plain, seen)
	broken := "s3cret s3cret\x00"
	c := mustNew(t, "http://", opt("bearer", path))
	write(broken, time.Hour)
	if err := probe(c, plain.addr); !errors.Is(err, check.ErrAbstain) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a broken file: %v", err)
	}
	os.Remove(path)
	if err := probe(c, plain.addr); !errors.Is(err, check.ErrAbstain) {
		t.Errorf("no file: %v", err)
	}
	write("token", 0)
	for _, other := range [][]string{opt("basic_auth", path), opt("header", "authorization", "x")} {
		if c, err := check.New("http://", options(opt("bearer", path), other)...); err == nil {
			t.Errorf("%s is accepted", c)
		}
	}
}

// A file that is overwritten in place may have the time and the size of the version before.
func inPlace(t *testing.T, p *peer, seen chan string) {
	path, now := filepath.Join(t.TempDir(), "token"), time.Now()
	var c *check.Check
	for _, token := range []string{"first", "other"} {
		if err := errors.Join(os.WriteFile(path, []byte(token), 0o600), os.Chtimes(path, now, now)); err != nil {
			t.Fatal(err)
		}
		if c == nil {
			c = mustNew(t, "http://", opt("bearer", path))
		}
		if err := probe(c, p.addr); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != "Bearer "+token {
			t.Errorf("%q with the token %s", got, token)
		}
	}
}
