// Package membership keeps this process in a fleet while Corefiles come and go.
//
// A Keeper has the one membership of the process. A reload that asks for the same one keeps it, so that the others notice
// nothing; one that fails changes nothing, and has announced nothing; one that asks for another leaves the old fleet when the new
// servers run. How members talk is the engine's business, which is linked by package full.
package membership

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
)

// Keeper has the membership of the process. The fields are set before it is used, and its methods are not safe for concurrent use.
type Keeper struct {
	Open Opener // nil if no engine is linked
	Host Host
	// Join has the pool share its targets over an engine; nil has it share none. It starts the engine.
	Join func(Engine)

	running   *opened
	candidate *opened // of a Corefile whose servers do not run yet
}

// opened is a membership with what the Corefile says of it.
type opened struct {
	Engine
	config Config
	stale  bool // the engine could not take all of it
}

// sameMember reports whether two configurations are of one member, so that the membership goes on.
func sameMember(a, b Config) bool {
	return a.UsesStore() == b.UsesStore() && a.Store.Prefix == b.Store.Prefix && a.Listen == b.Listen && a.Advertise == b.Advertise &&
		a.Name == b.Name && a.Site == b.Site && a.Version == b.Version
}

// samePlace reports whether only one of two memberships can be open at a time. Those over a store have nothing to themselves.
func samePlace(a, b Config) bool {
	if a.UsesStore() || b.UsesStore() {
		return false
	}
	hostA, portA, errA := net.SplitHostPort(a.Listen)
	hostB, portB, errB := net.SplitHostPort(b.Listen)
	if errA != nil || errB != nil {
		return a.Listen == b.Listen
	}
	// Who listens on all addresses has the port of each.
	return portA == portB && (hostA == hostB || isEveryHost(hostA) || isEveryHost(hostB))
}

// isEveryHost reports whether a host to listen on stands for all addresses.
func isEveryHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// Prepare opens what a Corefile asks for, before its servers run. It leaves that to Confirm if the
// running membership goes on, or has the place.
func (k *Keeper) Prepare(c Config) error {
	k.Abandon()
	switch {
	case c.isNone():
		return nil
	case k.running != nil && (samePlace(c, k.running.config) || sameMember(c, k.running.config)):
		return k.running.Check(c)
	}
	m, err := k.Open(c, k.Host)
	if err != nil {
		return err
	}
	k.candidate = &opened{Engine: m, config: c}
	return nil
}

// Abandon closes what was prepared for a Corefile whose servers never ran.
func (k *Keeper) Abandon() {
	if k.candidate != nil {
		k.candidate.Leave()
		k.candidate = nil
	}
}

// Confirm makes this process a member as the Corefile asks whose servers run now. If that fails it is a member of no fleet, and
// probes for itself.
func (k *Keeper) Confirm(c Config) error {
	switch {
	case c.isNone():
		k.End()
		return nil
	case k.running != nil && sameMember(c, k.running.config):
		if reflect.DeepEqual(c, k.running.config) && !k.running.stale {
			return nil
		}
		// A file may be replaced just now. So what failed is tried again with the next reload, also with one of the same Corefile.
		k.running.config = c
		err := k.running.Update(c)
		k.running.stale = err != nil
		return err
	}
	next := k.candidate
	if next == nil || !sameMember(c, next.config) {
		k.End() // it has the place that the next one needs, as one may have that was prepared for another Corefile
		m, err := k.Open(c, k.Host)
		if err != nil {
			return fmt.Errorf("%w: this server probes for itself until a reload that can", err)
		}
		next = &opened{Engine: m, config: c}
	}
	k.candidate = nil
	before := k.running
	k.running = next
	k.Join(next.Engine)
	if before != nil {
		before.Leave()
	}
	return nil
}

// End leaves the fleet, if this process is in one, and closes what was prepared.
func (k *Keeper) End() {
	k.Abandon()
	if k.running == nil {
		return
	}
	k.Join(nil)
	k.running.Leave()
	k.running = nil
}
