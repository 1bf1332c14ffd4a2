package test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

const held = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        check tcp://:PORT hold
        interval 8s 4s
        within 127.0.0.0/8
    }
}`

// With hold, a server that dies leaves the answers long before its next probe is due. When it is back, it returns and
// its connection is held again. A stop closes all held connections (B53, B71).
func TestHeldServerLeavesAtOnce(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v := s.serve(held)
	v.comesTo("www.example.org A", "11 12 13")
	s.holds(3)
	v.losesAtOnce(12, "11 13")
	s.holds(2)
	s.start(12)
	v.comesTo("www.example.org A", "11 12 13")
	s.holds(3)
	v.mustReload(held)
	s.holds(3)
	v.losesAtOnce(11, "12 13")
}

// losesAtOnce kills a backend and checks that exactly the others are in the answers sooner than three failed probes
// could have removed it without an alarm: two fast intervals lie between those probes.
func (v *server) losesAtOnce(octet int, others string) {
	v.Helper()
	killed := time.Now()
	v.kill(octet)
	v.comesTo("www.example.org A", others)
	if took, least := time.Since(killed), 2*9*4*time.Second/10; took >= least {
		v.Errorf("the backend left after %s, want less than the %s that it takes without an alarm", took, least)
	}
}

// holds waits until that many connections are held.
func (s *scene) holds(n int) {
	s.Helper()
	const gauge = "coredns_multivalue_held_connections"
	s.eventually(func() bool { return int(metric(gauge)) == n },
		func() string { return fmt.Sprintf("%v connections are held, want %d", metric(gauge), n) })
}

// A held server leaves at once over TLS too, where another goroutine probes and hands the connection to the loop.
func TestHeldServerOverTLSLeavesAtOnce(t *testing.T) {
	s := newScene(t)
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	serve := func(conn net.Conn) {
		server := tls.Server(conn, config)
		for {
			if _, err := server.Read(make([]byte, 4096)); err != nil {
				return
			}
			_, _ = server.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		}
	}
	for _, n := range []int{11, 12, 13} {
		s.backends[n] = s.listen(fmt.Sprintf("127.0.0.%d", n), serve)
	}
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	secure := strings.Replace(held, "check tcp://:PORT hold", "check https://:PORT/ insecure hold", 1)
	v := s.serve(secure)
	v.comesTo("www.example.org A", "11 12 13")
	s.holds(3)
	v.losesAtOnce(12, "11 13")
	s.holds(2)
	for n, b := range map[int]*backend{11: s.backends[11], 13: s.backends[13]} { // the clients detect later that the other connections were closed
		s.eventually(func() bool { return b.visitors() == 1 },
			func() string {
				return fmt.Sprintf("%d connections to 127.0.0.%d are open, want only the held one", b.visitors(), n)
			})
	}
	v.mustReload(strings.Replace(secure, " hold", "", 1))
	s.holds(0)
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
