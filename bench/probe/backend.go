package main

import (
	"bufio"
	"fmt"
	"io"
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

// startPeers starts a backend with n ports that speak a protocol, tcp or http.
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
		if args[0] == "http" {
			go serveHTTP(l, &counts[i])
		} else {
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
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			count.Add(1)
			fmt.Fprintln(w, "ok")
		}),
	}
	_ = s.Serve(l)
}
