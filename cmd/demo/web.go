package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// web is a web server that can be stopped and started again on the same address and port.
type web struct {
	at     netip.AddrPort
	server *http.Server
	ended  chan struct{}
}

func (w *web) addr() string { return w.at.String() }

// start starts the server. On port 0 it takes a free one, and keeps that.
func (w *web) start() error {
	listener, err := net.Listen("tcp", w.addr())
	if err != nil {
		return err // which names the address
	}
	w.at = listener.Addr().(*net.TCPAddr).AddrPort()
	at := w.at
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(response, "served by", at)
		}),
	}
	w.server, w.ended = server, make(chan struct{})
	go func() {
		defer close(w.ended)
		_ = server.Serve(listener) // it ends when it is closed, and says so
	}()
	return nil
}

func (w *web) stop() {
	if w.server == nil {
		return
	}
	_ = w.server.Close()
	<-w.ended
	w.server = nil
}

// onOnePort starts a web server on each host, all on one port that is free there. On an error none is left running.
func onOnePort(hosts ...string) (webs []*web, err error) {
	for range 20 { // the first one's port may be in use on the others
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

// startAll starts a web server on each host. On an error none is left running.
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

func stopAll(webs []*web) {
	for _, w := range webs {
		w.stop()
	}
}
