package multivalue

import (
	"context"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

const (
	// maxDenials is how many names the start of authority is kept for. Beyond, NODATA goes out without one, and is
	// not kept by resolvers.
	maxDenials = 1024
	// soaTimeout bounds a question for a start of authority, soaPause the time between two that failed.
	soaTimeout = 3 * time.Second
	soaPause   = 5 * time.Second
	// soaStop is how long a stop waits for a question under way, which a plugin may keep though its context has ended.
	soaStop = 500 * time.Millisecond
)

// denials knows the start of authority of the zones whose names may have to be denied. It is asked of the plugins below
// in the background, ahead of need, since a query must not wait for it.
type denials struct {
	known atomic.Pointer[map[string]*dns.SOA] // by owner name in lower case
	busy  atomic.Bool                         // one question at a time
	quit  chan struct{}

	starting sync.Mutex // held to begin a question, and to end them all; never by a query that finds what it needs
	ended    bool
	work     sync.WaitGroup
}

// soa returns the start of authority of the zone that holds a name, or nil while it is not known.
func (d *denials) soa(owner string) *dns.SOA {
	if known := d.known.Load(); known != nil {
		return (*known)[strings.ToLower(owner)]
	}
	return nil
}

// prepare asks next, in the background, for the start of authority of the zone that holds a name, unless it is known.
func (d *denials) prepare(ctx context.Context, next plugin.Handler, owner string) {
	if d.soa(owner) != nil || d.size() >= maxDenials || !d.busy.CompareAndSwap(false, true) {
		return
	}
	server := ctx.Value(dnsserver.Key{})
	view := ctx.Value(dnsserver.ViewKey{})
	d.begin(func() {
		defer d.busy.Store(false)
		defer survive("the question for a start of authority")
		// Not the query's context: that ends with the query, and its metadata is not for other goroutines.
		ctx := context.WithValue(context.Background(), dnsserver.Key{}, server)
		ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
		if view != nil {
			ctx = context.WithValue(ctx, dnsserver.ViewKey{}, view)
		}
		ctx, cancel := until(ctx, d.quit)
		defer cancel()
		if soa := askSOA(ctx, next, owner); soa != nil {
			d.learn(owner, soa)
			return
		}
		select {
		case <-time.After(soaPause):
		case <-d.quit:
		}
	})
}

// begin starts the work, unless all of it has ended.
func (d *denials) begin(work func()) {
	d.starting.Lock()
	defer d.starting.Unlock()
	if !d.ended {
		d.work.Go(work)
	}
}

func (d *denials) size() int {
	if known := d.known.Load(); known != nil {
		return len(*known)
	}
	return 0
}

func (d *denials) learn(owner string, soa *dns.SOA) {
	next := make(map[string]*dns.SOA)
	if known := d.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	next[strings.ToLower(owner)] = soa
	d.known.Store(&next)
}

// close ends the questions, and waits until they have, but not for a plugin that does not heed its context.
func (d *denials) close() {
	d.starting.Lock()
	if !d.ended {
		d.ended = true
		close(d.quit)
	}
	d.starting.Unlock()
	done := make(chan struct{})
	go func() { d.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(soaStop):
	}
}

// until is ctx, cancelled when quit is closed.
func until(ctx context.Context, quit <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, soaTimeout)
	go func() {
		select {
		case <-quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// askSOA asks for the start of authority at a name: the answer has it at the top of a zone, the authority section of
// the denial below.
func askSOA(ctx context.Context, next plugin.Handler, owner string) *dns.SOA {
	question := new(dns.Msg)
	question.SetQuestion(owner, dns.TypeSOA)
	var in inquiry
	if _, err := plugin.NextOrFailure(name, next, ctx, &in, question); err != nil || in.reply == nil {
		return nil
	}
	for _, section := range [][]dns.RR{in.reply.Answer, in.reply.Ns} {
		for _, rr := range section {
			if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, owner) {
				own := *soa
				return &own
			}
		}
	}
	return nil
}

// inquiry is the writer of a question of our own: it keeps the reply.
type inquiry struct{ reply *dns.Msg }

var inquirer = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}

func (in *inquiry) WriteMsg(m *dns.Msg) error { in.reply = m; return nil }
func (in *inquiry) Write(b []byte) (int, error) {
	m := new(dns.Msg)
	in.reply = m
	return len(b), m.Unpack(b)
}
func (in *inquiry) LocalAddr() net.Addr  { return inquirer }
func (in *inquiry) RemoteAddr() net.Addr { return inquirer }
func (in *inquiry) Close() error         { return nil }
func (in *inquiry) TsigStatus() error    { return nil }
func (in *inquiry) TsigTimersOnly(bool)  {}
func (in *inquiry) Hijack()              {}

// survive, deferred, keeps a panic in our background work from taking the DNS server down.
func survive(what string) {
	if r := recover(); r != nil {
		panics.Inc()
		log.Errorf("%s panicked: %v", what, r)
	}
}
