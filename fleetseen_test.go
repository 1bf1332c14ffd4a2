package multivalue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/miekg/dns"
)

// fleetProcess is a process that is a member of a fleet.
type fleetProcess struct {
	*process
	network *pooltest.FakeNetwork
	handler Multivalue
	name    string
}

// sharing is a stanza whose checks are shared.
func sharing(t *testing.T, at string, n *pooltest.FakeNetwork, urls ...string) *stanza {
	c := &corefile.Config{
		At: at, Zones: []string{"example.org."}, Pace: pooltest.Pace, MaxTargets: 65536, Types: answer.DefaultTypes,
		Fleet: &corefile.Fleet{Vantage: fleet.Defaults().Vantage, Quorum: fleet.Defaults().Quorum},
	}
	for _, url := range urls {
		x, err := check.New(url)
		if err != nil {
			t.Fatal(err)
		}
		c.Checks = append(c.Checks, x)
	}
	return stanzaOf(c, n)
}

// withFleet runs a test with members in fake time, until they have met. Each has the checks of its index.
func withFleet(t *testing.T, urls [][]string, f func(t *testing.T, net *pooltest.Fleet, all []*fleetProcess)) {
	synctest.Test(t, func(t *testing.T) {
		net := &pooltest.Fleet{Delay: time.Millisecond}
		var all []*fleetProcess
		for i, urls := range urls {
			x := &fleetProcess{process: newProcess(), network: pooltest.NewNetwork(), name: fmt.Sprint("m", i)}
			x.fleet.Open = func(c membership.Config, _ membership.Host) (membership.Engine, error) {
				return net.Open(c.Advertise, c.Site), nil
			}
			next := zoneOf(www...)
			g, b := blockOf(x.process, next, sharing(t, fmt.Sprint("Corefile:", i+1), x.network, urls...))
			g.fleets.Config = membership.Config{Listen: ":9254", Advertise: x.name, Site: "s" + x.name}
			if err := x.join(g); err != nil {
				t.Fatal(err)
			}
			x.confirm(g)
			record(x.process, true)
			x.handler = Multivalue{Next: next, block: b, process: x.process}
			all = append(all, x)
		}
		defer func() {
			for _, x := range all {
				for _, g := range begun[x.process] {
					x.end(g)
				}
				delete(begun, x.process)
			}
		}()
		pooltest.Elapse(15 * time.Second)
		f(t, net, all)
	})
}

// askAll asks each member for a name once a second.
func askAll(t *testing.T, d time.Duration, all []*fleetProcess) {
	for end := time.Now().Add(d); time.Now().Before(end); pooltest.Elapse(time.Second) {
		for _, x := range all {
			serve(t, x.handler, query("www.example.org.", dns.TypeA))
		}
	}
}

// shotOf is the snapshot of a member, as the page and JSON have it.
func (x *fleetProcess) shotOf(t *testing.T) *status.Snapshot {
	t.Helper()
	s, err := x.source.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// explained is the explanation of www.example.org A by a member.
func (x *fleetProcess) explained(t *testing.T) status.Explanation {
	t.Helper()
	all, err := x.source.Explain(context.Background(), status.Question{Name: "www.example.org.", Type: "A"})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return all[0]
}

// The explanation of an answer says how many of the votes find an address down, and why (B113). So does the JSON of the target.
func TestVotesAreExplained(t *testing.T) {
	tcp := []string{"tcp://:80"}
	withFleet(t, [][]string{tcp, tcp, tcp, tcp}, func(t *testing.T, net *pooltest.Fleet, all []*fleetProcess) {
		askAll(t, time.Minute, all)
		dead := pooltest.Addr(1)
		var listener *fleetProcess
		seats := 0
		for _, x := range all { // of those who probe it, one finds that it is slow
			role := x.shotOf(t).Targets[0].Role
			switch {
			case role == "heard":
				listener = x
			case seats == 0:
				x.network.Swallow(dead)
				fallthrough
			default:
				x.network.Kill(dead)
				seats++
			}
			if seats == 1 && role == "seat" {
				x.network.Revive(dead)
			}
		}
		if seats != 3 || listener == nil {
			t.Fatalf("%d seats", seats)
		}
		askAll(t, time.Minute, all)
		const verdict = "3 of 3 vantage points, connection refused 2, timed out 1"
		for _, x := range all {
			e, suffix := x.explained(t), ""
			if x == listener {
				suffix = "; this server is not one of them"
			}
			if want := "tcp://:80 at 10.0.0.1:80 is down: " + verdict + suffix + " (quorum 18%)"; !slices.Contains(e.Steps, want) {
				t.Errorf("%s: no step is %q: %q", x.name, want, e.Steps)
			}
			if want := "tcp://:80 at 10.0.0.2:80 is up: 3 of 3 vantage points"; !strings.Contains(strings.Join(e.Steps, "\n"), want) {
				t.Errorf("%s: no step begins with %q: %q", x.name, want, e.Steps)
			}
			for _, m := range e.Sets[0].Members {
				if m.Member == dead.String() && (m.Served || m.Why != verdict) {
					t.Errorf("%s: %+v", x.name, m)
				}
			}
			row, _ := json.Marshal(x.shotOf(t).Targets[0])
			for _, want := range []string{`"state":"down"`, `"reason":"connection refused 2, timed out 1"`, `"quorum":"18%"`, `"standing":"counts","state":"down"`, `"reason":"timed out"`, `"site":"sm`} {
				if !strings.Contains(string(row), want) {
					t.Errorf("%s: %s lacks %s", x.name, row, want)
				}
			}
		}
		// The one that only listened is cut off: it hears no vote for a while, and says that it probes for itself.
		net.Cut(map[string]int{listener.name: 1})
		askAll(t, 5*time.Second, all)
		e := listener.explained(t)
		if want := "tcp://:80 at 10.0.0.1:80 is down: no vote is heard: this server probes it itself, "; !strings.Contains(strings.Join(e.Steps, "\n"), want) {
			t.Errorf("no step begins with %q: %q", want, e.Steps)
		}
		if f := listener.shotOf(t).Summary.Fleet; f == nil || !f.Alone || f.Unheard == 0 || f.Silent != 3 {
			t.Errorf("%+v", f)
		}
	})
}

// Each of two members whose Corefiles differ sees what the other lacks, with the line of its own stanza (B113).
func TestDifferencesAreSeen(t *testing.T) {
	withFleet(t, [][]string{{"tcp://:80", "tcp://:81"}, {"tcp://:80"}}, func(t *testing.T, _ *pooltest.Fleet, all []*fleetProcess) {
		askAll(t, 30*time.Second, all)
		for i, want := range []string{`"lacks":[{"check":"tcp://:81","pace":"` + pooltest.Pace.String() + `","stanza":"Corefile:1"}],"other_checks":0`, `"lacks":[],"other_checks":1`} {
			s := all[i].shotOf(t)
			if len(s.Members) != 2 || s.Summary.Fleet.Differ != 1 {
				t.Fatalf("%+v", s.Summary.Fleet)
			}
			own, other := s.Members[i], s.Members[1-i]
			if text, _ := json.Marshal(other); !strings.Contains(string(text), want) {
				t.Errorf("%s: %s lacks %s", all[i].name, text, want)
			}
			if !own.Self || own.Version != Version || own.Site != "s"+own.Name || other.Self || own.Differs() {
				t.Errorf("%s: %+v", all[i].name, own)
			}
		}
	})
}
