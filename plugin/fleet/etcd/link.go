package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// requestTime is how long one request may take. Votes that are as old as that do not count any longer.
	requestTime = 2 * time.Second
	// maxMessage is the longest answer that is taken, in bytes.
	maxMessage = 16 << 20
	// lookEvery is how often the files are read. Several of them are replaced one after the other, so what is wrong counts only after
	// wrongLooks.
	lookEvery  = time.Second
	wrongLooks = 3
)

// link is the way to etcd: where it is, what proves who we are, and the client that is used at the time. A client is never changed: with
// other files or addresses there is another one.
type link struct {
	host membership.Host

	mu      sync.Mutex
	store   membership.Store  // as it is in the Corefile
	secrets *secrets          // what its files say
	wanted  *membership.Store // that takes its place once its files can be read; nil for none
	refused string            // why the latest content of the files is not in force; empty if it is
	wrong   int               // looks in a row that found it so
	warned  string            // the file of which it was said that all can read it
	clear   bool              // it was said that the password is not sealed
	client  *clientv3.Client
	end     context.CancelFunc // of what uses the client
	fault   string             // of the last request that failed
	changed chan struct{}      // signalled when another client may work at once
}

// load puts a store into force.
func (l *link) load(s membership.Store) error {
	next, err := readSecrets(s)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(s, next)
	return nil
}

// put puts a store with what its files say into force. The caller holds the lock.
func (l *link) put(s membership.Store, next *secrets) {
	l.store, l.wanted, l.refused, l.wrong = s, nil, "", 0
	l.warnOfClear(next)
	l.adopt(next)
}

// switchTo loads another store. If its files cannot be used now, all of it is taken as soon as they can be.
func (l *link) switchTo(s membership.Store) error {
	err := l.load(s)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted, l.refused, l.wrong = &s, err.Error(), 0
	return fmt.Errorf("%w; what was read before stays in force until they can be used", err)
}

// warnOfClear warns once of a password that goes over a network without TLS. It is not refused: a proxy or a tunnel may be in between.
// The caller holds the lock.
func (l *link) warnOfClear(x *secrets) {
	if x.password == "" || x.tls != nil || l.clear {
		return
	}
	for _, endpoint := range l.store.Endpoints {
		if !isLoopback(endpoint) {
			l.clear = true
			l.host.Warnf("fleet: credentials without tls: the password goes to etcd at %s in clear, and who reads it on the way is believed: add tls to the block of fleet", endpoint)
			return
		}
	}
}

// isLoopback reports whether an endpoint is on this machine for sure.
func isLoopback(endpoint string) bool {
	host, _, _ := net.SplitHostPort(endpoint)
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.TrimSuffix(host, ".") == "localhost"
}

// adopt puts the content of files into force. The caller holds the lock.
func (l *link) adopt(next *secrets) {
	l.secrets = next
	if next.readable != "" && next.readable != l.warned {
		l.host.Warnf("fleet: every user of this machine can read %s, and who has what is in it is believed: use chmod o-r", next.readable)
	}
	l.warned = next.readable
	if l.end != nil {
		l.end()
	}
	signal(l.changed)
}

// keepUp puts what the files say into force, until the context ends. Only the goroutine that it is called in hangs if the file system
// does.
func (l *link) keepUp(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.lookAgain()
		}
	}
}

// lookAgain reads the files, and puts them into force if they are other ones.
func (l *link) lookAgain() {
	defer rescue.Log("reading the files of the fleet")
	l.mu.Lock()
	store, wanted := l.store, l.wanted
	l.mu.Unlock()
	if wanted != nil {
		store = *wanted
	}
	next, err := readSecrets(store) // without the lock: a file system may hang
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case wanted != l.wanted || wanted == nil && !sameStore(store, l.store): // another one has been loaded since
	case err != nil:
		if l.wrong++; l.wrong >= wrongLooks && err.Error() != l.refused {
			l.refused = err.Error()
			l.host.Warnf("fleet: %v; what was read before stays in force", err)
		}
	case wanted != nil:
		l.host.Infof("fleet: the files for etcd can be read again: they and the endpoints of the Corefile are used from now on")
		l.put(store, next)
	default:
		l.refused, l.wrong = "", 0
		if next.hash != l.secrets.hash {
			l.host.Infof("fleet: the files for etcd have another content, which is used from now on")
			l.adopt(next)
		}
	}
}

// sameStore reports whether two stores are the same.
func sameStore(a, b membership.Store) bool {
	return slices.Equal(a.Endpoints, b.Endpoints) && a.TLS == b.TLS && a.Cert == b.Cert && a.Key == b.Key && a.CA == b.CA && a.Credentials == b.Credentials
}

// connect makes a client, which is in use until the context ends that it returns.
func (l *link) connect(ctx context.Context) (context.Context, *clientv3.Client, error) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	store, secrets := l.store, l.secrets
	l.end = cancel
	l.mu.Unlock()
	scheme := "http://"
	if secrets.tls != nil {
		scheme = "https://"
	}
	// The order is another one each time, so members spread over the servers. The client uses all of those that it reaches.
	endpoints := make([]string, len(store.Endpoints))
	for i, place := range rand.Perm(len(endpoints)) {
		endpoints[i] = scheme + store.Endpoints[place]
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: secrets.tls, Username: secrets.user, Password: secrets.password, Context: clientv3.WithRequireLeader(ctx), Logger: zap.NewNop(),
		DialTimeout: requestTime, MaxCallRecvMsgSize: maxMessage, MaxUnaryRetries: 3,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(l.dial)},
	})
	if err != nil {
		cancel()
		l.failed(err)
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil {
		l.client = client
	}
	return ctx, client, nil
}

// disconnect ends the use of a client.
func (l *link) disconnect(client *clientv3.Client) {
	l.mu.Lock()
	l.client = nil
	l.end()
	l.mu.Unlock()
	client.Close()
}

// current is the client that is in use, and nil if there is none.
func (l *link) current() *clientv3.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// renew ends the use of the client that is in use: another connection may work.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		l.end()
	}
}

// failed notes why etcd cannot be used.
func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = faultText(err)
}

// lastFault is why etcd could not be used last.
func (l *link) lastFault() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// dial connects to a host and port. A name is resolved for each connection: by the host of the engine, which knows the names that this
// server answers itself, or else by the system.
func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	all, err := l.host.Resolve(ctx, host)
	if err != nil || len(all) == 0 {
		return dialer.DialContext(ctx, "tcp", address)
	}
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, addr := range all {
		// Each has its share of the time, or one that does not answer would take all of it.
		one, cancel := context.WithTimeout(ctx, max(requestTime/time.Duration(len(all)-i), requestTime/8))
		var conn net.Conn
		conn, err = dialer.DialContext(one, "tcp", net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// jittered is a time of half to all of a duration, so that members that failed together do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
