package pool

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// ownerStanza returns a stanza whose check asks for the owner name. Each owner has its own network.
func ownerStanza(networks map[string]*pooltest.FakeNetwork, pace verdict.Pace) *stanza {
	s := testStanza("http://:80/ host owner", nil, pace)
	s.checks[0].forOwner = func(owner string) Prober { return networks[owner] }
	return s
}

const wwwName, apiName = "www.example.org.", "api.example.org."

// One address may be up for one name and down for another. Names compare without regard to case.
func TestOwnersApart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		networks := map[string]*pooltest.FakeNetwork{wwwName: n, apiName: pooltest.NewNetwork()}
		networks[apiName].Kill(pooltest.Addr(1))
		s := ownerStanza(networks, pooltest.Pace)
		begin(p, s)
		look := func(owner string) verdict.State { return s.Look(owner, pooltest.Addr(1), 0, 30).State() }
		for range 30 {
			look(wwwName)
			look("API.example.ORG.")
			pooltest.Elapse(time.Second)
		}
		if look("WWW.Example.org.") != verdict.Up || look(apiName) != verdict.Down || look("other.example.org.") != verdict.Unknown {
			t.Errorf("www is %s, api is %s, another is %s", look(wwwName), look(apiName), look("other.example.org."))
		}
		if got := sizeOf(p).monitors; got != 3 {
			t.Errorf("%d targets for 3 names", got)
		}
		if allocs := testing.AllocsPerRun(100, func() { look(wwwName) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// A reload keeps the verdicts of each name, also at another pace. A name that no query asks for is forgotten.
func TestOwnersOverAReload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		networks := map[string]*pooltest.FakeNetwork{wwwName: n, apiName: pooltest.NewNetwork()}
		networks[apiName].Kill(pooltest.Addr(1))
		first := ownerStanza(networks, pooltest.Pace)
		old := begin(p, first)
		for range 30 {
			first.Look(wwwName, pooltest.Addr(1), 0, 30)
			first.Look(apiName, pooltest.Addr(1), 0, 30)
			pooltest.Elapse(time.Second)
		}
		slower := pooltest.Pace
		slower.Interval *= 2
		for _, pace := range []verdict.Pace{pooltest.Pace, slower} {
			s := ownerStanza(networks, pace)
			g := begin(p, s)
			p.Leave(old)
			old = g
			if up, down := s.Look(wwwName, pooltest.Addr(1), 0, 30).State(), s.Look(apiName, pooltest.Addr(1), 0, 30).State(); up != verdict.Up || down != verdict.Down {
				t.Errorf("after a reload: %s and %s", up, down)
			}
			if got := sizeOf(p).monitors; got != 2 {
				t.Errorf("%d targets", got)
			}
		}
		pooltest.Elapse(25 * time.Hour)
		if got := sizeOf(p).monitors; got != 0 {
			t.Errorf("%d targets that no query asks for", got)
		}
	})
}

// Below a wildcard, any name has the address. One address is probed for a limited number of names, so that a client
// that queries many names cannot flood it and takes no capacity from others (B61). When some names are forgotten,
// others can be added.
func TestOwnersOfAWildcard(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := ownerStanza(nil, pooltest.Pace)
		s.checks[0].forOwner = func(string) Prober { return n }
		begin(p, s)
		look := func(i int, a netip.Addr) { s.Look(fmt.Sprintf("x%d.example.org.", i), a, 0, 30) }
		for i := range maxOwners + 100 {
			look(i, pooltest.Addr(1))
			if i%100 == 0 {
				synctest.Wait() // the pool's inbox has a limit as well
			}
		}
		synctest.Wait()
		if got := sizeOf(p).monitors; got != maxOwners {
			t.Errorf("%d targets of one address, want %d", got, maxOwners)
		}
		look(maxOwners+200, pooltest.Addr(2))
		synctest.Wait()
		if got := sizeOf(p).monitors; got != maxOwners+1 {
			t.Errorf("%d targets with another address, want %d", got, maxOwners+1)
		}
		pooltest.Elapse(time.Hour)
		look(maxOwners+300, pooltest.Addr(1))
		synctest.Wait()
		if got := sizeOf(p).monitors; got != maxOwners+1 || p.find(keyOf(s, maxOwners+300)) == nil {
			t.Errorf("%d targets, want %d, with the new name in place of an idle one", got, maxOwners+1)
		}
		pooltest.Elapse(25 * time.Hour)
		look(maxOwners+400, pooltest.Addr(1))
		synctest.Wait()
		if got := sizeOf(p).monitors; got != 1 || len(p.owners) != 1 {
			t.Errorf("%d targets and %d addresses after they were forgotten, want 1 each", got, len(p.owners))
		}
	})
}

// keyOf is the target of address 1 for a name of TestOwnersOfAWildcard, and its seed.
func keyOf(s *stanza, i int) (*verdict.Target, uint64) {
	t, seed := s.checks[0].target(fmt.Sprintf("x%d.example.org.", i), pooltest.Addr(1), 0)
	return &t, seed
}

// A name with letters outside ASCII is the same name in the pool and in the table.
func TestOwnerBeyondASCII(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := ownerStanza(nil, pooltest.Pace)
		s.checks[0].forOwner = func(string) Prober { return n }
		begin(p, s)
		for range 20 {
			s.Look("BÜCHER.example.org.", pooltest.Addr(1), 0, 30)
			pooltest.Elapse(time.Second)
		}
		if got := sizeOf(p).monitors; got != 1 {
			t.Errorf("%d targets of one name", got)
		}
	})
}
