package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

const (
	name = "www.example.org."
	// patience is how long the scene waits for an answer that has to come about. It is many times the bound.
	patience = 30 * time.Second
)

// pace is quicker than the default, so that the scene is short.
var pace = verdict.Pace{Interval: time.Second, Fast: 200 * time.Millisecond, Timeout: 500 * time.Millisecond, Rise: 2, Fall: 3}

// hosts are where the web servers listen. Both are this machine.
var hosts = []netip.Addr{netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("127.0.0.12")}

// play plays the scene, and tells it on out.
func play(ctx context.Context, out io.Writer, port int, keep bool) error {
	stage, err := build(port)
	if err != nil {
		return err
	}
	defer stage.close()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	say("Two web servers: http://%s/ and http://%s/", stage.webs[0].addr(), stage.webs[1].addr())
	say("CoreDNS with multivalue on %s, with this Corefile:\n\n%s", stage.dns, indent(stage.corefile))
	say("$ %s", stage.dig())
	if _, err := stage.await(ctx, say, hosts...); err != nil {
		return err
	}
	say("\nStopping the web server on %s ...", hosts[1])
	stage.webs[1].stop()
	took, err := stage.await(ctx, say, hosts[0])
	if err != nil {
		return err
	}
	say("gone after %.1f s (promised: %.1f s at the most)", took.Seconds(), pace.Bound().Seconds())
	say("\nStarting it again ...")
	if err := stage.webs[1].start(); err != nil {
		return err
	}
	if took, err = stage.await(ctx, say, hosts...); err != nil {
		return err
	}
	say("back after %.1f s", took.Seconds())
	if keep {
		say("\nLeft running; end it with Ctrl-C. Try\n\n    %s", stage.dig())
		<-ctx.Done()
	}
	return nil
}

// await asks until the answer has just these addresses. It prints each answer that differs from the one before, and
// returns how long it took.
func (s *stage) await(ctx context.Context, say func(string, ...any), want ...netip.Addr) (time.Duration, error) {
	began := time.Now()
	var last []netip.Addr
	for {
		got, err := s.ask(ctx)
		if err != nil {
			return 0, err
		}
		if !slices.Equal(got, last) {
			say("  %5.1f s   %s", time.Since(began).Seconds(), join(got))
			last = got
		}
		if slices.Equal(got, want) {
			return time.Since(began), nil
		}
		if time.Since(began) > patience {
			return 0, fmt.Errorf("after %s the answer is %s, and not %s", patience, join(got), join(want))
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ask sends one query over UDP, and returns the addresses of the answer in their order.
func (s *stage) ask(ctx context.Context) ([]netip.Addr, error) {
	question := new(dns.Msg)
	question.SetQuestion(name, dns.TypeA)
	reply, _, err := new(dns.Client).ExchangeContext(ctx, question, s.dns)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no answer from %s: %w", s.dns, err)
	}
	var addrs []netip.Addr
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}

// dig is the command that asks the same.
func (s *stage) dig() string {
	host, port, _ := net.SplitHostPort(s.dns)
	return fmt.Sprintf("dig +short @%s -p %s %s A", host, port, strings.TrimSuffix(name, "."))
}

// web is a web server that can be stopped and started again on the same address.
type web struct {
	at     netip.AddrPort
	server *http.Server
	ended  chan struct{}
}

func (w *web) addr() string { return w.at.String() }

func (w *web) start() error {
	listener, err := net.Listen("tcp", w.addr())
	if err != nil {
		return fmt.Errorf("the web server: %w", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(response, "served by", w.at)
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

func join(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "no address"
	}
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return strings.Join(words, "  ")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}

var errNoPort = errors.New("no port is free on both web servers' addresses")
