package test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

const asking = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CHECKS
        interval 300ms 100ms
        timeout 300ms
        within 127.0.0.0/8
    }
    cache
}`

// A web server that does not serve one of its names loses its address in the answers for that name only (B35).
func TestEachNameIsAskedFor(t *testing.T) {
	s := newScene(t, 11)
	s.listen("127.0.0.12", func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil && strings.HasPrefix(r.Host, "www.example.org:") {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		} else {
			fmt.Fprint(conn, "HTTP/1.1 404 Not Found\r\n\r\n")
		}
	})
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\napi A 127.0.0.11\napi A 127.0.0.12\nshop CNAME api")
	v := s.serve(replace(asking, "CHECKS", "check http://:PORT/ host owner"))
	v.comesTo("api.example.org A", "11")
	v.comesTo("WWW.example.org A", "11 12")
	v.comesTo("aPi.example.org A", "11")
	v.comesTo("shop.example.org A", "11")
	v.settled(3, 1)
}

// With "one of two checks must pass", an address that fails one check stays, and an address that fails both goes
// (B45).
func TestOneOfTwoChecksMustPass(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v := s.serve(replace(asking, "CHECKS", "check tcp://:PORT\n check http://:PORT/ status 500\n require any"))
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 4)
	s.kill(12)
	v.comesTo("www.example.org A", "11")
	v.mustReload(replace(asking, "CHECKS", "check tcp://:PORT\n check http://:PORT/ status 200 invert\n require 1"))
	v.comesTo("www.example.org A", "11 12 13")
}
