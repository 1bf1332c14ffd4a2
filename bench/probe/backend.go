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

// peers is a backend process: a few ports that accept on every address of loopback, each of which counts.
type peers struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	ports   []int
}

// startPeers starts a backend with n ports that speak a protocol: tcp, http or https.
func startPeers(protocol string, n int) (*peers, error) {
	p := &peers{process: exec.Command(os.Args[0], "-serve", protocol, strconv.Itoa(n))}
	p.process.Stderr = os.Stderr
	var err error
	if p.in, err = p.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	ports, err := p.numbers()
	for _, port := range ports {
		p.ports = append(p.ports, int(port))
	}
	return p, err
}

// counts is how many connections each port has had.
func (p *peers) counts() ([]int64, error) {
	if _, err := fmt.Fprintln(p.in, "counts"); err != nil {
		return nil, err
	}
	return p.numbers()
}

// numbers reads a line of them.
func (p *peers) numbers() ([]int64, error) {
	line, err := p.out.ReadString('\n')
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

func (p *peers) stop() {
	p.in.Close() // it ends by that
	_ = p.process.Wait()
}

// backend is the process: it writes its ports, and then its counts for each line that it reads, until there is none.
func backend() {
	args := os.Args[2:]
	if args[0] == "victim" {
		victim(args[1])
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

// accept lets the other side hang up first, as most servers do.
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

func serveHTTP(l net.Listener, count *atomic.Int64) {
	s := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // probes that are cut short when it begins
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			count.Add(1)
			fmt.Fprintln(w, "ok")
		}),
	}
	_ = s.Serve(l)
}

// selfSigned is TLS with a certificate of the kind that most servers have by now, which nobody has signed.
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
