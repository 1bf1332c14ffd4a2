package gossip

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

const (
	// joinEvery is how often peers are dialled that are not there, for ever: memberlist forgets the dead after 30 seconds, and would
	// not find together again after a longer cut. Before, it is tried sooner.
	joinEvery = 15 * time.Second
	// resolveTime bounds the wait for the addresses of a name.
	resolveTime = 5 * time.Second
	// maxRemembered is how many addresses of members that died are remembered, maxDialled how many of those are dialled each time,
	// joinsAtOnce how many of all at the same time.
	maxRemembered = 256
	maxDialled    = 32
	joinsAtOnce   = 8
	// strangerEvery is how often a stranger of the same fleet is dialled.
	strangerEvery = 5 * time.Second
	// twinAfter is how long another process at the own address must have been there to be no former one of this server: memberlist takes
	// up to 72 seconds to find one dead in a fleet of 1,000.
	twinAfter = 3 * time.Minute
	// maxAddresses is how many addresses of one name are dialled, maxTold how many addresses a line in the log names.
	maxAddresses = 256
	maxTold      = 8
)

// joiner finds the other members, and goes on looking for those that are not there.
type joiner struct {
	host    membership.Host
	self    netip.AddrPort // which may be among the peers: a headless Service has all of its Pods
	watcher *watcher       // knows who is there
	join    func(addr netip.AddrPort) error
	kick    chan struct{} // there is a stranger

	mu         sync.Mutex
	peers      []string                     // of the configuration, each with a port
	remembered map[netip.AddrPort]struct{}  // where members died
	strangers  map[netip.AddrPort]time.Time // with when they were dialled; the zero time if they were not
	unresolved map[string]bool              // peers that have no address, and were warned of
	lonely     bool                         // it was warned that no peer answers
	twins      map[uint64]twin              // others at the own address, by epoch
	toldTwin   logonce.Line                 // that there is one
}

// search looks for members until the context ends.
func (j *joiner) search(ctx context.Context) {
	wait := time.Duration(0)
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			j.round(ctx, round)
			wait = min(joinEvery, max(500*time.Millisecond, 2*wait))
		case <-j.kick:
			j.visit(ctx, j.newStrangers(time.Now()))
		}
	}
}

// round dials all that are not there.
func (j *joiner) round(ctx context.Context, round int) {
	defer rescue.Log("joining the fleet")
	j.findTwin(time.Now())
	// Not all of them have to be dialled: the first that answers tells of the others, who are there by the time of their turn.
	seeds := j.seeds(ctx)
	j.visit(ctx, append(seeds, j.someRemembered()...))
	seeds = slices.DeleteFunc(seeds, func(a netip.AddrPort) bool { return a == j.self })
	j.mu.Lock()
	others, lonely := j.watcher.others(), j.lonely
	j.lonely = others == 0 && len(seeds) > 0 && (lonely || round >= 2)
	// The first rounds are quick, and a fleet whose members all start at the same time needs two of them.
	now := j.lonely
	j.mu.Unlock()
	switch {
	case now && !lonely && ctx.Err() == nil:
		j.host.Warnf("fleet: none of the peers answers, at %s: this server, which others would reach at %s, probes for itself until one does", addressList(seeds), j.self)
	case lonely && others > 0:
		j.host.Infof("fleet: other members are there: %d", others)
	}
}

// addressList is some addresses for the log.
func addressList(all []netip.AddrPort) string {
	var out strings.Builder
	for i, addr := range all[:min(len(all), maxTold)] {
		if i > 0 {
			out.WriteString(", ")
		}
		out.WriteString(addr.String())
	}
	if more := len(all) - maxTold; more > 0 {
		fmt.Fprintf(&out, " and %d more", more)
	}
	return out.String()
}

// twin is another process that claims the own address. What is said to it goes to this server, and what it says is taken for our own, so
// neither hears the other.
type twin struct {
	alive bool
	since time.Time // when it became so
	site  string
}

// meetTwin notes what memberlist has heard of one. It may be a former process of this server: then it is dead before long, and stays so.
// One that comes back from the dead lives.
func (j *joiner) meetTwin(epoch uint64, state nodeState, now time.Time) {
	j.mu.Lock()
	was, known := j.twins[epoch]
	if j.twins == nil || len(j.twins) >= maxPast {
		j.twins = make(map[uint64]twin)
	}
	f, _ := readFact(state.meta)
	is := twin{state.alive, now, f.site}
	if known && was.alive == is.alive {
		is.since = was.since
	}
	j.twins[epoch] = is
	j.mu.Unlock()
	if known && !was.alive && is.alive {
		j.warnOfTwin(epoch, is)
	}
}

// findTwin looks for one that has been there for longer than a dead process could be.
func (j *joiner) findTwin(now time.Time) {
	j.mu.Lock()
	all := maps.Clone(j.twins)
	j.mu.Unlock()
	for epoch, t := range all {
		if t.alive && now.Sub(t.since) > twinAfter {
			j.warnOfTwin(epoch, t)
		}
	}
}

// warnOfTwin says once that another server has the own address.
func (j *joiner) warnOfTwin(epoch uint64, t twin) {
	if !j.toldTwin.First() {
		return
	}
	if t.site != "" {
		t.site = ", at site " + t.site
	}
	j.host.Warnf("fleet: another server (epoch %016x%s) says that it is reached at %s, as this one does: neither hears the other; write advertise with an address of its own at each server",
		epoch, t.site, j.self)
}

// visit dials addresses, unless a member is there by then: one that answers tells of all others.
func (j *joiner) visit(ctx context.Context, addrs []netip.AddrPort) {
	// Most of those that are dialled do not answer, and each takes dialTime to show it.
	var running sync.WaitGroup
	slots := make(chan struct{}, joinsAtOnce)
	seen := make(map[netip.AddrPort]bool)
	for _, addr := range addrs {
		if seen[addr] || addr == j.self {
			continue
		}
		seen[addr] = true
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		if j.watcher.isAlive(addr) {
			<-slots
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer rescue.Log("joining a member of the fleet")
			j.join(addr)
		})
	}
	running.Wait()
}

// seeds are the addresses of the peers that the configuration names. Names are looked up each time.
func (j *joiner) seeds(ctx context.Context) []netip.AddrPort {
	j.mu.Lock()
	peers := slices.Clone(j.peers)
	j.mu.Unlock()
	// A name that is not answered must not hold up the others.
	found := make([][]netip.AddrPort, len(peers))
	var running sync.WaitGroup
	for i, peer := range peers {
		host, text, err := net.SplitHostPort(peer)
		port, errPort := strconv.ParseUint(text, 10, 16)
		if err != nil || errPort != nil {
			j.warnUnresolved(peer, "it is not a host with a port")
			continue
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			found[i] = []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(port))}
			continue
		}
		running.Go(func() {
			defer rescue.Log("looking up a peer of the fleet")
			found[i] = j.resolve(ctx, host, uint16(port))
		})
	}
	running.Wait()
	return slices.Concat(found...)
}

// resolve returns the addresses of a name.
func (j *joiner) resolve(ctx context.Context, host string, port uint16) (all []netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := j.host.Resolve(ctx, host)
	switch {
	case ctx.Err() != nil && err == nil:
		err = ctx.Err()
		fallthrough
	case err != nil:
		j.warnUnresolved(host, err.Error())
	case len(addrs) == 0:
		j.warnUnresolved(host, "it has no address")
	default:
		j.mu.Lock()
		delete(j.unresolved, host)
		j.mu.Unlock()
	}
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		if at := netip.AddrPortFrom(addr.Unmap(), port); reachable(at) {
			all = append(all, at)
		}
	}
	return all
}

// warnUnresolved says once that a peer has no address.
func (j *joiner) warnUnresolved(peer, why string) {
	j.mu.Lock()
	told := j.unresolved[peer]
	j.unresolved[peer] = true
	j.mu.Unlock()
	if !told {
		j.host.Warnf("fleet: no address of the peer %s: %s; it is looked up again", peer, why)
	}
}

// setPeers changes the peers.
func (j *joiner) setPeers(peers []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.peers = slices.Clone(peers)
	clear(j.unresolved)
}

// remember notes the address of a member that died, so that it is dialled again: the other side of a cut has no other reason to come
// back. If the address is one of another fleet by then, the name of the fleet keeps them apart.
func (j *joiner) remember(addr netip.AddrPort) {
	j.mu.Lock()
	defer j.mu.Unlock()
	// After a long life there are many that never come back. Which one goes is left to chance.
	if len(j.remembered) >= maxRemembered {
		for old := range j.remembered { // any one
			delete(j.remembered, old)
			break
		}
	}
	j.remembered[addr] = struct{}{}
}

// dropAddress notes that a member is there, or has left.
func (j *joiner) dropAddress(addr netip.AddrPort) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.remembered, addr)
	delete(j.strangers, addr)
}

// someRemembered are some of the members that died, others each time.
func (j *joiner) someRemembered() []netip.AddrPort {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := slices.Collect(maps.Keys(j.remembered))
	rand.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	return all[:min(len(all), maxDialled)]
}

// meetStranger notes a process that talks to this one, and that memberlist does not know.
func (j *joiner) meetStranger(addr netip.AddrPort, now time.Time) {
	j.mu.Lock()
	// A stranger goes on sending beats until it is known, and each would be a reason to dial.
	dialled, known := j.strangers[addr]
	if known && now.Sub(dialled) < strangerEvery || !known && len(j.strangers) >= maxRemembered {
		j.mu.Unlock()
		return
	}
	j.strangers[addr] = time.Time{}
	j.mu.Unlock()
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// newStrangers are those to dial now. Old ones are forgotten.
func (j *joiner) newStrangers(now time.Time) (all []netip.AddrPort) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for addr, dialled := range j.strangers {
		switch {
		case dialled.IsZero():
			all = append(all, addr)
			j.strangers[addr] = now
		case now.Sub(dialled) > strangerEvery:
			delete(j.strangers, addr)
		}
	}
	return all
}
