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

// load is a client that asks without pause and repeats no query. Each query is from a port that was not used within half a
// minute, because for that time the kernel of a node keeps the server that it chose for a port. They are below those that
// the kernel gives to others.
type load struct {
	mu            sync.Mutex
	asked, failed int
	first         error // the error of the first failed query
	answers       map[string]*seen
	over          chan struct{}
	done          sync.WaitGroup
	asking        atomic.Int32 // how many queries were ever started
}

// seen is when an address was in an answer for the first and for the last time: when the queries were sent.
type seen struct {
	count       int
	first, last time.Time
}

// begin starts asking for the IPv4 addresses of a name, with several clients: of a server, or else of that in resolv.conf.
func (l *load) begin(w http.ResponseWriter, r *http.Request) {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name, server := dns.Fqdn(r.FormValue("name")), net.JoinHostPort(config.Servers[0], config.Port)
	if other := r.FormValue("server"); other != "" {
		server = net.JoinHostPort(other, "53")
	}
	l.end()
	over := make(chan struct{})
	l.asked, l.failed, l.first, l.answers, l.over = 0, 0, nil, make(map[string]*seen), over
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
			sent := time.Now()
			reply, err := ask(name, server, 9000+int(l.asking.Add(1)%23000))
			l.note(sent, reply, err)
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

func (l *load) note(sent time.Time, reply *dns.Msg, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked++; err != nil {
		if l.failed++; l.first == nil {
			l.first = fmt.Errorf("a query of %s: %w", sent.Format("15:04:05.000"), err) // to find in the events and logs
		}
		return
	}
	for _, rr := range reply.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		it := l.answers[a.A.String()]
		if it == nil {
			it = &seen{first: sent, last: sent}
			l.answers[a.A.String()] = it
		}
		it.count++
		if it.first.After(sent) { // several clients ask
			it.first = sent
		}
		if it.last.Before(sent) {
			it.last = sent
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

// report writes the result: a line with queries, failures and the first failure, and one for each address with its count,
// and how long ago it was first and last seen, in nanoseconds. On request it ends the load, or forgets the addresses.
func (l *load) report(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("end") != "" {
		l.end()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(w, "%d %d %v\n", l.asked, l.failed, l.first)
	for address, it := range l.answers {
		fmt.Fprintln(w, address, it.count, int64(time.Since(it.first)), int64(time.Since(it.last)))
	}
	if r.FormValue("forget") != "" {
		clear(l.answers)
	}
}
