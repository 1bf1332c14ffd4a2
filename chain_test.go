package multivalue

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/network"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

type named string

func (n named) Name() string { return string(n) }
func (n named) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeSuccess, nil
}

// The position of multivalue among the other plugins of the chain is checked (T33).
func TestNeighbours(t *testing.T) {
	configs, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	above := []string{"multivalue", "cache", "dnssec", "forward"}
	below := []string{"cache", "dnssec", "multivalue", "forward"}
	for _, tc := range []struct {
		order    []string
		handlers []plugin.Handler
		want     []string
	}{
		{above, []plugin.Handler{named("cache")}, nil},
		{above, []plugin.Handler{named("cache"), named("dnssec")}, []string{"above dnssec"}},
		{below, []plugin.Handler{named("cache")}, []string{"below cache"}},
		{below, []plugin.Handler{named("dnssec")}, []string{"below dnssec"}},
	} {
		got := chain{configs, tc.handlers, tc.order}.warnings()
		if len(got) != len(tc.want) || len(got) > 0 && !strings.Contains(got[0], tc.want[0]) {
			t.Errorf("%v in %v: %q, want %q", tc.handlers, tc.order, got, tc.want)
		}
	}
	for _, policy := range []answer.AllDown{answer.NoData, answer.ServFail, answer.Fixed} {
		configs[0].Policy.AllDown = policy
		if got := (chain{configs, []plugin.Handler{named("dnssec")}, below}).warnings(); len(got) != 1 {
			t.Errorf("all_down %v below dnssec: %q", policy, got)
		}
	}
	configs[0].Policy.Limit = 0
	if got := (chain{configs, []plugin.Handler{named("dnssec")}, below}).warnings(); len(got) != 0 {
		t.Errorf("limit off below dnssec: %q", got)
	}
	// Beside plugins that let strangers choose addresses, within is required (B60, B92).
	for beside, who := range map[string]string{
		"forward": "the owner of a remote zone", "grpc": "the owner", "secondary": "the owner", "fanout": "the owner", "recursor": "the owner", "unbound": "the owner",
		"template": "clients choose", "kubernetes": "clients choose", "kubernetai": "clients choose", "ipin": "clients choose", "ipecho": "clients choose",
		"whoami": "the sender of a query", "mdns": "every host of the local network",
	} {
		err := chain{configs, []plugin.Handler{named("cache"), named(beside)}, above}.check()
		want := "required beside " + beside + ": without it, " + who
		if err == nil || !strings.HasPrefix(err.Error(), "Corefile:2 - ") || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "such as within 192.0.2.0/24") {
			t.Errorf("beside %s: error %v, want %q", beside, err, want)
		}
	}
	for _, harmless := range []string{"file", "auto", "hosts", "etcd", "nomad", "route53", "azure", "clouddns", "dynupdate", "erratic", "dns64", "siit", "rewrite", "autopath", "tsig"} {
		if err := (chain{configs, []plugin.Handler{named(harmless)}, above}).check(); err != nil {
			t.Errorf("beside %s: %v", harmless, err)
		}
	}
	configs[0].Policy.Client = true
	for _, tc := range []struct {
		order []string
		want  string
	}{{above, ""}, {below, "Corefile:2 - select client below cache"}} {
		if err := (chain{configs, []plugin.Handler{named("cache")}, tc.order}).check(); (err != nil) != (tc.want != "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("select client in %v: error %v, want %q", tc.order, err, tc.want)
		}
	}
	configs[0].Within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	for _, beside := range []string{"forward", "template", "kubernetes"} {
		if err := (chain{configs, []plugin.Handler{named(beside)}, above}).check(); err != nil {
			t.Errorf("with within, beside %s: %v", beside, err)
		}
	}
}

// What a stanza says that is hardly meant is logged at the start, with the warnings about its neighbours.
func TestNoticesAreLogged(t *testing.T) {
	configs, err := parseCorefile("example.org {\nmultivalue {\ncheck http://127.0.0.1/healthz\nmin_up 50\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	got := chain{configs, []plugin.Handler{named("file")}, []string{"multivalue", "cache", "file"}}.warnings()
	if len(got) != 2 || !strings.Contains(got[0], "dials the address of each record, not 127.0.0.1") || !strings.HasSuffix(got[1], "did you mean 50%?") {
		t.Errorf("%q", got)
	}
}
