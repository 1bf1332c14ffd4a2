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
	// The order that is drawn is lost below loadbalance, and signed again and again below dnssec (B93).
	for properties, words := range map[string]string{
		"weight 3 192.0.2.7": "weight (Corefile:2)", "warmup 1m": "warmup (Corefile:2)", "select client": "select client (Corefile:2)",
		"select client\nweight 3 192.0.2.7\nwarmup 1m": "select client and weight and warmup (Corefile:2)", "limit 3": "",
	} {
		configs, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\n" + properties + "\n}\n}")
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ order, beside, want string }{
			{"loadbalance multivalue", "loadbalance", "changes the order of every answer, so what " + words + " makes of it is lost"},
			{"multivalue loadbalance", "loadbalance", ""},
			{"dnssec multivalue", "dnssec", "draws the order of answers by " + words + ": each order is a new signature"},
			{"multivalue dnssec", "dnssec", "above dnssec"},
			{"loadbalance multivalue", "file", ""},
		} {
			if words == "" && tc.beside == "loadbalance" {
				tc.want = ""
			} else if words == "" && tc.order == "dnssec multivalue" {
				tc.want = "may answer with a sample"
			}
			got := strings.Join(chain{configs, []plugin.Handler{named(tc.beside)}, strings.Fields(tc.order)}.warnings(), "\n")
			if !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
				t.Errorf("%s, %s: %q, want %q", properties, tc.order, got, tc.want)
			}
		}
	}
	// Beside plugins that let strangers choose addresses, within is required (B60, B92).
	for beside, who := range map[string]string{
		"forward": "the owner of a remote zone", "grpc": "the owner", "secondary": "the owner", "fanout": "the owner", "recursor": "the owner", "unbound": "the owner",
		"template": "clients choose", "kubernetes": "clients choose", "kubernetai": "clients choose", "ipin": "clients choose", "ipecho": "clients choose",
		"k8s_dns_chaos": "clients choose", "alias": "the owner", "finalize": "the owner", "flatten": "the owner", "gathersrv": "the owner",
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
	configs[0].Policy.Client, configs[0].Policy.Nearest = false, true
	if err := (chain{configs, []plugin.Handler{named("cache")}, below}).check(); err == nil || !strings.HasPrefix(err.Error(), "Corefile:2 - select nearest below cache") {
		t.Errorf("select nearest below cache: error %v", err)
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
