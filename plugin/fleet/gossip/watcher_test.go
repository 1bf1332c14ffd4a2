package gossip

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	"github.com/hashicorp/memberlist"
)

// nodeAt is a member for memberlist.
func nodeAt(n int) *memberlist.Node {
	addr := netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)})
	return &memberlist.Node{Name: sender{netip.AddrPortFrom(addr, 9), 1}.nodeName()}
}

// Memberlist gets no more living members than a fleet may have, and no more names that come and go than a bound a second.
func TestNamesAreBounded(t *testing.T) {
	w := newWatcher(testSender, nil)
	for n := range fleet.MaxMembers {
		if err := w.NotifyAlive(nodeAt(n)); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		w.NotifyJoin(nodeAt(n))
	}
	if err := w.NotifyAlive(nodeAt(fleet.MaxMembers)); err == nil {
		t.Error("there are too many")
	}
	if err := w.NotifyAlive(nodeAt(0)); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := w.NotifyAlive(&memberlist.Node{Name: testSender.nodeName()}); err != nil {
		t.Errorf("this process: %v", err)
	}
	w = newWatcher(testSender, nil)
	taken := 0
	for n := range 4 * fleet.MaxMembers {
		if w.NotifyAlive(nodeAt(n)) == nil {
			taken++
			w.NotifyJoin(nodeAt(n))
			w.NotifyLeave(nodeAt(n))
		}
	}
	if taken < fleet.MaxMembers || taken > 2*fleet.MaxMembers || w.others() != 0 {
		t.Errorf("%d names, %d are left", taken, w.others())
	}
}

// Two epochs at one address are one member, which is there until both have gone.
func TestEpochsAtOneAddress(t *testing.T) {
	w := newWatcher(testSender, nil)
	at := netip.MustParseAddrPort("127.0.0.7:9")
	node := func(epoch uint64) *memberlist.Node {
		return &memberlist.Node{Name: sender{at, epoch}.nodeName(), Meta: fmt.Append(nil, epoch)}
	}
	w.NotifyJoin(node(1))
	w.NotifyUpdate(node(1))
	w.NotifyJoin(node(2))
	w.NotifyLeave(node(1))
	if !w.isAlive(at) || w.others() != 1 {
		t.Error("it has gone")
	}
	w.NotifyLeave(node(2))
	w.NotifyLeave(node(2))
	if w.isAlive(at) || w.others() != 0 {
		t.Error("it is there")
	}
	w.NotifyJoin(&memberlist.Node{Name: "nonsense"})
	w.NotifyJoin(&memberlist.Node{Name: sender{testSender.addr, testSender.epoch + 1}.nodeName()})
	if w.others() != 0 {
		t.Error("another process at the own address is another member")
	}
	if changes := w.changes(); len(changes) != 3 || changes[node(1).Name].alive || w.changes() != nil {
		t.Errorf("%v", changes)
	}
}
