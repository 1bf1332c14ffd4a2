package lookup

import (
	"context"
	"net"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// recorder is the writer of a question of our own: it keeps the reply.
type recorder struct{ reply *dns.Msg }

// localhost is where our questions come from. It is a TCP address, so that no plugin truncates what it answers.
var localhost = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

func (w *recorder) WriteMsg(m *dns.Msg) error { w.reply = m; return nil }
func (w *recorder) Write(b []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return 0, err
	}
	w.reply = m
	return len(b), nil
}
func (w *recorder) LocalAddr() net.Addr  { return localhost }
func (w *recorder) RemoteAddr() net.Addr { return localhost }
func (w *recorder) Close() error         { return nil }
func (w *recorder) TsigStatus() error    { return nil }
func (w *recorder) TsigTimersOnly(bool)  {}
func (w *recorder) Hijack()              {}

// ingress is the server and the view that a query came in on, which plugins need that look names up through the whole
// server, as *file* does to follow an alias.
type ingress struct{ server, view any }

// ingressOf is where the query with that context came in.
func ingressOf(ctx context.Context) *ingress {
	return &ingress{ctx.Value(dnsserver.Key{}), ctx.Value(dnsserver.ViewKey{})}
}

// on adds the ingress to a context.
func (o *ingress) on(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	if o == nil {
		return ctx
	}
	if o.server != nil {
		ctx = context.WithValue(ctx, dnsserver.Key{}, o.server)
	}
	if o.view != nil {
		ctx = context.WithValue(ctx, dnsserver.ViewKey{}, o.view)
	}
	return ctx
}
