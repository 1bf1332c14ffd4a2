package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// web is a web server that can be stopped and started again on the same address and port.
type web struct {
	at     netip.AddrPort // port 0 until the first start
	server *http.Server   // nil while stopped
	ended  chan struct{}  // closed when the server has returned

	mu sync.Mutex
	by map[string]int // requests so far, by who the header X-Member says has sent them
}

// addr returns the address and port, as in a URL.
func (w *web) addr() string { return w.at.String() }

// start starts the server. If its port is 0, it takes a free one, and keeps it for later starts.
func (w *web) start() error {
	listener, err := net.Listen("tcp", w.addr())
	if err != nil {
		return err // it names the address
	}
	w.at = listener.Addr().(*net.TCPAddr).AddrPort()
	at := w.at
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			w.arrived(request.Header.Get("X-Member"))
			fmt.Fprintln(response, "served by", at)
		}),
	}
	w.server, w.ended = server, make(chan struct{})
	go func() {
		defer close(w.ended)
		_ = server.Serve(listener) // always returns an error, ErrServerClosed after stop
	}()
	return nil
}

// arrived counts a request.
func (w *web) arrived(from string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = make(map[string]int)
	}
	w.by[from]++
}

// probes returns how many requests there were, by who has sent them.
func (w *web) probes() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.by)
}

// kill closes the listener and all connections at once, as if the process had died, and waits for the server to return. A
// server that is killed already stays so.
func (w *web) kill() {
	if w.server == nil {
		return
	}
	_ = w.server.Close()
	<-w.ended
	w.server = nil
}

// onOnePort starts a web server on each host, all on the same port. It lets the system choose a port on the first host, and
// tries again with another if that is in use on one of the others. After an error none is left running.
func onOnePort(hosts ...string) (webs []*web, err error) {
	for range 20 {
		var first, others []*web
		if first, err = startAll(0, hosts[0]); err != nil {
			return nil, err
		}
		if others, err = startAll(first[0].at.Port(), hosts[1:]...); err == nil {
			return append(first, others...), nil
		}
		stopAll(first)
	}
	return nil, err
}

// startAll starts a web server on each host, on this port or, if it is 0, on a free port each. After an error none is left
// running.
func startAll(port uint16, hosts ...string) (webs []*web, err error) {
	for _, host := range hosts {
		w := &web{at: netip.AddrPortFrom(netip.MustParseAddr(host), port)}
		if err := w.start(); err != nil {
			stopAll(webs)
			return nil, err
		}
		webs = append(webs, w)
	}
	return webs, nil
}

// stopAll stops web servers, whether they run or not.
func stopAll(webs []*web) {
	for _, w := range webs {
		w.kill()
	}
}
