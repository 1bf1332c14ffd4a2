package multivalue

import (
	"context"
	"net"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// inquirer is the writer of a question of our own: it keeps the reply.
type inquirer struct{ reply *dns.Msg }

// nobody is where our questions come from. It is of TCP, so that no plugin shortens what it answers.
var nobody = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

func (w *inquirer) WriteMsg(m *dns.Msg) error { w.reply = m; return nil }
func (w *inquirer) Write(b []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return 0, err
	}
	w.reply = m
	return len(b), nil
}
func (w *inquirer) LocalAddr() net.Addr  { return nobody }
func (w *inquirer) RemoteAddr() net.Addr { return nobody }
func (w *inquirer) Close() error         { return nil }
func (w *inquirer) TsigStatus() error    { return nil }
func (w *inquirer) TsigTimersOnly(bool)  {}
func (w *inquirer) Hijack()              {}

// origin is the server and the view that a query came in on, which plugins that look up names through the whole server
// need.
type origin struct{ server, view any }

// originOf is where the query with that context came in.
func originOf(ctx context.Context) *origin {
	return &origin{ctx.Value(dnsserver.Key{}), ctx.Value(dnsserver.ViewKey{})}
}

// on adds the origin to a context.
func (o *origin) on(ctx context.Context) context.Context {
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
