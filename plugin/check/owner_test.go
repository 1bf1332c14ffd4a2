package check_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// With host owner, the name of the record is the Host header, the server name, and the name in the
// certificate.
func TestOwner(t *testing.T) {
	ca := newAuthority(t)
	cert, _ := sign(t, template("www.example.org"), ca)
	hosts, names := make(chan string, 1), make(chan string, 1)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return nil, nil
	}}
	serve := func(conn net.Conn) {
		if r := readRequest(conn); r != nil {
			hosts <- r.Host
			fmt.Fprint(conn, ok)
		}
	}
	plain, secure := listen(t, "127.0.0.1", serve), listen(t, "127.0.0.1", overTLS(config, serve))
	byName := opt("host", "owner")
	if err := probe(mustNew(t, "http://", byName).ForOwner("WWW.Example.ORG."), plain.addr); err != nil {
		t.Error(err)
	}
	if got, want := <-hosts, fmt.Sprintf("www.example.org:%d", plain.addr.Port()); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	https := mustNew(t, "https://", byName, opt("ca", ca.file(t)))
	if err := probe(https.ForOwner("www.example.org."), secure.addr); err != nil || <-names != "www.example.org" {
		t.Error(err)
	}
	<-hosts
	for _, url := range []string{"https://", "tls://:1"} {
		c := mustNew(t, url, byName, opt("ca", ca.file(t)))
		want := `tls handshake: certificate is for "www.example.org", not "api.example.org"`
		if got := reason(probe(c.ForOwner("api.example.org."), secure.addr)); got != want || <-names != "api.example.org" {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
	if got := reason(probe(mustNew(t, "http://", byName, opt("invert")).ForOwner("www.example.org."), plain.addr)); got != "answered, but invert is set" {
		t.Errorf("%q", got)
	}
	if err := probe(https.ForOwner("*.example.org."), secure.addr); !errors.Is(err, check.ErrAbstain) {
		t.Errorf("a name that is no host's: %v", err)
	}
	if !https.AsksOwner() || https.Talk() != nil || mustNew(t, "http://").AsksOwner() {
		t.Error("who asks for the owner is mistaken")
	}
}
