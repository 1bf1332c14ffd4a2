package check

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// dial connects to addr, for no longer than ctx. The caller calls hangUp when done; after that nothing is left.
//
// When ctx ends, by its deadline or before, the connection is closed, which ends every read and write at once. A
// deadline on the connection would be the lesser means: crypto/tls sets one of its own for its last message, and that
// would undo ours.
func dial(ctx context.Context, addr netip.AddrPort) (conn net.Conn, hangUp func(), err error) {
	dialer := net.Dialer{KeepAlive: -1 * time.Second} // a probe is over before a keep-alive would be due
	conn, err = dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, nil, connectFailure(err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		conn.Close()
	})
	return conn, func() {
		if !stop() {
			<-ended // its goroutine has begun: it must be over before the probe is
		}
		conn.Close()
	}, nil
}
