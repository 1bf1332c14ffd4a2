package web

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostStatus is the status of a response to a request that names a host.
func hostStatus(t *testing.T, s *Server, host string, headers ...string) int {
	t.Helper()
	r := httptest.NewRequest("GET", "/v1/summary", nil)
	if r.Host = host; len(headers) > 0 {
		r.Header.Set(headers[0], headers[1])
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w.Code
}

// A page for all addresses answers to the names that the Corefile has for it, whatever their case and port, and to no other name: a
// web site that makes its own name lead here (DNS rebinding) reads nothing. A name that a reload drops is refused again.
func TestAllowedHosts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	all := &Listeners{Source: newTestSource(1)}
	defer all.Retain(func(any) bool { return false })()
	open := func(user any, hosts ...string) {
		t.Helper()
		if err := all.Open(user, Address{Address: ":" + port, At: "Corefile:1", Hosts: hosts}); err != nil {
			t.Fatal(err)
		}
	}
	var server *Server
	expect := func(when string, want int, hosts ...string) {
		t.Helper()
		for _, host := range hosts {
			if got := hostStatus(t, server, host); got != want {
				t.Errorf("%s, %s: %d, want %d", when, host, got, want)
			}
		}
	}
	evil := []string{"evil.example", "dns1.example.org.evil.example", "evil-dns1.example.org", "x.dns1.example.org", "example.org", "", "dns1.example.org@evil.example", "[dns1.example.org]x"}
	open(1, "dns1.example.org")
	for _, s := range all.all {
		server = s.server
	}
	expect("at first", http.StatusOK, "dns1.example.org", "DNS1.example.org:"+port, "dns1.example.org.:80", "192.0.2.1:9253", "localhost", "[2001:db8::1]:9253")
	expect("at first", http.StatusMisdirectedRequest, append(evil, "dns2.example.org")...)
	if got := hostStatus(t, server, "dns1.example.org", "Sec-Fetch-Site", "cross-site"); got != http.StatusForbidden {
		t.Errorf("another site may make a browser ask: %d", got)
	}
	open(2, "dns2.example.org") // a reload: both Corefiles are there for a moment
	open(2, "dns3.example.org") // of another stanza with the same address
	expect("while both run", http.StatusOK, "dns1.example.org", "dns2.example.org", "dns3.example.org")
	all.Retain(func(user any) bool { return user == 2 })()
	expect("after it", http.StatusOK, "dns2.example.org", "dns3.example.org")
	expect("after it", http.StatusMisdirectedRequest, append(evil, "dns1.example.org")...)
	open(3) // a Corefile without a name
	all.Retain(func(user any) bool { return user == 3 })()
	expect("without a name", http.StatusMisdirectedRequest, append(evil, "dns2.example.org")...)
}

// A Corefile that opens its page a second time, since it is known to run now, is not judged again, and has each host once (B118).
func TestListenersOpenTwice(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("x", minToken)), 0o600); err != nil {
		t.Fatal(err)
	}
	all := &Listeners{Source: newTestSource(1)}
	defer all.Retain(func(any) bool { return false })()
	page := Address{Address: "unix:" + filepath.Join(t.TempDir(), "socket"), Token: token, TokenAt: "Corefile:1", Hosts: []string{"dns1.example.org"}}
	if err := all.Open(1, page); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if err := all.Open(1, page); err != nil {
		t.Errorf("the same Corefile is judged again: %v", err)
	}
	if err := all.Open(2, page); err == nil {
		t.Error("another Corefile is not judged")
	}
	for _, s := range all.all {
		if hosts := *s.server.hosts.Load(); !slices.Equal(hosts, page.Hosts) {
			t.Errorf("hosts %q", hosts)
		}
	}
}
