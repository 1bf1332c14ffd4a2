package multivalue

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// surveyed is the cluster of a test, whose zones it hands over. There is no other cluster.
type surveyed struct {
	clusters
	zones  chan []topology.Entry
	follow int
	over   int
}

func (c *surveyed) Sites(kubeconfig, _ string) (topology.Cluster, error) {
	if kubeconfig != "it" {
		return nil, errors.New("no such file")
	}
	return c, nil
}

func (c *surveyed) Same(other topology.Cluster) bool { return c == other }

func (c *surveyed) Follow(ctx context.Context, take func([]topology.Entry)) error {
	c.follow++
	defer func() { c.over++ }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case zones := <-c.zones:
			take(zones)
		}
	}
}

// nearestStanza judges two addresses by sites.
func nearestStanza(n *pooltest.FakeNetwork) *stanza {
	s := testStanza("tcp://:80", n, pooltest.Pace)
	s.config.Policy = answer.Policy{MinUp: answer.Quorum{Count: 1}, Nearest: true}
	s.Rule.Policy = s.config.Policy
	return s
}

// The zones of a cluster are followed from when the servers run, over reloads, and until no Corefile names them. Before the
// cluster has said anything, every client gets all addresses (B98).
func TestZonesOfACluster(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		c := &surveyed{zones: make(chan []topology.Entry)}
		p.kubernetes = c
		load := func(config *corefile.Config) Multivalue {
			g := p.newGeneration()
			begun[p] = append(begun[p], g)
			stanzas, err := g.addStanzas("", []*corefile.Config{config})
			if err != nil {
				t.Fatal(err)
			}
			b := g.newBlock(nil, 0, []*corefile.Config{config}, stanzas)
			next := zoneOf(test.A("www.example.org. 30 IN A 192.0.2.1"), test.A("www.example.org. 30 IN A 198.51.100.1"))
			b.Resolver.SetNext(next)
			if err := p.join(g); err != nil {
				t.Fatal(err)
			}
			p.confirm(g)
			return Multivalue{Next: next, block: b, process: p}
		}
		p.newSpec = answeredBy(n)
		config := nearestStanza(n).config
		config.Zoned = &corefile.Cluster{Kubeconfig: "it"}
		h := load(config)
		gets := func(client, want string) {
			t.Helper()
			pooltest.Elapse(time.Second)
			if _, m := exchangeOf(t, h, client, query("www.example.org.", dns.TypeA)); addressesOf(m) != want {
				t.Errorf("%s gets %s, want %s", client, addressesOf(m), want)
			}
		}
		gets("10.0.0.7", "192.0.2.1 198.51.100.1")
		c.zones <- []topology.Entry{
			{Site: "a", Network: netip.MustParsePrefix("10.0.0.0/24")}, {Site: "a", Network: netip.MustParsePrefix("198.51.100.0/24")}, {Site: "b", Network: netip.MustParsePrefix("192.0.2.0/24")},
		}
		gets("10.0.0.7", "198.51.100.1")
		gets("192.0.2.9", "192.0.2.1")
		before := begun[p][0]
		h = load(config)
		p.end(before)
		gets("10.0.0.7", "198.51.100.1")
		if c.follow != 1 || c.over != 0 {
			t.Errorf("after a reload, the cluster was followed %d times, and %d times to the end", c.follow, c.over)
		}
		p.end(begun[p][1])
		if begun[p] = nil; c.follow != 1 || c.over != 1 {
			t.Errorf("at the end, the cluster was followed %d times, and %d times to the end", c.follow, c.over)
		}
	})
}

// What a Corefile asks for that cannot be had is an error with its line.
func TestZonesRefused(t *testing.T) {
	configs, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\nselect nearest\ntopology kubernetes missing\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess()
	if err := p.validate(configs); err == nil || !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: topology kubernetes is not part of this CoreDNS") {
		t.Errorf("without a way to Kubernetes: %v", err)
	}
	p.kubernetes = &surveyed{}
	if err := p.validate(configs); err != nil {
		t.Error(err)
	}
	if _, err := p.newGeneration().addStanzas("", configs); err == nil || !strings.Contains(err.Error(), "Corefile:5 - Error during parsing: topology kubernetes: no such file") {
		t.Errorf("with a kubeconfig that is missing: %v", err)
	}
}

// The file of sites counts when it appears, and what it said last stays while it is broken or missing (B96).
func TestSitesOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sites")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			pooltest.Elapse(31 * time.Second) // fake time does not move the times of files
		}
		s := nearestStanza(n)
		next := zoneOf(test.A("www.example.org. 30 IN A 192.0.2.1"), test.A("www.example.org. 30 IN A 198.51.100.1"))
		g, b := blockOf(p, next, s)
		s.Topology = g.sites.Open(path)
		if err := p.join(g); err != nil {
			t.Fatal(err)
		}
		p.confirm(g)
		h := Multivalue{Next: next, block: b, process: p}
		gets := func(when, want string) {
			t.Helper()
			if _, m := exchangeOf(t, h, "198.51.100.9", query("www.example.org.", dns.TypeA)); addressesOf(m) != want {
				t.Errorf("%s, the client gets %s, want %s", when, addressesOf(m), want)
			}
		}
		gets("without a file", "192.0.2.1 198.51.100.1")
		write("site a 192.0.2.0/24\nsite b 198.51.100.0/24")
		gets("with a file", "198.51.100.1")
		write("site a 198.51.100.0/24\nsite a")
		gets("with a broken file", "198.51.100.1")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pooltest.Elapse(31 * time.Second)
		gets("without the file", "198.51.100.1")
		write("site b 192.0.2.0/24\nclients b 198.51.100.9")
		gets("with a repaired file", "192.0.2.1")
		s.Rule.Policy.DryRun = true
		gets("in a dry run", "192.0.2.1 198.51.100.1")
	})
}

// The files of sites in the documents are valid.
func TestSitesInTheDocs(t *testing.T) {
	files := 0
	for _, doc := range []string{"docs/manual.md", "docs/compared.md"} {
		for _, m := range regexp.MustCompile("(?ms)^~~~ sites\n(.*?)^~~~$").FindAllStringSubmatch(read(t, doc), -1) {
			files++
			if sites, err := topology.Parse([]byte(m[1])); err != nil || sites.Sites() < 2 || sites.Networks() < 2 {
				t.Errorf("%s: %v in\n%s", doc, err, m[1])
			}
		}
	}
	if files != 3 {
		t.Errorf("%d files of sites in the documents, want 3", files)
	}
}
