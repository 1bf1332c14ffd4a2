package multivalue

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// ownerStanza is a stanza whose check asks for the owner: each has a network of its own.
func ownerStanza(networks map[string]*fakeNetwork, pace verdict.Pace) *parsedStanza {
	s := testStanza("http://:80/ host owner", nil, pace)
	s.checks[0].forOwner = func(owner string) prober { return networks[owner] }
	s.seal(pace)
	return s
}

const wwwName, apiName = "www.example.org.", "api.example.org."

// One address may be up for one name and down for another. Letter case makes no other name.
func TestOwnersApart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		networks := map[string]*fakeNetwork{wwwName: n, apiName: newFakeNetwork()}
		networks[apiName].kill(addr(1))
		s := ownerStanza(networks, testPace)
		begin(p, s)
		look := func(owner string) verdict.State { return s.Look(owner, addr(1), 0, 30).State() }
		for range 30 {
			look(wwwName)
			look("API.example.ORG.")
			time.Sleep(time.Second)
		}
		if look("WWW.Example.org.") != verdict.Up || look(apiName) != verdict.Down || look("other.example.org.") != verdict.Unknown {
			t.Errorf("www is %s, api is %s, another is %s", look(wwwName), look(apiName), look("other.example.org."))
		}
		if got := sizeOf(p).watches; got != 3 {
			t.Errorf("%d targets for 3 names", got)
		}
		if s.Seat(addr(1)) != nil {
			t.Error("an address has one seat for all names")
		}
		if allocs := testing.AllocsPerRun(100, func() { look(wwwName) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// A reload keeps what is known for each name, also at another pace; what nobody asks for any more is forgotten.
func TestOwnersOverAReload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		networks := map[string]*fakeNetwork{wwwName: n, apiName: newFakeNetwork()}
		networks[apiName].kill(addr(1))
		first := ownerStanza(networks, testPace)
		old := begin(p, first)
		for range 30 {
			first.Look(wwwName, addr(1), 0, 30)
			first.Look(apiName, addr(1), 0, 30)
			time.Sleep(time.Second)
		}
		slower := testPace
		slower.Interval *= 2
		for _, pace := range []verdict.Pace{testPace, slower} {
			s := ownerStanza(networks, pace)
			g := begin(p, s)
			p.leave(old)
			old = g
			if up, down := s.Look(wwwName, addr(1), 0, 30).State(), s.Look(apiName, addr(1), 0, 30).State(); up != verdict.Up || down != verdict.Down {
				t.Errorf("after a reload: %s and %s", up, down)
			}
			if got := sizeOf(p).watches; got != 2 {
				t.Errorf("%d targets", got)
			}
		}
		time.Sleep(time.Hour)
		if got := sizeOf(p).watches; got != 0 {
			t.Errorf("%d targets that nobody asks for", got)
		}
	})
}
