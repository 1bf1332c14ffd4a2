package test

import (
	"context"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// sharing is a Corefile whose server is a member of a fleet.
const sharing = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        status 127.0.0.1:STATUS
        fleet 127.0.0.1:OTHER {
            key DIR/fleet.key
            listen 127.0.0.1:FLEET
            site ams
        }
    }
}`

// deaf is the listener of a member that wants to know nothing.
type deaf struct{}

func (deaf) Met(fleet.Member)           {}
func (deaf) Left(string)                {}
func (deaf) Heard(string, uint64, bool) {}
func (deaf) Silent(string)              {}
func (deaf) Restarted(string, uint64)   {}
func (deaf) Said(string, uint64, []byte) {
}

// stranger is another member of the fleet of a scene, with another Corefile.
func (s *scene) stranger(port, of string) membership.Engine {
	s.Helper()
	host := membership.Host{Warnf: s.Logf, Infof: s.Logf, Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, nil }}
	e, err := gossip.Open(membership.Config{
		Peers: []string{"127.0.0.1:" + of}, Key: s.dir + "/fleet.key", Listen: "127.0.0.1:" + port, Name: "multivalue", Site: "fra", Version: "9.9",
	}, host)
	if err != nil {
		s.Fatal(err)
	}
	e.Start(fleet.Groups{{1}: {}}, deaf{})
	return e
}

// A server in a fleet describes it as the OpenAPI file says: its members with what they lack, the votes on its targets with
// reasons, and the words for these in explanations (B113).
func TestOpenAPIOfAFleet(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.verbatim("fleet.key", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	own, other := freePort(s), freePort(s)
	v, base := s.shown(strings.NewReplacer("FLEET", own, "OTHER", other).Replace(sharing))
	e := s.stranger(other, own)
	defer e.Leave()
	v.comesTo("www.example.org A", "11")
	var api openAPI
	s.json(base+"/openapi.json", &api)
	type member struct {
		Name, Site, Version, State string
		Self                       bool
		Lacks                      []struct{ Check, Stanza string }
		Others                     int `json:"other_checks"`
	}
	var list struct{ Members []member }
	s.eventually(func() bool {
		e.Turn(false)
		s.json(base+"/v1/members", &list)
		return len(list.Members) == 2 && list.Members[0].State == "alive" && list.Members[1].State == "alive" && list.Members[0].Others+list.Members[1].Others == 1
	}, func() string { return "the members do not see each other" })
	for _, m := range list.Members {
		switch {
		case m.Self && (m.Site != "ams" || m.Version != multivalue.Version || len(m.Lacks) > 0):
			t.Errorf("this server is %+v", m)
		case !m.Self && (m.Site != "fra" || m.Version != "9.9" || len(m.Lacks) != 1 || !strings.HasPrefix(m.Lacks[0].Check, "http://") || !strings.Contains(m.Lacks[0].Stanza, "Corefile:")):
			t.Errorf("the other member is %+v", m)
		}
	}
	for _, path := range []string{"/v1/members", "/v1/members?state=alive&site=fra&limit=1", "/v1/targets", "/v1/summary", "/v1/explain?name=www.example.org"} {
		for _, complaint := range api.disagrees(path, s.fetch(base, path, nil)) {
			t.Error(complaint)
		}
	}
	var targets struct {
		Targets []struct {
			Address, Role string
			Votes         []struct{ Standing, State, Reason string }
		}
	}
	s.json(base+"/v1/targets?state=down", &targets)
	if len(targets.Targets) != 1 || targets.Targets[0].Role != "seat" || len(targets.Targets[0].Votes) != 1 || targets.Targets[0].Votes[0].Reason != "connection refused" {
		t.Errorf("%+v", targets)
	}
	step := "is down: 1 of 1 vantage point, connection refused (quorum 18%)"
	if steps := strings.Join(s.explain(base, "www.example.org A").Explanations[0].Steps, "\n"); !strings.Contains(steps, step) {
		t.Errorf("no step ends with %q: %s", step, steps)
	}
	if status, page := s.get(base + "/"); status != 200 || !strings.Contains(page, "does not have <code>check http://") || !strings.Contains(page, `class="votes"`) {
		t.Errorf("%d: %s", status, page)
	}
}
