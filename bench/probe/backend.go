package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// backend is a process that probes arrive at: a few ports, each open on every loopback address, and a counter for each.
// It is this program, started again with -serve. It is a process of its own so that its garbage collection and its half
// of the handshakes do not delay the queries that this program sends.
//
// Each measured server probes a port of its own. So the counters tell how many probes each server sent, and no server's
// own statistics have to be trusted.
type backend struct {
	process *exec.Cmd
	in      io.WriteCloser // asks for the counters
	out     *bufio.Reader  // has the ports, then the counters
	ports   []int
}

// tally is what has arrived at a port so far.
type tally struct {
	probes      int64 // connections for tcp, requests for http and https, queries for dns
	connections int64 // equal to probes if none is used twice; 0 for dns
	resumed     int64 // connections whose handshake of TLS resumed an earlier one
}

// startBackend starts a backend with a port for each of the protocols: tcp, http, https or dns. It returns when all are open.
func startBackend(protocols ...string) (*backend, error) {
	b := &backend{process: exec.Command(os.Args[0], append([]string{"-serve"}, protocols...)...)}
	b.process.Stderr = os.Stderr
	var err error
	if b.in, err = b.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.out = bufio.NewReader(out)
	if err := b.process.Start(); err != nil {
		return nil, err
	}
	ports, err := b.readNumbers()
	for _, port := range ports {
		b.ports = append(b.ports, int(port))
	}
	return b, err
}

// counts returns what each port has had so far.
func (b *backend) counts() ([]tally, error) {
	if _, err := fmt.Fprintln(b.in, "counts"); err != nil {
		return nil, err
	}
	numbers, err := b.readNumbers()
	if err != nil {
		return nil, err
	}
	all := make([]tally, len(b.ports))
	for i := range all {
		all[i] = tally{numbers[3*i], numbers[3*i+1], numbers[3*i+2]}
	}
	return all, nil
}

// readNumbers reads one line of numbers from the backend.
func (b *backend) readNumbers() ([]int64, error) {
	line, err := b.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var all []int64
	for _, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// shutdown ends the backend by closing its input, and waits for it.
func (b *backend) shutdown() {
	b.in.Close()
	_ = b.process.Wait()
}

// counters are a tally that is still counted.
type counters struct{ probes, connections, resumed atomic.Int64 }

// serveBackend is the main function of a backend process. It writes its ports, then its counters for each line that it
// reads. It returns at the end of the input, so no backend outlives the program that started it, even if that is killed.
func serveBackend() {
	args := os.Args[2:]
	if args[0] == "single" {
		serveSingle(args[1])
		return
	}
	counts := make([]counters, len(args))
	for i, protocol := range args {
		port, err := serveProtocol(protocol, &counts[i])
		if err != nil {
			panic(err)
		}
		fmt.Print(port, " ")
	}
	fmt.Println()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		for i := range counts {
			fmt.Print(counts[i].probes.Load(), " ", counts[i].connections.Load(), " ", counts[i].resumed.Load(), " ")
		}
		fmt.Println()
	}
}

// serveProtocol opens a port on every loopback address, and serves it in the background.
func serveProtocol(protocol string, count *counters) (port int, err error) {
	if protocol == "dns" {
		return serveDNS(count)
	}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, err
	}
	switch protocol {
	case "http":
		go serveHTTP(l, count)
	case "https":
		go serveHTTP(tls.NewListener(l, selfSigned(count)), count)
	default:
		go accept(l, count)
	}
	return l.Addr().(*net.TCPAddr).Port, nil
}

// accept counts each connection, and keeps it open until the client closes it. Most servers do the same, and the side
// that closes first pays for it: its kernel keeps the port in TIME_WAIT.
func accept(l net.Listener, count *counters) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		count.probes.Add(1)
		count.connections.Add(1)
		go func() {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// serveHTTP counts each request, and answers it with status 200 and a body of three bytes. It keeps connections, as most
// servers do, for clients that ask again.
func serveHTTP(l net.Listener, count *counters) {
	s := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a server that is stopped cuts its probes short
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				count.connections.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			count.probes.Add(1)
			fmt.Fprintln(w, "ok")
		}),
	}
	_ = s.Serve(l)
}

// serveDNS counts each query over UDP, and answers it with one address.
func serveDNS(count *counters) (port int, err error) {
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		return 0, err
	}
	address := net.IPv4(127, 0, 0, 1)
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		count.probes.Add(1)
		reply := new(dns.Msg).SetReply(query)
		reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: address}}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = s.ActivateAndServe() }()
	return conn.LocalAddr().(*net.UDPAddr).Port, nil
}

// selfSigned returns a TLS configuration with a self-signed certificate. Its key is ECDSA with 256 bits, as most public
// certificates have today: with an RSA key the handshake would cost the backend twice as much. The handshakes that resume
// an earlier one are counted.
func selfSigned(count *counters) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"http/1.1"},
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.DidResume {
				count.resumed.Add(1)
			}
			return nil
		},
	}
}
