package membership_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// keeping is a keeper with the real engine, and what it had the pool join.
type keeping struct {
	*membership.Keeper
	t      *testing.T
	joined []membership.Engine
}

// deaf is a listener that does nothing.
type deaf struct{}

func (deaf) Met(fleet.Member)            {}
func (deaf) Left(string)                 {}
func (deaf) Heard(string, uint64, bool)  {}
func (deaf) Silent(string)               {}
func (deaf) Restarted(string, uint64)    {}
func (deaf) Said(string, uint64, []byte) {}

func newKeeping(t *testing.T) *keeping {
	k := &keeping{t: t}
	k.Keeper = &membership.Keeper{Open: gossip.Open, Host: membership.Host{
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, nil },
		Warnf:   t.Logf, Infof: t.Logf,
	}, Join: func(e membership.Engine) {
		k.joined = append(k.joined, e)
		if e != nil {
			e.Start(nil, deaf{})
		}
	}}
	t.Cleanup(k.End)
	return k
}

// last is the engine that the pool has joined last.
func (k *keeping) last() membership.Engine {
	if len(k.joined) == 0 {
		return nil
	}
	return k.joined[len(k.joined)-1]
}

func (k *keeping) start(c membership.Config) {
	k.t.Helper()
	if err := k.Prepare(c); err != nil {
		k.t.Fatal(err)
	}
	if err := k.Confirm(c); err != nil {
		k.t.Fatal(err)
	}
}

func configFor(t *testing.T) membership.Config {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	return membership.Config{Peers: []string{"127.0.0.1:9"}, Key: key, Listen: fmt.Sprint("127.0.0.1:", ports.Free(t)), Name: "test"}
}

// isFree reports whether an address can be listened on.
func isFree(t *testing.T, address string) bool {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// A reload that asks for the same member keeps it, whatever other members it names (B110).
func TestKeep(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	k.start(c)
	first := k.last()
	k.start(c)
	c.Peers = []string{"127.0.0.1:9", "127.0.0.2:9"}
	k.start(c)
	if len(k.joined) != 1 || k.last() != first {
		t.Fatalf("the pool has joined %d times", len(k.joined))
	}
	c.Key = filepath.Join(t.TempDir(), "absent")
	if err := k.Prepare(c); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("another file with keys, which does not exist: %v", err)
	}
}

// A start that fails has announced nothing, and leaves the port free (B110).
func TestAbandon(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	if err := k.Prepare(c); err != nil {
		t.Fatal(err)
	}
	if isFree(t, c.Listen) {
		t.Error("the port is free, although a Corefile has it")
	}
	k.Abandon()
	if !isFree(t, c.Listen) || len(k.joined) > 0 {
		t.Errorf("after a failed start: %d joined, or the port is taken", len(k.joined))
	}
	k.start(c)
	other := configFor(t)
	if err := k.Prepare(other); err != nil {
		t.Fatal(err)
	}
	k.Abandon()
	if isFree(t, c.Listen) || !isFree(t, other.Listen) || len(k.joined) != 1 {
		t.Error("a failed reload has changed the member")
	}
}

// What was prepared for a Corefile that does not run in the end keeps no port, if an earlier one runs after all.
func TestConfirmAnother(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	other := configFor(t)
	if err := k.Prepare(other); err != nil {
		t.Fatal(err)
	}
	if err := k.Confirm(c); err != nil {
		t.Fatal(err)
	}
	if isFree(t, c.Listen) || !isFree(t, other.Listen) || len(k.joined) != 1 {
		t.Errorf("%d joined, or the port of the other is taken", len(k.joined))
	}
}

// A port in use fails the start, and not only the membership.
func TestPortInUse(t *testing.T) {
	c := configFor(t)
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := newKeeping(t).Prepare(c); err == nil || !strings.Contains(err.Error(), c.Listen) {
		t.Errorf("%v", err)
	}
}

// A reload changes the fleet, at the same place or at another one, and one without a fleet leaves it.
func TestChange(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	k.start(c)
	first := k.last()
	c.Name = "another"
	k.start(c)
	if k.last() == first || k.last() == nil || isFree(t, c.Listen) {
		t.Fatal("the name of the fleet has not changed")
	}
	second, before := k.last(), c.Listen
	c.Listen = fmt.Sprint("127.0.0.1:", ports.Free(t))
	k.start(c)
	if k.last() == second || !isFree(t, before) || isFree(t, c.Listen) {
		t.Fatal("the place has not changed")
	}
	k.start(membership.Config{})
	if k.last() != nil || !isFree(t, c.Listen) {
		t.Error("the fleet has not been left")
	}
}

// failing is an engine whose updates fail while its file is replaced.
type failing struct {
	membership.Engine
	err     error
	updates int
}

func (f *failing) Update(membership.Config) error {
	f.updates++
	return f.err
}

// A reload whose keys could not be read is no end of it: the next one tries again, also with the same Corefile, and the one after that
// has nothing to do (B110).
func TestUpdateIsTriedAgain(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	f := new(failing)
	k.Open = func(c membership.Config, host membership.Host) (m membership.Engine, err error) {
		f.Engine, err = gossip.Open(c, host)
		return f, err
	}
	k.start(c)
	c.Peers = []string{"127.0.0.2:9"}
	f.err = os.ErrNotExist
	for n := 1; n <= 2; n++ {
		if err := k.Confirm(c); err == nil || f.updates != n {
			t.Fatalf("%v, %d updates, want %d", err, f.updates, n)
		}
	}
	f.err = nil
	k.start(c)
	k.start(c)
	if f.updates != 3 || len(k.joined) != 1 {
		t.Errorf("%d updates, %d joined", f.updates, len(k.joined))
	}
}

// A reload changes the address at the same port, to all addresses and back: one has the port of the other, so it is given up first. An
// address of another machine is refused while that can be done without a loss (B110).
func TestAddressChanges(t *testing.T) {
	k, c := newKeeping(t), configFor(t)
	k.start(c)
	_, port, _ := net.SplitHostPort(c.Listen)
	for n, listen := range []string{":" + port, c.Listen, "0.0.0.0:" + port, c.Listen} {
		before := k.last()
		c.Listen = listen
		k.start(c)
		if k.last() == before || k.last() == nil || isFree(t, listen) { // of the address itself: some systems let one be bound beside all
			t.Fatalf("change %d: the address is not %s", n, listen)
		}
	}
	c.Listen = ":" + port
	k.start(c)
	bad, before := c, k.last()
	bad.Listen = "192.0.2.99:" + port
	if err := k.Prepare(bad); err == nil || !strings.Contains(err.Error(), bad.Listen) {
		t.Errorf("an address of another machine: %v", err)
	}
	k.start(c)
	if k.last() != before {
		t.Error("a failed reload has changed the member")
	}
}
