package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// load is a client that asks without pause and repeats no query. Each query is from a port that was not used before,
// because the kernel of a node keeps the server that it chose for a known port for half a minute.
type load struct {
	mu            sync.Mutex
	asked, failed int
	first         error // the error of the first failed query
	answers       map[string]int
	over          chan struct{}
	done          sync.WaitGroup
	asking        atomic.Int32 // how many queries were ever started
}

// begin starts asking for the IPv4 addresses of a name, with several clients.
func (l *load) begin(w http.ResponseWriter, r *http.Request) {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name, server := dns.Fqdn(r.FormValue("name")), net.JoinHostPort(config.Servers[0], config.Port)
	l.end()
	over := make(chan struct{})
	l.asked, l.failed, l.first, l.answers, l.over = 0, 0, nil, make(map[string]int), over
	for range 3 {
		l.done.Go(func() { l.run(name, server, over) })
	}
}

func (l *load) run(name, server string, over chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			l.note(ask(name, server, 9000+int(l.asking.Add(1)%40000)))
		}
	}
}

// ask sends one query, and waits as long as a resolver would before it asks again.
func ask(name, server string, port int) (*dns.Msg, error) {
	client := dns.Client{Timeout: 5 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), server)
	if err == nil && (reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0) {
		err = fmt.Errorf("%s with %d records", dns.RcodeToString[reply.Rcode], len(reply.Answer))
	}
	return reply, err
}

func (l *load) note(reply *dns.Msg, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked++; err != nil {
		if l.failed++; l.first == nil {
			l.first = err
		}
		return
	}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			l.answers[a.A.String()]++
		}
	}
}

// end ends the load, if there is one.
func (l *load) end() {
	if l.over != nil {
		close(l.over)
		l.done.Wait()
		l.over = nil
	}
}

// report ends the load on request, and writes the result: queries, failures, the first failure, and the addresses.
func (l *load) report(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("end") != "" {
		l.end()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(w, "%d %d %v %v\n", l.asked, l.failed, l.first, l.answers)
}
