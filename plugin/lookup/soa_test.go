package lookup

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// apexes answers SOA questions by the closest of these zones, and nothing for names outside them, as *file* does with
// several zones. It notes the questions.
type apexes struct {
	zones []string
	mu    sync.Mutex
	asked []string // a test reads it when all goroutines are blocked
}

func (a *apexes) handler() plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		name := r.Question[0].Name
		a.mu.Lock()
		a.asked = append(a.asked, name)
		a.mu.Unlock()
		zone := plugin.Zones(a.zones).Matches(name)
		if zone == "" {
			return dns.RcodeRefused, nil
		}
		m := new(dns.Msg)
		m.SetReply(r)
		soa, err := dns.NewRR(zone + " 300 IN SOA ns. hostmaster. 1 7200 3600 1209600 60")
		if err != nil {
			return dns.RcodeServerFailure, err
		}
		if zone == name {
			m.Answer = []dns.RR{soa}
		} else {
			m.Ns = []dns.RR{soa}
		}
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

// needSOA looks the SOA of a name up, as an answer does that needs it, and returns the apex. It lets the question be
// answered first.
func needSOA(l *Resolver, name, top string) string {
	for range 3 { // the name itself may be asked after top
		if _, missing := l.SOA(name, top); missing.Name != "" {
			l.Request(missing)
			l.Start()
		}
		pooltest.Elapse(time.Millisecond)
	}
	if soa, _ := l.SOA(name, top); soa != nil {
		return soa.Hdr.Name
	}
	return ""
}

// One question serves all names below a name, one more the zone if that begins higher up, and the closest apex that is known
// counts (B31).
func TestSOAOfTheZone(t *testing.T) {
	for what, tc := range map[string]struct {
		zones string // that are served
		names string // each with the top that is likely in its zone, and with the zone whose SOA it should get
		asked string
	}{
		"the apex":         {"example.org.", "a.example.org./example.org.=example.org. b.example.org./example.org.=example.org.", "example.org."},
		"below the apex":   {"example.org.", "a.x.example.org./x.example.org.=example.org. b.x.example.org./x.example.org.=example.org. a.y.example.org./y.example.org.=example.org.", "x.example.org. example.org. y.example.org."},
		"a child":          {"example.org. sub.example.org.", "a.example.org./example.org.=example.org. a.sub.example.org./sub.example.org.=sub.example.org. b.sub.example.org./example.org.=sub.example.org. xsub.example.org./example.org.=example.org.", "example.org. sub.example.org."},
		"the child first":  {"example.org. sub.example.org.", "a.sub.example.org./sub.example.org.=sub.example.org. a.example.org./example.org.=example.org.", "sub.example.org. example.org."},
		"the name alone":   {"example.org.", "example.org./example.org.=example.org.", "example.org."},
		"nothing at top":   {"a.example.org.", "a.example.org./example.org.=a.example.org. b.example.org./example.org.=", "example.org. a.example.org. b.example.org."},
		"the root":         {".", "a.example.org./example.org.=. b.example.org./example.org.=.", "example.org. ."},
		"no zone anywhere": {"", "a.example.org./example.org.=", "example.org. a.example.org."},
	} {
		a := &apexes{zones: strings.Fields(tc.zones)}
		inBubble(t, a.handler(), func(t *testing.T, l *Resolver) {
			for word := range strings.FieldsSeq(tc.names) {
				question, want, _ := strings.Cut(word, "=")
				name, top, _ := strings.Cut(question, "/")
				if got := needSOA(l, name, top); got != want {
					t.Errorf("%s: %s below %q got the SOA of %q, want %q", what, name, top, got, want)
				}
				if soa := l.PeekSOA(name, top); (soa != nil) != (want != "") {
					t.Errorf("%s: an explanation finds %v for %s", what, soa, name)
				}
			}
			if got := strings.Join(a.asked, " "); got != tc.asked {
				t.Errorf("%s: asked for %s, want %s", what, got, tc.asked)
			}
		})
	}
}

// Where plugins have no SOA at all, not every name is asked about (B31).
func TestNoSOAAnywhere(t *testing.T) {
	a := new(apexes)
	inBubble(t, a.handler(), func(t *testing.T, l *Resolver) {
		for i := range 2 * maxNoSOA {
			needSOA(l, fmt.Sprintf("h%d.example.org.", i), "example.org.")
		}
		if got := l.Known(); got > maxNoSOA+1 {
			t.Errorf("%d questions, want %d at most", got, maxNoSOA+1)
		}
	})
}

// The SOA of a zone is renewed while queries need it, and forgotten after that; a name below the apex is asked about less
// often, and gets the latest SOA too. A query for it allocates nothing.
func TestSOAStaysWhileNeeded(t *testing.T) {
	a := &apexes{zones: []string{"example.org.", "sub.example.org."}}
	inBubble(t, a.handler(), func(t *testing.T, l *Resolver) {
		needSOA(l, "a.sub.example.org.", "sub.example.org.")
		needSOA(l, "c.other.example.org.", "other.example.org.")
		for range 15 * 60 {
			needSOA(l, "a.b.example.org.", "b.example.org.")
			needSOA(l, "a.sub.example.org.", "example.org.") // as if its answer did not show the zone
			pooltest.Elapse(time.Second)
		}
		if got := l.Known(); got != 3 {
			t.Errorf("%d questions are kept, want those for two zones and b.example.org", got)
		}
		asked := make(map[string]int)
		for _, name := range a.asked {
			asked[name]++
		}
		for name, want := range map[string]int{"example.org.": 15, "sub.example.org.": 15, "b.example.org.": 3, "other.example.org.": 1} {
			if got := asked[name]; got < want || got > want+2 {
				t.Errorf("%s was asked about %d times in 15 minutes, want %d: a minimum TTL of a minute", name, got, want)
			}
		}
		latest, _ := l.SOA("example.org.", "example.org.")
		if soa, _ := l.SOA("a.b.example.org.", "b.example.org."); soa != latest {
			t.Errorf("below the apex, the SOA is %v, want the latest one, %v", soa, latest)
		}
		if n := testing.AllocsPerRun(100, func() { l.SOA("a.b.example.org.", "b.example.org.") }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		pooltest.Elapse(dropAfter + time.Minute)
		if _, missing := l.SOA("a.b.example.org.", "b.example.org."); missing.Name != "b.example.org." || l.Known() != 0 {
			t.Errorf("it is still known when nothing needs it: missing is %v", missing)
		}
	})
}
