// Package gossip is an engine for a fleet that needs nothing but a file with a key.
//
// Memberlist (SWIM) says who is there and who died, and nothing else of it is used: its broadcasts lose messages for good. What
// members say goes straight from each to all, in packets of ours: words with numbers, and a beat a second with the number of the
// last one. A member that lacks
// numbers asks the author for them. Open is the one entry.
//
// The network is transport, which seals, opens and looks at all that goes to memberlist. The loop is the one goroutine that keeps the
// streams in order (inflow) and calls the listener. What the process says waits in the outbox. The joiner finds the others.
package gossip

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/hashicorp/memberlist"
)

const (
	// leaveTime is how long Leave takes at most: a quarter for what is left to say, half for memberlist, and a fifth for goroutines.
	leaveTime = 500 * time.Millisecond
	maxLabel  = 255
)

// engine is a membership. What the pool's loop calls is done by writing to the outbox, under a lock that is never held for long. The
// rest belongs to goroutines: the loop, the joiner, the one that reads the keys, those of the transport, and those of memberlist.
type engine struct {
	host membership.Host
	self fleet.Member
	as   sender     // the same, as it is written in messages
	out  *outbox    // what this process says
	t    *transport // the network
	keys *keys      // what seals it
	join *joiner    // finds the others
	loop *loop      // hears them

	contacts atomic.Pointer[[]contact]
	left     atomic.Bool // nothing is told any longer

	mu      sync.Mutex
	list    *memberlist.Memberlist // nil before the start
	cancel  context.CancelFunc     // ends what runs beside the loop
	ended   bool
	running sync.WaitGroup // what runs beside the loop
	looping sync.WaitGroup // the loop
}

// Open opens the sockets and reads the keys. It is a membership.Opener.
func Open(c membership.Config, host membership.Host) (membership.Engine, error) {
	if c.Name == "" || len(c.Name) > maxLabel {
		return nil, fmt.Errorf("invalid name %q of the fleet: use 1 to %d bytes", c.Name, maxLabel)
	}
	k := &keys{warnf: host.Warnf, infof: host.Infof, removed: make(chan struct{}, 1)}
	if err := k.load(c.Key); err != nil {
		return nil, err
	}
	// The sockets are opened now, so that a port in use is an error of the Corefile, and read from the start on.
	t, err := listen(c.Listen, envelope{c.Name, k}, host.Warnf)
	if err != nil {
		return nil, err
	}
	if t.advertised, err = advertised(c, t.tcp.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		t.Shutdown()
		return nil, err
	}
	// The epoch is drawn at random, since a clock may have been set back.
	var epoch [8]byte
	rand.Read(epoch[:])
	as := sender{t.advertised, binary.BigEndian.Uint64(epoch[:])}
	e := &engine{host: host, as: as, out: newOutbox(), t: t, keys: k,
		self: fleet.Member{Name: as.addr.String(), Epoch: as.epoch, Site: printable(c.Site)}}
	w := newWatcher(as, fact{c.Site, c.Version}.encode())
	e.join = &joiner{host: host, self: as.addr, watcher: w, kick: make(chan struct{}, 1), remembered: make(map[netip.AddrPort]struct{}),
		strangers: make(map[netip.AddrPort]time.Time), unresolved: make(map[string]bool)}
	e.join.setPeers(c.Peers)
	e.loop = &loop{self: as, t: t, out: e.out, watcher: w, joiner: e.join, contacts: &e.contacts, left: &e.left, stop: make(chan struct{}),
		peers: make(map[netip.AddrPort]*peer), lists: make(map[hash]fleet.Groups), frames: make(chan struct{}, framesAtOnce)}
	return e, nil
}

// advertised is where others reach this process: as configured, or where it listens. If that is everywhere, it is the address from
// which it would reach a peer, or the likeliest one of this machine.
func advertised(c membership.Config, listens netip.AddrPort) (netip.AddrPort, error) {
	if c.Advertise == "" {
		addr := listens.Addr().Unmap().WithZone("")
		if addr.IsUnspecified() {
			addr = likeliest(c.Peers)
		}
		at := netip.AddrPortFrom(addr, listens.Port())
		if !reachable(at) {
			return at, fmt.Errorf("this machine has no address that others could reach: name one with advertise")
		}
		return at, nil
	}
	host, text, err := net.SplitHostPort(c.Advertise)
	if err != nil {
		host, text = c.Advertise, strconv.Itoa(int(listens.Port()))
	}
	addr, err := netip.ParseAddr(host)
	port, errPort := strconv.ParseUint(text, 10, 16)
	at := netip.AddrPortFrom(addr.Unmap(), uint16(port))
	if err != nil || errPort != nil || !reachable(at) {
		return at, fmt.Errorf("invalid advertise %q: use an address that others reach, with or without a port, such as 192.0.2.1:9254", c.Advertise)
	}
	return at, nil
}

// likeliest is the address of this machine that others are likeliest to reach.
func likeliest(peers []string) netip.Addr {
	for _, peer := range peers {
		to, err := netip.ParseAddrPort(peer)
		if err != nil {
			continue
		}
		// This sends nothing: it asks the routing table.
		if conn, err := net.Dial("udp", to.String()); err == nil {
			conn.Close()
			return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		}
	}
	best, score := netip.Addr{}, 0
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		all, _ := i.Addrs()
		for _, a := range all {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := prefix.Addr().Unmap()
			if s := suitability(i.Name, addr); s > score {
				best, score = addr, s
			}
		}
	}
	return best
}

// ownNetworks are the first letters of interfaces that lead to networks inside a machine, such as that of Docker. Each machine may have
// the same address there.
var ownNetworks = []string{"docker", "br-", "virbr", "cni", "podman", "lxc", "lxd", "veth", "flannel", "cali", "cilium", "weave", "kube-", "nodelocaldns"}

// suitability is how likely others reach an address of an interface; 0 if they do not.
func suitability(name string, addr netip.Addr) int {
	isOwn := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	switch {
	case addr.IsLinkLocalUnicast():
		return 0
	case addr.IsLoopback():
		return 1
	case slices.ContainsFunc(ownNetworks, isOwn):
		return 2
	case addr.Is6():
		return 3
	case !addr.IsPrivate():
		return 4
	}
	// An address of a private network is what machines of one site have in common, and what is not translated on the way.
	return 5
}

// Self is this process as the others know it.
func (e *engine) Self() fleet.Member { return e.self }

// Start joins the fleet.
func (e *engine) Start(groups fleet.Groups, to fleet.Listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended || e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.Announce(groups)
	e.loop.listener, e.loop.started = to, time.Now()
	own, _ := hashOf(groups)
	none, _ := hashOf(nil)
	e.loop.lists[own], e.loop.lists[none] = groups, fleet.Groups{}
	// From here on others are heard. Memberlist starts goroutines of its own, which end with its Shutdown.
	e.t.receive()
	list, err := memberlist.Create(e.loop.watcher.configure(e.t))
	if err != nil {
		// It needs nothing that could be missing, once the sockets are open. Members that dial this one are still met.
		e.host.Warnf("fleet: %v; this server probes for itself", err)
		return
	}
	e.list = list
	e.join.join = func(addr netip.AddrPort) error {
		_, err := list.Join([]string{addr.String()})
		return err
	}
	e.looping.Go(func() { defer rescue.Log("the fleet"); e.loop.work() })
	e.running.Go(func() { defer rescue.Log("finding the fleet"); e.join.search(ctx) })
	e.running.Go(func() { defer rescue.Log("the keys of the fleet"); e.keys.keepUp(ctx.Done()) })
}

// Update changes the peers and the file with the keys.
func (e *engine) Update(c membership.Config) error {
	e.join.setPeers(c.Peers)
	return e.keys.switchTo(c.Key)
}

// Check reads the keys, and uses them for nothing. The port may be that of this engine, which leaves it before the next one opens: what
// can be known now is whether the address is one of this machine.
func (e *engine) Check(c membership.Config) error {
	silent := func(string, ...any) {}
	if err := (&keys{warnf: silent, infof: silent}).load(c.Key); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil || host == "" {
		return nil // Open says what is wrong with it
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return listenError(c.Listen, "TCP", err)
	}
	return l.Close()
}

// Announce says which groups this process shares.
func (e *engine) Announce(groups fleet.Groups) { e.out.announce(hashOf(groups)) }

// Say adds to the stream.
func (e *engine) Say(votes []fleet.Vote) { e.out.say(votes) }

// Answer repeats votes for one member.
func (e *engine) Answer(to string, votes []fleet.Vote) { e.out.answer(to, votes) }

// Ask sends a want to some members.
func (e *engine) Ask(of []string, want fleet.Want) { e.out.ask(of, want) }

// Call sends a last call to all.
func (e *engine) Call(call fleet.Call) { e.out.call(call) }

// Turn shows that the loop of this process turns.
func (e *engine) Turn(isolated bool) { e.out.turn(isolated, time.Now()) }

// Leave says that this process stops, and ends everything.
func (e *engine) Leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	e.ended = true
	// Nothing is said any longer, from any goroutine.
	e.out.close()
	if e.cancel == nil {
		e.left.Store(true)
		e.t.Shutdown()
		return
	}
	// The order matters: first what this process says itself, over sockets that are open, then memberlist, which tells the others in its
	// own way, then the sockets. Each of these waits for a part of the time only.
	until := time.Now().Add(leaveTime)
	close(e.loop.stop)
	rescue.Wait(&e.looping, leaveTime/4)
	e.left.Store(true)
	e.cancel()
	if e.list != nil {
		func() {
			defer rescue.Log("leaving the fleet")
			e.list.Leave(leaveTime / 2) // an error says that the time was too short: then the beat has to do
			e.list.Shutdown()
		}()
	}
	e.t.Shutdown()
	rescue.Wait(&e.running, time.Until(until))
	rescue.Wait(&e.looping, time.Until(until))
	clearMetrics()
}
