//go:build linux

package fleet

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// manner is how a backend treats the probes.
type manner int

const (
	sound   manner = iota
	stalls         // it accepts connections, and never answers
	refuses        // nothing listens
)

// visit is one probe.
type visit struct {
	at   time.Time
	by   int    // the number of the server; 0 if it did not say
	path string // that was asked for
}

// backend is a web server at 127.9.0.N that notes who asks it.
type backend struct {
	scene *scene
	addr  string
	mu    sync.Mutex
	as    manner
	ill   func(by int, path string) bool // for whom a sound one stalls; nil for none
	l     net.Listener
	all   []visit
	open  map[net.Conn]struct{}
	runs  sync.WaitGroup
}

// newBackend starts a backend, which ends with the test.
func (s *scene) newBackend(n int) {
	s.Helper()
	b := &backend{scene: s, addr: fmt.Sprintf("127.9.0.%d:%d", n, s.backendPort), as: refuses, open: make(map[net.Conn]struct{})}
	s.backends[n] = b
	b.turn(sound)
	s.Cleanup(func() { b.turn(refuses); b.runs.Wait() })
}

// turn changes how the backend treats probes.
func (b *backend) turn(as manner) {
	b.scene.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case as == refuses && b.l != nil:
		b.l.Close()
		b.l = nil
		for conn := range b.open {
			conn.Close()
		}
	case as != refuses && b.l == nil:
		l := ports.Listen(b.scene, b.addr)
		b.l = l
		b.runs.Go(func() { b.accept(l) })
	}
	b.as = as
}

// fails has a sound backend stall for some who ask. Nil is none.
func (b *backend) fails(who func(by int, path string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ill = who
}

func (b *backend) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		at := time.Now()
		b.mu.Lock()
		if b.l != l {
			conn.Close()
		}
		b.open[conn] = struct{}{}
		b.mu.Unlock()
		b.runs.Go(func() {
			b.serve(conn, at)
			conn.Close()
			b.mu.Lock()
			delete(b.open, conn)
			b.mu.Unlock()
		})
	}
}

// serve notes a probe and answers it, or waits until the other side has had enough.
func (b *backend) serve(conn net.Conn, at time.Time) {
	_ = conn.SetDeadline(at.Add(patience))
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	v := visit{at: at, path: r.URL.Path}
	v.by, _ = strconv.Atoi(r.Header.Get("X-Server"))
	b.mu.Lock()
	b.all = append(b.all, v)
	good := b.as == sound && (b.ill == nil || !b.ill(v.by, v.path))
	b.mu.Unlock()
	if good {
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		return
	}
	_, _ = in.ReadByte()
}

// visits are the probes from one time up to another. The zero time is now.
func (b *backend) visits(from, to time.Time) (some []visit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.all {
		if !v.at.Before(from) && (to.IsZero() || v.at.Before(to)) {
			some = append(some, v)
		}
	}
	slices.SortFunc(some, func(x, y visit) int { return x.at.Compare(y.at) })
	return some
}

// probers are the servers that have probed a backend since, by number, sorted.
func (b *backend) probers(since time.Time) []int {
	var all []int
	for _, v := range b.visits(since, time.Time{}) {
		all = append(all, v.by)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
