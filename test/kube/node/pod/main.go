// Command pod runs in the Pods of these tests. Without an argument it waits for its end, as the pause container of a
// Pod must. With "serve" it listens on port 8080, and is both a backend with a health page and a client of the
// cluster's DNS: it looks names up by its own resolv.conf and reports the result.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
		return
	}
	var l load
	var p probes
	http.HandleFunc("/healthz", p.tally)
	http.HandleFunc("/probes", p.list)
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/load", l.begin)
	http.HandleFunc("/loaded", l.report)
	http.HandleFunc("/resolv.conf", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "/etc/resolv.conf") })
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// lookup writes the addresses of a name, or why there are none. It asks a server, or else that in resolv.conf, and waits
// for as long as the request says, or else as a resolver does.
func lookup(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if limit, err := time.ParseDuration(r.FormValue("limit")); err == nil {
		var over context.CancelFunc
		ctx, over = context.WithTimeout(ctx, limit)
		defer over()
	}
	resolver := net.Resolver{PreferGo: true}
	if server := r.FormValue("server"); server != "" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(server, "53"))
		}
	}
	addresses, err := resolver.LookupHost(ctx, r.FormValue("name"))
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	slices.Sort(addresses)
	fmt.Fprintln(w, strings.Join(addresses, " "))
}

// probes counts who asked for the health page.
type probes struct {
	mu sync.Mutex
	by map[string]int
}

func (p *probes) tally(_ http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = make(map[string]int)
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	p.by[host]++
}

// list writes a line for each address: the address, and how often it has asked.
func (p *probes) list(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for host, n := range p.by {
		fmt.Fprintln(w, host, n)
	}
}
