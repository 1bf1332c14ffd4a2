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

// startBackend starts a backend with n ports for a protocol: tcp, http or https. It returns when all are open.
func startBackend(protocol string, n int) (*backend, error) {
	b := &backend{process: exec.Command(os.Args[0], "-serve", protocol, strconv.Itoa(n))}
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

// counts returns how many probes each port has had so far: connections for tcp, requests for http and https.
func (b *backend) counts() ([]int64, error) {
	if _, err := fmt.Fprintln(b.in, "counts"); err != nil {
		return nil, err
	}
	return b.readNumbers()
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

// serveBackend is the main function of a backend process. It writes its ports, then its counters for each line that it
// reads. It returns at the end of the input, so no backend outlives the program that started it, even if that is killed.
func serveBackend() {
	args := os.Args[2:]
	if args[0] == "single" {
		serveSingle(args[1])
		return
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		panic(err)
	}
	counts := make([]atomic.Int64, n)
	for i := range n {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			panic(err)
		}
		fmt.Print(l.Addr().(*net.TCPAddr).Port, " ")
		switch args[0] {
		case "http":
			go serveHTTP(l, &counts[i])
		case "https":
			go serveHTTP(tls.NewListener(l, selfSigned()), &counts[i])
		default:
			go accept(l, &counts[i])
		}
	}
	fmt.Println()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		for i := range counts {
			fmt.Print(counts[i].Load(), " ")
		}
		fmt.Println()
	}
}

// accept counts each connection, and keeps it open until the client closes it. Most servers do the same, and the side
// that closes first pays for it: its kernel keeps the port in TIME_WAIT.
func accept(l net.Listener, count *atomic.Int64) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		count.Add(1)
		go func() {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// serveHTTP counts each request, and answers it with status 200 and a body of three bytes.
func serveHTTP(l net.Listener, count *atomic.Int64) {
	s := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a server that is stopped cuts its probes short
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			count.Add(1)
			fmt.Fprintln(w, "ok")
		}),
	}
	_ = s.Serve(l)
}

// selfSigned returns a TLS configuration with a self-signed certificate. Its key is ECDSA with 256 bits, as most public
// certificates have today: with an RSA key the handshake would cost the backend twice as much.
func selfSigned() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"http/1.1"}}
}
