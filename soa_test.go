package multivalue

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/file"

	"github.com/miekg/dns"
)

// files serves zones as *file* does, and counts SOA questions. Their text has records without a start of authority. bare
// leaves the name servers out of answers, as *kubernetes* and *minimal* do.
func files(t *testing.T, zones map[string]string, bare bool) (next plugin.Handler, asked *atomic.Int32) {
	t.Helper()
	f := file.File{Zones: file.Zones{Z: make(map[string]*file.Zone)}}
	for name, text := range zones {
		text = fmt.Sprintf("@ 300 IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ 300 IN NS ns\n%s\n", text)
		z, err := file.Parse(strings.NewReader(text), name, "db", -1)
		if err != nil {
			t.Fatal(err)
		}
		f.Zones.Z[name], f.Names = z, append(f.Names, name)
	}
	asked = new(atomic.Int32)
	return plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		if r.Question[0].Qtype == dns.TypeSOA {
			asked.Add(1)
		}
		if bare {
			w = bareWriter{w}
		}
		return f.ServeDNS(ctx, w, r)
	}), asked
}

// bareWriter leaves the authority section out of answers that have records.
type bareWriter struct{ dns.ResponseWriter }

func (w bareWriter) WriteMsg(m *dns.Msg) error {
	if len(m.Answer) > 0 {
		m.Ns = nil
	}
	return w.ResponseWriter.WriteMsg(m)
}

// However many names a zone has, its SOA is asked for once. Where answers do not show their zone, names with different names
// above them cost one more question each (B31).
func TestOneSOAForAZone(t *testing.T) {
	const names = 500
	for what, tc := range map[string]struct {
		format string // of the names, by their number
		bare   bool
		want   int32
	}{
		"side by side":       {"h%d", false, 1},
		"side by side, bare": {"h%d", true, 1},
		"deep":               {"h%d.a%[1]d", false, 1},
		"deep, bare":         {"h%d.shop", true, 2},
	} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			var zone strings.Builder
			for i := range names {
				fmt.Fprintf(&zone, tc.format+" 30 IN A 10.0.0.1\n", i)
				fmt.Fprintf(&zone, tc.format+" 30 IN A 10.0.0.2\n", i)
			}
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			next, asked := files(t, map[string]string{"example.org.": zone.String()}, tc.bare)
			h := serving(p, next, closing(n))
			for i := range names {
				serve(t, h, query(fmt.Sprintf(tc.format+".example.org.", i), dns.TypeA))
			}
			pooltest.Elapse(20 * time.Second)
			for i := range names {
				if got := deniedBy(t, h, fmt.Sprintf(tc.format+".Example.org.", i)); got != "example.org." {
					t.Fatalf("%s: name %d is denied by %q", what, i, got)
				}
			}
			pooltest.Elapse(time.Second) // what the denials have requested is asked in the background
			if got := asked.Load(); got != tc.want {
				t.Errorf("%s: %d SOA questions for %d names, want %d", what, got, names, tc.want)
			}
		})
	}
}

// Names of a delegated zone that the same server has get the SOA of their own zone, also if no answer shows that zone (B31).
func TestSOAOfADelegatedZone(t *testing.T) {
	const set = "@ 30 IN A 10.0.0.1\n@ 30 IN A 10.0.0.2\nwww 30 IN A 10.0.0.1\nwww 30 IN A 10.0.0.2\n"
	for _, bare := range []bool{false, true} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			next, asked := files(t, map[string]string{
				"example.org.":     set + "sub 30 IN NS ns.sub\nns.sub 30 IN A 192.0.2.1\nalias 30 IN CNAME www.sub\n",
				"sub.example.org.": set,
			}, bare)
			h := serving(p, next, closing(n))
			for _, name := range []string{"www.example.org.", "www.sub.example.org.", "sub.example.org."} {
				serve(t, h, query(name, dns.TypeA))
				serve(t, h, query(name, dns.TypeAAAA)) // a denial at the apex, which shows the zone
			}
			pooltest.Elapse(20 * time.Second)
			for name, want := range map[string]string{
				"www.example.org.": "example.org.", "example.org.": "example.org.",
				"www.sub.example.org.": "sub.example.org.", "WWW.Sub.example.org.": "sub.example.org.", "sub.example.org.": "sub.example.org.",
			} {
				if got := deniedBy(t, h, name); got != want {
					t.Errorf("bare %t: %s is denied by %q, want %s", bare, name, got, want)
				}
			}
			if asked.Load() != 2 {
				t.Errorf("bare %t: %d SOA questions for two zones", bare, asked.Load())
			}
		})
	}
}

// A denial shows that a zone begins at its name, if nothing else does (B31).
func TestSOAOfADeniedApex(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		next, _ := files(t, map[string]string{"example.org.": "", "sub.example.org.": "@ 30 IN A 10.0.0.1\n@ 30 IN A 10.0.0.2\n"}, true)
		h := serving(p, next, closing(n))
		serve(t, h, query("sub.example.org.", dns.TypeAAAA))
		keepAsking(t, h, 20*time.Second, "sub.example.org.", dns.TypeA)
		if got := deniedBy(t, h, "sub.example.org."); got != "sub.example.org." {
			t.Errorf("denied by %s", got)
		}
	})
}

// closing returns a stanza for example.org that answers NODATA when all addresses are down.
func closing(n *pooltest.FakeNetwork) *stanza {
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
	s.Rule.Policy.AllDown = answer.NoData
	return s
}

// deniedBy returns the zone whose SOA a NODATA answer has, or the answer if it is none.
func deniedBy(t *testing.T, h plugin.Handler, name string) string {
	t.Helper()
	m, _ := serve(t, h, query(name, dns.TypeA))
	if len(m.Answer) != 0 || len(m.Ns) != 1 {
		return m.String()
	}
	return m.Ns[0].Header().Name
}

// A query for a set that may end as NODATA costs no more allocations than another, once the SOA is known.
func TestSOAAllocatesNothing(t *testing.T) {
	allocations := func(policy answer.AllDown) (n float64) {
		inBubble(t, func(t *testing.T, p *process, network *pooltest.FakeNetwork) {
			s := forZone(testStanza("tcp://:80", network, pooltest.Pace), "example.org.")
			s.Rule.Policy.AllDown = policy
			next, _ := files(t, map[string]string{"example.org.": "a.b.www 30 IN A 10.0.0.1\na.b.www 30 IN A 10.0.0.2"}, false)
			h := serving(p, next, s)
			keepAsking(t, h, 30*time.Second, "a.b.www.example.org.", dns.TypeA)
			// The least of many single runs, because the scratch of package answer comes from a sync.Pool, which may be empty.
			n = math.Inf(1)
			for range 60 {
				n = min(n, testing.AllocsPerRun(1, func() { serve(t, h, query("a.b.www.example.org.", dns.TypeA)) }))
			}
		})
		return n
	}
	if with, without := allocations(answer.NoData), allocations(answer.Serve); with != without {
		t.Errorf("%v allocations with all_down nodata, %v without", with, without)
	}
}
