package gossip

import (
	"errors"
	"io"
	"log"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	"github.com/hashicorp/memberlist"
)

const (
	// protocolVersion is that of memberlist.
	protocolVersion = memberlist.ProtocolVersion2Compatible
	// Memberlist keeps a name for 30 seconds and more after its death. So there is a bound on new names a second, after so many as a
	// fleet may have.
	namesPerSecond = 50
)

// watcher hears what memberlist knows. Memberlist calls it with its own lock held, so nothing here waits or calls it.
type watcher struct {
	self sender
	meta []byte        // what memberlist spreads of this process
	wake chan struct{} // something has changed

	mu      sync.Mutex
	alive   map[string]bool          // by name
	at      map[netip.AddrPort]int   // how many of those are at an address: two for a while, after a restart
	changed map[string]nodeState     // the last state of each; the loop takes it
	trips   map[string]time.Duration // how long the last exchange with each took
	names   bucket
}

// nodeState is what has changed of a member.
type nodeState struct {
	alive bool
	meta  []byte
}

var errTooMany = errors.New("too many names")

// newWatcher returns one that has heard nothing so far.
func newWatcher(self sender, meta []byte) *watcher {
	return &watcher{self: self, meta: meta, wake: make(chan struct{}, 1), alive: make(map[string]bool), at: make(map[netip.AddrPort]int),
		changed: make(map[string]nodeState), trips: make(map[string]time.Duration)}
}

// configure is the configuration of memberlist.
func (w *watcher) configure(t *transport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = w.self.nodeName()
	c.Transport = t
	c.BindPort, c.AdvertisePort = int(t.advertised.Port()), int(t.advertised.Port())
	c.TCPTimeout = streamTime
	c.EnableCompression = false // which doubles the processor time, and saves nothing of such short messages
	c.Delegate, c.Events, c.Alive, c.Ping = w, w, w, w
	c.Logger = log.New(io.Discard, "", 0) // it repeats what others say; what matters is counted and told here
	return c
}

// notice notes a change of a member.
func (w *watcher) notice(n *memberlist.Node, alive bool) {
	defer rescue.Log("a change in the fleet")
	if n.Name == w.self.nodeName() {
		return
	}
	addr, _, ok := splitNodeName(n.Name)
	if !ok {
		return
	}
	w.mu.Lock()
	// Only the last state of a member is kept, so this has a bound, and nothing is lost if the loop is slow.
	if alive != w.alive[n.Name] {
		if alive {
			w.alive[n.Name] = true
			w.at[addr]++
		} else {
			delete(w.alive, n.Name)
			delete(w.trips, n.Name)
			if w.at[addr]--; w.at[addr] == 0 {
				delete(w.at, addr)
			}
		}
	}
	w.changed[n.Name] = nodeState{alive, append([]byte(nil), n.Meta...)}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// changes returns what has changed since the last call.
func (w *watcher) changes() map[string]nodeState {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.changed) == 0 {
		return nil
	}
	all := w.changed
	w.changed = make(map[string]nodeState)
	return all
}

// isAlive reports whether a member is at an address.
func (w *watcher) isAlive(addr netip.AddrPort) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at[addr] > 0
}

// others is how many members are there beside this one. What is at its own address is not heard.
func (w *watcher) others() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[w.self.addr] > 0 {
		return len(w.at) - 1
	}
	return len(w.at)
}

// trip is how long the last exchange with a member took; 0 if that is not known.
func (w *watcher) trip(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips[name]
}

// The functions below are what memberlist calls.

// NodeMeta is what memberlist spreads of this process.
func (w *watcher) NodeMeta(int) []byte { return w.meta }

// NotifyMsg does nothing: our messages do not pass memberlist.
func (w *watcher) NotifyMsg([]byte) {}

// GetBroadcasts has nothing: what memberlist spreads in this way may never arrive.
func (w *watcher) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to exchange.
func (w *watcher) LocalState(bool) []byte { return nil }

// MergeRemoteState does nothing.
func (w *watcher) MergeRemoteState([]byte, bool) {}

// NotifyJoin notes a member.
func (w *watcher) NotifyJoin(n *memberlist.Node) { w.notice(n, true) }

// NotifyUpdate notes a change of a member.
func (w *watcher) NotifyUpdate(n *memberlist.Node) { w.notice(n, true) }

// NotifyLeave notes that a member has left or died.
func (w *watcher) NotifyLeave(n *memberlist.Node) { w.notice(n, false) }

// NotifyAlive refuses names beyond what a fleet may have: memberlist itself has no bound.
func (w *watcher) NotifyAlive(n *memberlist.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.Name == w.self.nodeName() || w.alive[n.Name] {
		return nil
	}
	if len(w.alive) >= fleet.MaxMembers || !w.names.admits(1, namesPerSecond, fleet.MaxMembers, time.Now()) {
		return errTooMany
	}
	return nil
}

// AckPayload has nothing to add to an answer.
func (w *watcher) AckPayload() []byte { return nil }

// NotifyPingComplete notes how long an exchange took.
func (w *watcher) NotifyPingComplete(n *memberlist.Node, took time.Duration, _ []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alive[n.Name] {
		w.trips[n.Name] = took
	}
}
