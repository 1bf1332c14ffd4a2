package corefile

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// parseCorefile parses the multivalue stanzas of the first server block of a Corefile as CoreDNS does, with Caddy's
// lexer and parser.
func parseCorefile(corefile string) ([]*Config, error) {
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(corefile), nil)
	if err != nil || len(blocks) == 0 {
		return nil, err
	}
	return Parse(&caddy.Controller{
		Dispenser:       caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens["multivalue"]),
		ServerBlockKeys: blocks[0].Keys,
	})
}

func TestParseDefaults(t *testing.T) {
	stanzas, err := parseCorefile("example.org {\n multivalue {\n  check http://:80\n }\n}")
	if err != nil || len(stanzas) != 1 {
		t.Fatal(stanzas, err)
	}
	s := stanzas[0]
	want := answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, AllDown: answer.Serve, TTL: answer.TTL{Min: 30}}
	if !reflect.DeepEqual(s.Policy, want) {
		t.Errorf("policy %+v, want %+v", s.Policy, want)
	}
	if got, want := s.Checks[0].String()+" "+s.Pace.String(), "http://:80/ every 10s/2s timeout 2s rise 2 fall 3"; got != want {
		t.Errorf("the check is %q, want %q", got, want)
	}
	if strings.Join(s.Zones, " ") != "example.org." || s.MaxTargets != 65536 || s.Checks[0].Port() != 80 {
		t.Errorf("zones %v, max_targets %d, port %d", s.Zones, s.MaxTargets, s.Checks[0].Port())
	}
}

func TestParseEverything(t *testing.T) {
	stanzas, err := parseCorefile(`
dns://Example.ORG:5353 10.0.0.0/24 {
    file db.example.org
    multivalue WWW.example.org api.example.org {
        check https://www.example.org:8443/healthz?deep=1 status 200-299,404 body "all is well"
        check tcp://:22
        check http://:8080/live {
            method HEAD
            header X-Probe "a b"
        }
        interval 30s 5
        timeout 4s
        rise 1
        fall 5
        limit off
        min_up 50%
        all_down nodata
        ttl 5m 60
        within 192.0.2.0/24 2001:db8::/32
        within 198.51.100.0/24
        except static.www.example.org
        max_targets 100
        dry_run
        types A HTTPS
        select client
        weight 3 192.0.2.0/25
        weight 2 2001:db8::/48 192.0.2.128/25
        backup 198.51.100.0/24
        warmup 2m
        watch www.example.org a.api.Example.org
        preload
        force states/forced
    }
    multivalue db.example.org {
        check tcp://:5432
        interval 1s
        limit 3
        min_up 2
        all_down 203.0.113.1 2001:db8::f
        ttl off
    }
}`)
	if err != nil || len(stanzas) != 2 {
		t.Fatal(stanzas, err)
	}
	first, second := stanzas[0], stanzas[1]
	policies := []answer.Policy{
		{MinUp: answer.Quorum{Count: 1, Percent: 50}, AllDown: answer.NoData, TTL: answer.TTL{Max: 300, Min: 60}, DryRun: true,
			Client: true, Warmup: 2 * time.Minute, Backup: []answer.Rank{{Network: netip.MustParsePrefix("198.51.100.0/24"), Rank: 1}},
			Weights: []answer.Weight{{Network: netip.MustParsePrefix("192.0.2.0/25"), Weight: 3}, {Network: netip.MustParsePrefix("2001:db8::/48"), Weight: 2},
				{Network: netip.MustParsePrefix("192.0.2.128/25"), Weight: 2}}},
		{Limit: 3, MinUp: answer.Quorum{Count: 2}, AllDown: answer.Fixed, TTL: answer.TTL{Off: true},
			Instead: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::f")}},
	}
	if !reflect.DeepEqual(first.Policy, policies[0]) || !reflect.DeepEqual(second.Policy, policies[1]) {
		t.Errorf("policies %+v and %+v\nwant %+v", first.Policy, second.Policy, policies)
	}
	pace := verdict.Pace{Interval: 30 * time.Second, Fast: 5 * time.Second, Timeout: 4 * time.Second, Rise: 1, Fall: 5}
	quick := verdict.Pace{Interval: time.Second, Fast: time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	if first.Pace != pace || second.Pace != quick {
		t.Errorf("paces %v and %v, want %v and %v", first.Pace, second.Pace, pace, quick)
	}
	var checks []string
	for _, c := range first.Checks {
		checks = append(checks, c.String())
	}
	want := `https://www.example.org:8443/healthz?deep=1 status 200-299,404 body "all is well"|tcp://:22|http://:8080/live method HEAD header X-Probe …`
	if got := strings.Join(checks, "|"); got != want {
		t.Errorf("checks\n%s, want\n%s", got, want)
	}
	if got := strings.Join(first.Zones, " "); got != "api.example.org. www.example.org." {
		t.Errorf("zones %s", got)
	}
	if first.Types != answer.TypesOf(dns.TypeA, dns.TypeHTTPS) || second.Types != answer.DefaultTypes {
		t.Errorf("types %v and %v", first.Types, second.Types)
	}
	if !first.Preload || strings.Join(first.Watch, " ") != "www.example.org. a.api.example.org." {
		t.Errorf("preload %t, watch %v", first.Preload, first.Watch)
	}
	if first.Force != "states/forced" || second.Force != "" {
		t.Errorf("force %q and %q", first.Force, second.Force)
	}
	if len(first.Within) != 3 || first.MaxTargets != 100 || strings.Join(first.Except, " ") != "static.www.example.org." {
		t.Errorf("within %v, max_targets %d, except %v", first.Within, first.MaxTargets, first.Except)
	}
}

func manyChecks(n int) string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("check tcp://:%d", i+1))
	}
	return strings.Join(lines, "\n")
}

// The test shows how many checks must pass, and how the lexer reads the steps of a dialogue.
func TestParseRequire(t *testing.T) {
	const two = "check tcp://:80\ncheck tcp://:81 {\nexpect \"220 \\x41\\\\\"\nsend \"EHLO a\\r\\n\"\nexpect_regex \"^250 \"\n}\n"
	for text, want := range map[string]int{"": 0, "require all": 0, "require any": 1, "require 1": 1, "require 2": 0, "require 50%": 1, "require 51%": 0} {
		stanzas, err := parseCorefile("example.org {\nmultivalue {\n" + two + text + "\n}\n}")
		if err != nil {
			t.Fatal(err)
		}
		if got := stanzas[0].Need(); got != want {
			t.Errorf("%q: %d of 2, want %d", text, got, want)
		}
		if got := stanzas[0].Checks[1].String(); got != `tcp://:81 expect "220 A\\\\" send … expect_regex "^250 "` {
			t.Errorf("%s", got)
		}
	}
	if _, err := parseCorefile("example.org {\nmultivalue {\n" + manyChecks(17) + "\n}\n}"); err != nil {
		t.Errorf("all of 17: %v", err)
	}
}

// Every mistake is refused, with its line and the fix (B78).
func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		stanza string // the lines of a stanza; the first is line 3 of the Corefile
		line   string
		want   string
	}{
		{"", "Corefile:2", "check is missing: add at least one, such as check http://:80/healthz"},
		{"limit 8", "Corefile:2", "check is missing"},
		{"check", "Corefile:3", "check takes at least 1 value, not 0: use check URL [OPTION VALUE...]..."},
		{"check gopher://:70", "Corefile:3", "gopher"},
		{"check tcp://", "Corefile:3", "check tcp:// names no port, and only SRV records do: add one, as in tcp://:80, or use types SRV alone"},
		{"types SRV A\ncheck tcp://", "Corefile:4", "names no port"},
		{"check http://user:hush@example.org/", "Corefile:3", "credentials"},
		{"check http://:80 stauts 200", "Corefile:3", `unknown option "stauts": did you mean "status"?`},
		{"check http://:80 xyzzy 200", "Corefile:3", `unknown option "xyzzy": use one of `},
		{"check tcp://:80\nall_down serve nodata", "Corefile:4", "all_down serve cannot be combined with other values: use serve, nodata or servfail alone, or addresses"},
		{"check tcp://:80\nall_down 192.0.2.1 servfail", "Corefile:4", "all_down servfail cannot be combined with other values: use serve, nodata or servfail alone, or addresses"},
		{"check http://:80 status", "Corefile:3", "option status takes 1 value, not 0"},
		{"check http://:80 status 99", "Corefile:3", "status"},
		{"check http://:80 {\nstatus 200\nbdoy ok\n}", "Corefile:5", `did you mean "body"?`},
		{"check http://:80 {\nstatus 200 201\n}", "Corefile:4", "status"},
		{"check http://:80 insecure", "Corefile:3", "https"},
		{"check https://www.example.org/ hold {\nbody ok\n}", "Corefile:3", "option hold: cannot be used together with body: remove one of the two"},
		{"check tls://www.example.org:1 hold", "Corefile:3", "option hold is for http, https, tcp: tls takes"},
		{"check http://:80 {\nreuse\ninvert\n}", "Corefile:4", "option reuse: cannot be used together with invert"},
		{"check http://:80 {\nreuse\nreuse_for 0\n}", "Corefile:5", `option reuse_for: invalid duration "0": use 1s to 24h0m0s, such as 10m`},
		{"check http://:80 reuse_for 5m", "Corefile:3", "option reuse_for: needs the option reuse: add it, or remove this one"},
		{"check dns://:53/example.org {\nreuse\n}", "Corefile:4", "option reuse: works over TCP only: add the option tcp, or remove it"},
		{"check http://:80 {\nbody ok\nhold\n}", "Corefile:5", "option hold: cannot be used together with body: remove one of the two"},
		{"check https://:443/", "Corefile:3", "server_name"},
		{"check tcp://:80\ncheck tcp://:80", "Corefile:4", "duplicate check tcp://:80 in this stanza"},
		{"check http://:80 host owner\ntypes A SRV", "Corefile:4", "check http://:80/ host owner asks for the owner of a record, which is not a host name for SRV, MX and SVCB: use other types, or a host in the URL"},
		{"check http://:80 host owner\ntypes A SVCB", "Corefile:4", "check http://:80/ host owner asks for the owner of a record, which is not a host name for SRV, MX and SVCB: use other types, or a host in the URL"},
		{"check http://www.example.org host owner", "Corefile:3", "option host: cannot be used with a host in the url"},
		{"check http://:80 host here", "Corefile:3", "option host: write host owner"},
		{"check tcp://:80\nrequire 0", "Corefile:4", `invalid require "0": use a number from 1 to 16`},
		{"check tcp://:80\nrequire 2", "Corefile:4", "require 2 with 1 check: use at most as many as there are"},
		{"check tcp://:80\nrequire 0%", "Corefile:4", `invalid require "0%": use a share from 1% to 100%`},
		{"check tcp://:80\nrequire nay", "Corefile:4", `invalid require "nay": use all, any, a count or a share: did you mean "any"?`},
		{manyChecks(17) + "\nrequire any", "Corefile:20", "require with 17 checks: use at most 16, unless all must pass"},
		{"check tcp://:25 {\nexpect 220\nsend EHLO\\q\n}", "Corefile:5", `option send: invalid escape at byte 5 of the text`},
		{"check tcp://:25 {\nexpect 220\nstarttls\n}", "Corefile:3", "server_name NAME"},
		{"check tls://db.example.org:5432 expires never", "Corefile:3", "invalid duration \"never\": use a number with a unit"},
		{"check tcp://:80 from here", "Corefile:3", "invalid source address"},
		{"check tcp://:80\nintervall 10s", "Corefile:4", `unknown property "intervall": did you mean "interval"?`},
		{"check tcp://:80\nqqqqqqqqqq 1", "Corefile:4", "use one of all_down, annotations, backup, check, dry_run"},
		{"check tcp://:80\ninterval", "Corefile:4", "interval takes 1 or 2 values, not 0: use interval DURATION [FAST]"},
		{"check tcp://:80\ninterval 0s", "Corefile:4", "interval: invalid duration 0s: use one from 100ms to 24h0m0s"},
		{"check tcp://:80\ninterval -1s", "Corefile:4", "interval: invalid duration -1s: use one from 100ms to 24h0m0s"},
		{"check tcp://:80\ninterval soon", "Corefile:4", `interval: invalid duration "soon": use a number with a unit, such as 10s or 500ms`},
		{"check tcp://:80\ninterval 1s 2s", "Corefile:4", "fast interval: invalid duration 2s: use one from 100ms to 1s"},
		{"check tcp://:80\ninterval 1s\ninterval 2s", "Corefile:5", "duplicate interval, first on line 4"},
		{"check tcp://:80\ntimeout 11s", "Corefile:4", "invalid timeout 11s: it must not exceed the interval of 10s"},
		{"check tcp://:80\ntimeout 5s\ninterval 4s", "Corefile:4", "invalid timeout 5s: it must not exceed the interval of 4s"},
		{"check tcp://:80\ntimeout 0s", "Corefile:4", "timeout: invalid duration 0s: use one from 1ms to 24h0m0s"},
		{"check tcp://:80\nrise 0", "Corefile:4", `invalid rise "0": use a number from 1 to 65535`},
		{"check tcp://:80\nfall -3", "Corefile:4", `invalid fall "-3": use a number from 1 to 65535`},
		{"check tcp://:80\nfall many", "Corefile:4", `invalid fall "many": use a number from 1 to 65535`},
		{"check tcp://:80\nlimit 0", "Corefile:4", `invalid limit "0": use a number from 1 to 65535, or off for no limit`},
		{"check tcp://:80\nlimit", "Corefile:4", "limit takes 1 value, not 0: use limit COUNT|off"},
		{"check tcp://:80\nmin_up 101%", "Corefile:4", `invalid min_up "101%": use a share from 1% to 100%`},
		{"check tcp://:80\nmin_up 0", "Corefile:4", "min_up"},
		{"check tcp://:80\nall_down nodat", "Corefile:4", `did you mean "nodata"?`},
		{"check tcp://:80\nall_down 192.0.2", "Corefile:4", `invalid all_down "192.0.2": use serve, nodata, servfail or addresses`},
		{"check tcp://:80\nall_down 192.0.2.1 serve", "Corefile:4", "all_down serve cannot be combined with other values: use serve, nodata or servfail alone, or addresses"},
		{"check tcp://:80\nall_down 192.0.2.1 192.0.2.1", "Corefile:4", "duplicate address 192.0.2.1 in all_down"},
		{"check tcp://:80\nall_down fe80::1%eth0", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down ::ffff:192.0.2.1", "Corefile:4", "or addresses"},
		{"check tcp://:80\ntypes HTTP", "Corefile:4", `did you mean "HTTPS"?`},
		{"check tcp://:80\ntypes A a", "Corefile:4", "duplicate type A in types"},
		{"check tcp://:80\nselect cleint", "Corefile:4", `did you mean "client"?`},
		{"check tcp://:80\nweight 0 192.0.2.0/24", "Corefile:4", `invalid weight "0": use a number from 1 to 65535`},
		{"check tcp://:80\nweight 3", "Corefile:4", "weight takes at least 2 values"},
		{"check tcp://:80\nweight 3 192.0.2.1 192.0.2.1/32", "Corefile:4", "duplicate network 192.0.2.1/32 in weight"},
		{"check tcp://:80\nweight 3 ::ffff:192.0.2.1", "Corefile:4", `weight: "::ffff:192.0.2.1" is an IPv4 address in IPv6 form: use 192.0.2.1`},
		{"check tcp://:80\nweight 3 192.0.2.0/24\nweight 4 192.0.2.0/24", "Corefile:5", "duplicate network 192.0.2.0/24 in weight"},
		{"check tcp://:80\nbackup 192.0.2.1/24", "Corefile:4", "use 192.0.2.0/24"},
		{"check tcp://:80\nwarmup 0s", "Corefile:4", "warmup: invalid duration 0s: use one from 1s to 1h0m0s"},
		{"check tcp://:80\nwatch www.example.com", "Corefile:4", "watch www.example.com. is outside what this stanza judges, the zones example.org. without the names under except"},
		{"check tcp://:80\nexcept www.example.org\nwatch a.www.example.org", "Corefile:5", "watch a.www.example.org. is outside what this stanza judges, the zones example.org. without the names under except"},
		{"check tcp://:80\nwatch *.example.org", "Corefile:4", `invalid name "*.example.org" in watch: clients do not query a wildcard; use the names below it, or preload`},
		{"check tcp://:80\nwatch www.example.org WWW.example.org", "Corefile:4", "duplicate name www.example.org. in watch"},
		{"check tcp://:80\nwatch www.example.org:8080", "Corefile:4", `invalid name "www.example.org:8080" in watch: use a domain name`},
		{"check tcp://:80\nwatch dns://www.example.org", "Corefile:4", `invalid name "dns://www.example.org" in watch: use a domain name, not a URL, such as www.example.org`},
		{"check tcp://:80\nexcept www.example.org:53", "Corefile:4", `invalid name "www.example.org:53" in except: use a domain name`},
		{"check tcp://:80\nbackup 2 192.0.2.0/24\nbackup 192.0.2.0/24", "Corefile:5", "backup: network 192.0.2.0/24 is in rank 2 and in rank 1: name it once"},
		{"check tcp://:80\nbackup 0 192.0.2.0/24", "Corefile:4", "backup: invalid rank 0: use a number from 1 to 9"},
		{"check tcp://:80\nbackup 10 192.0.2.0/24", "Corefile:4", "invalid rank 10: use"},
		{"check tcp://:80\nbackup -1 192.0.2.0/24", "Corefile:4", "invalid rank -1: use"},
		{"check tcp://:80\nbackup 2", "Corefile:4", "backup 2 without a network: use backup 2 NETWORK..., such as backup 2 192.0.2.0/24"},
		{"check tcp://:80\nbackup 192.0.2.0/24 2", "Corefile:4", "backup: "},
		{"check tcp://:80\nbackup two 192.0.2.0/24", "Corefile:4", "backup: "},
		{"check tcp://:80\nbackup 192.0.2.0/24 192.0.2.0/24", "Corefile:4", "backup: duplicate network 192.0.2.0/24"},
		{"check tcp://:80\nweight 1 10.0.0.0/8\nweight 5 10.0.0.0/24", "Corefile:5", "weight of 10.0.0.0/24 has no effect, because 10.0.0.0/8 before it contains it: put the narrower network first"},
		{"check tcp://:80\nall_down 0.0.0.0", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down 255.255.255.255", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down ff02::1", "Corefile:4", "or addresses"},
		{"check tcp://:80\npreload yes", "Corefile:4", "preload takes no value"},
		{"check tcp://:80\nttl 0s", "Corefile:4", "ttl: invalid duration 0s: use one from 1s to 596523h14m7s, or off"},
		{"check tcp://:80\nttl none", "Corefile:4", `ttl: invalid duration "none": use a number with a unit, such as 10s or 500ms, or off`},
		{"check tcp://:80\nlimit none", "Corefile:4", `invalid limit "none": use a number from 1 to 65535, or off`},
		{"check tcp://:80\nttl 30 60", "Corefile:4", "ttl 30 60: the second value is the minimum, and must not be above the first"},
		{"check tcp://:80\nttl off 30", "Corefile:4", `unexpected "30" after ttl off`},
		{"check tcp://:80\nwithin fe80::1%eth0", "Corefile:4", `within: "fe80::1%eth0" has a zone, which no record has: leave it out`},
		{"check tcp://:80\nwithin here", "Corefile:4", `invalid network "here"`},
		{"check tcp://:80\nwithin 192.0.2.1/24", "Corefile:4", "use 192.0.2.0/24"},
		{"check tcp://:80\nexcept www.example.com", "Corefile:4", "except www.example.com. is outside the zones example.org."},
		{"check tcp://:80\nexcept www.example.org www.example.org", "Corefile:4", "duplicate zone or exempt name www.example.org., first at Corefile:4: name each once in a server block"},
		{"check tcp://:80\nmax_targets 0", "Corefile:4", "max_targets"},
		{"check tcp://:80\nmax_targets 99999999", "Corefile:4", `invalid max_targets "99999999": use a number from 1 to 262144`},
		{"check tcp://:80\ndry_run yes", "Corefile:4", "dry_run takes no value, not 1: use dry_run"},
		{"check tcp://:80\nstatus a:1 b:2", "Corefile:4", "status takes 0 or 1 value, not 2: use status [ADDRESS]"},
		{"check tcp://:80\nstatus\nstatus", "Corefile:5", "duplicate status, first on line 4"},
		{"check tcp://:80\nforce", "Corefile:4", "force takes 1 value, not 0: use force FILE"},
		{"check tcp://:80\nforce \"\"", "Corefile:4", "force without a file: name its path"},
		{"check tcp://:80\nforce a\nforce b", "Corefile:5", "duplicate force, first on line 4"},
		{"check tcp://:80\ninterval 10s {\nrise 3\n}", "Corefile:4", "unexpected { after interval: only check, fleet and status have a block of their own"},
	} {
		_, err := parseCorefile("example.org {\nmultivalue {\n" + tc.stanza + "\n}\n}")
		if err == nil {
			t.Errorf("accepted:\n%s", tc.stanza)
			continue
		}
		if !strings.HasPrefix(err.Error(), tc.line+" - ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s\nerror %q\nwant  %q, %q", tc.stanza, err, tc.line, tc.want)
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("the error contains a password: %v", err)
		}
	}
}

func TestParseZones(t *testing.T) {
	const body = " {\ncheck tcp://:80\n}\n"
	for _, tc := range []struct{ corefile, want string }{
		{"example.org {\nmultivalue example.com" + body + "}", "Corefile:2 - Error during parsing: zone example.com. is outside this server block: use a name in example.org."},
		{"example.org {\nmultivalue notexample.org" + body + "}", "is outside"}, // label boundaries
		{"example.org {\nmultivalue" + body + "multivalue" + body + "}", "Corefile:5 - Error during parsing: duplicate zone or exempt name example.org., first at Corefile:2: name each once in a server block"},
		{". {\nmultivalue" + body + "}", `Corefile:2 - Error during parsing: within is missing, and required for the zone "."`},
		{". {\nmultivalue example.org" + body + "}", ""},
		{"example.org {\nmultivalue a..b" + body + "}", `invalid zone "a..b": use a domain name`},
		{"example.org example.com {\nmultivalue" + body + "}", ""},
		{"example.org {\nmultivalue www.example.org example.org" + body + "}", ""},
		{"example.org {\nmultivalue\n}", "check is missing"},
		{"example.org {\nmultivalue {\n}\n}", "check is missing"},
	} {
		_, err := parseCorefile(tc.corefile)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s\nerror %v\nwant  %s", tc.corefile, err, tc.want)
		}
	}
}

// FuzzParse parses any input as the body of a stanza. There is no panic, and a stanza that is accepted is complete.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"check http://:80", "check http://:80 status 200-299 {\nbody ok\n}", "check tcp://:1\ninterval 1s 200ms\nlimit off",
		"check tcp://:1\nttl 30 10\nwithin 10.0.0.0/8 ::/0\nexcept a.example.org", "check {\n}", "{", "}", "check \"", "all_down\n{\n}",
		"check tcp://:1\nfleet a.example.org 192.0.2.1:1 [::1]:2 {\nkey k\nvantage 3\nquorum 18%\nsite ams\nlisten :9254\nadvertise 192.0.2.1\nname n\n}",
		"fleet ::1 etcd://b {\n", "check tcp://:1\nfleet etcd://a:1,[::1]:2 {\ntls c k ca\ncredentials u\nprefix /a/b\nvantage 3\nname n\n}", "check tcp://:1\nfleet etcd://,@/ {\nprefix /\ntls\n}",
		"check exec://:1 {\ncommand a\n}\ncheck tcp://:1 from ::1\nfleet a {\nkey b\nquorum 2\n}", "fleet a {\nfleet b {\n}\n}", "key k",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "import") {
			return // this is Caddy's, and it reads files
		}
		stanzas, err := parseCorefile("example.org {\nmultivalue {\n" + body + "\n}\n}")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "Corefile:") {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		for _, s := range stanzas {
			if got := s.Text(); len(s.Properties()) < len(properties) || strings.Count(got, "{") < strings.Count(got, "\n}") {
				t.Errorf("shown as %s", got)
			}
			if len(s.Checks) == 0 || s.Pace.Check() != nil || len(s.Zones) == 0 || s.MaxTargets < 1 {
				t.Errorf("accepted, but incomplete: %+v", s)
			}
			if s.Fleet != nil {
				checkFleet(t, s.Fleet)
			}
		}
	})
}

// checkFleet checks that a fleet can be given to an engine.
func checkFleet(t *testing.T, f *Fleet) {
	t.Helper()
	places := append([]string{cmp.Or(f.Listen, "192.0.2.1:1"), cmp.Or(f.Advertise, "192.0.2.1:1")}, f.Peers...)
	for _, place := range append(places, f.Store.Endpoints...) {
		if _, port, err := net.SplitHostPort(place); err != nil || strings.Trim(port, "0123456789") != "" || port == "" || port[0] == '0' {
			t.Errorf("place %q: %v", place, err)
		}
	}
	ofPeers, ofStore := membership.Config{Peers: f.Peers, Key: f.Key, Listen: f.Listen, Advertise: f.Advertise}, membership.Config{Store: f.Store}
	if reflect.DeepEqual(ofPeers, membership.Config{}) == reflect.DeepEqual(ofStore, membership.Config{}) {
		t.Errorf("accepted, and not of one engine: %+v", f)
	}
	if f.UsesStore() != (f.Store.Prefix != "") || f.UsesStore() == (len(f.Peers) > 0) || f.UsesStore() == (f.Key != "") || f.Name == "" || len(f.Name) > 63 || len(f.Site) > 63 || (fleet.Terms{Vantage: f.Vantage, Quorum: f.Quorum}).Valid() != nil {
		t.Errorf("accepted, but incomplete: %+v", f)
	}
}

// Messages that were wrong, told their help twice, or did not say what to write (B78).
func TestMessages(t *testing.T) {
	const check = "check tcp://:80\n"
	const close = "close the block before it, with a } on a line of its own"
	for _, tc := range []struct{ stanza, want string }{
		{check + "select rr", `4 invalid select "rr": use random, client or nearest`},
		{check + "select nearst\ntopology sites", `4 invalid select "nearst": use random, client or nearest: did you mean "nearest"?`},
		{check + "select nearest", `4 select nearest needs sites: add topology FILE, or topology kubernetes`},
		{check + "topology sites", `4 topology has no effect without select nearest: add that, or remove topology`},
		{check + "topology sites\nselect client", `4 topology has no effect without select nearest: add that, or remove topology`},
		{check + "topology sites more\nselect nearest", `4 unexpected "more" after topology sites: a stanza has one file`},
		{check + "topology \"\"\nselect nearest", `4 topology without a file: name its path, or use topology kubernetes`},
		{check + "topology kubernetes \"\"\nselect nearest", `4 topology kubernetes without a file: name the path of a kubeconfig`},
		{check + "topology kubernetes a b c\nselect nearest", `4 topology takes 1 to 3 values, not 4: use topology FILE|kubernetes [KUBECONFIG [CONTEXT]]`},
		{check + "topology sites\nselect nearest random", `5 unexpected "random" after select nearest: use select nearest or select nearest client`},
		{check + "topology sites\nselect client nearest", `5 unexpected "nearest" after select client: use select nearest client`},
		{check + "select random client", `4 unexpected "client" after select random`},
		{check + "types TXT", `4 unknown type "TXT" in types: use some of A AAAA SRV MX HTTPS SVCB`},
		{check + "min_up 150%", `4 invalid min_up "150%": use a share from 1% to 100%`},
		{check + "require x%", `4 invalid require "x%": use a share from 1% to 100%`},
		{check + "limit 0", `4 invalid limit "0": use a number from 1 to 65535, or off for no limit`},
		{check + "file db.example.org", `4 unexpected "file" in the block of multivalue: ` + close},
		{check + "example.com {\nerratic\n}", `4 unexpected "example.com" in the block of multivalue: ` + close},
		{check + "timeouts 3s", `4 unknown property "timeouts": did you mean "timeout"?`},
		{check + "hold", "4 hold is an option of check: write it on the line of check, or in its block"},
		{check + "server_name www.example.org", "4 server_name is an option of check: write it on the line of check, or in its block"},
		{"check tcp://:80 { hold }", `3 check: unexpected "hold" after {: begin a new line after it`},
		{"check tcp://:80 {\nhold }", "4 check: unexpected } after hold: put it on a line of its own"},
		{check + "limit 3 }", "4 unexpected } after limit: put it on a line of its own"},
		{"check tcp://:80 timeout 3s", "3 check: timeout is a property of multivalue, not an option of check: write it on a line of its own"},
		{"check tcp://:80 {\ntimeout 3s\n}", "4 check: timeout is a property of multivalue, not an option of check: close the block of check before it, with a } on a line of its own"},
		{"check http://:80 {\nstatus 200\nfile db\n}", `5 check: unexpected "file" in the block of check: ` + close},
		{check + "watch www", "4 watch www. is outside what this stanza judges, the zones example.org. without the names under except: did you mean www.example.org?"},
		{check + "except dev", "4 except dev. is outside the zones example.org.: did you mean dev.example.org?"},
		{check + "watch http://www.example.org:80/a", `4 invalid name "http://www.example.org:80/a" in watch: use a domain name, not a URL, such as www.example.org`},
		{check + "watch www.example.org/healthz", `4 invalid name "www.example.org/healthz" in watch: use a domain name, not a URL, such as www.example.org`},
		{check + "watch http://", `4 invalid name "http://" in watch: use a domain name`},
		{check + "except http://www.example.org", `4 invalid name "http://www.example.org" in except: use a domain name, not a URL, such as www.example.org`},
		{check + "except *.dev.example.org", `4 invalid name "*.dev.example.org" in except: a wildcard matches nothing here; use dev.example.org, which includes all names below it`},
		{check + "except a*.example.org", `4 invalid name "a*.example.org" in except: a wildcard matches nothing here; use a domain name without *`},
		{check + "except \u0301a.example.org", "4 invalid name \"\u0301a.example.org\" in except: label \"\u0301a\" is not valid in an international domain name: idna: invalid label \"\u0301a\""},
	} {
		line, want, _ := strings.Cut(tc.want, " ")
		_, err := parseCorefile("example.org {\nmultivalue {\n" + tc.stanza + "\n}\n}")
		if want = "Corefile:" + line + " - Error during parsing: " + want; err == nil || err.Error() != want {
			t.Errorf("%s\n%v\nwant\n%s", tc.stanza, err, want)
		}
	}
	_, err := parseCorefile("example.org {\nmultivalue {\ncheck http://:80 {\nxyzzy 200\n}\n}\n}")
	if err == nil || strings.Count(err.Error(), "basic_auth") != 1 {
		t.Errorf("the options are not listed once: %v", err)
	}
}

// A word near a known one is suggested: near is a letter, or a third of the word.
func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{"intervall": `: did you mean "interval"?`, "al_down": `: did you mean "all_down"?`, "falll": `: did you mean "fall"?`,
		"wihtin": `: did you mean "within"?`, "limti": `: did you mean "limit"?`, "find": ": use one of all_down, "} {
		_, err := parseCorefile("example.org {\nmultivalue {\n" + word + " 1\n}\n}")
		if err == nil || !strings.Contains(err.Error(), "unknown property \""+word+"\""+want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

// Zones and names that match no query are refused, and letters beyond ASCII are converted, label by label (B78).
func TestNames(t *testing.T) {
	const body = " {\ncheck tcp://:80\n}\n}"
	for _, tc := range []struct{ corefile, want string }{
		{"example.org {\nmultivalue *.example.org" + body, `Corefile:2 - Error during parsing: invalid zone "*.example.org": a wildcard matches nothing here; use example.org, which includes all names below it`},
		{"*.example.org {\nmultivalue" + body, `Corefile:2 - Error during parsing: invalid zone "*.example.org." of this server block: a wildcard matches nothing here; use example.org, which includes all names below it`},
		{"bücher.example {\nmultivalue" + body, `of this server block, which no query can match: use xn--bcher-kva.example.`},
		{"example.org {\nmultivalue http://www.example.org" + body, "use a domain name, not a URL, such as www.example.org"},
	} {
		if _, err := parseCorefile(tc.corefile); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s\n%v\nwant\n%s", tc.corefile, err, tc.want)
		}
	}
	if _, err := parseCorefile("2.0.192.in-addr.arpa {\nmultivalue 0/26.2.0.192.in-addr.arpa 192.0.2.128/25" + body); err != nil {
		t.Errorf("classless reverse zones: %v", err)
	}
	_, err := parseCorefile("example.org {\nmultivalue {\ncheck https://Größe.example:8443/ü\n}\n}")
	if err == nil || !strings.Contains(err.Error(), "percent-encoded") {
		t.Errorf("a path beyond ASCII: %v", err)
	}
	stanzas, err := parseCorefile("xn--bcher-kva.example {\nmultivalue WWW.BÜCHER.example {\ncheck https://Größe.example:8443/\ncheck tls://:443 server_name _x.bücher.example\n" +
		"watch _a.WWW.bücher.example\nexcept geschäft.www.bücher.example\nweight 3 192.0.2.7 2001:db8::7\nbackup 198.51.100.1\nwithin 192.0.2.7\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	s := stanzas[0]
	got := []string{s.Zones[0], s.Watch[0], s.Except[0], s.Checks[0].String(), s.Checks[1].String(), s.Policy.Weights[0].Network.String(), s.Policy.Weights[1].Network.String(),
		s.Policy.Backup[0].Network.String(), s.Within[0].String()}
	want := []string{"www.xn--bcher-kva.example.", "_a.www.xn--bcher-kva.example.", "xn--geschft-9wa.www.xn--bcher-kva.example.", "https://xn--gre-6ka8i.example:8443/",
		"tls://:443 server_name _x.xn--bcher-kva.example", "192.0.2.7/32", "2001:db8::7/128", "198.51.100.1/32", "192.0.2.7/32"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What is valid and hardly meant is noted, with its line, for the log at the start.
func TestNotices(t *testing.T) {
	const fills = "Corefile:4 - min_up 50 is above the limit of 8, so unhealthy addresses fill up every answer that has fewer than 8 healthy ones: did you mean 50%?"
	for stanza, want := range map[string]string{
		"check tcp://:80\nmin_up 50":                           fills,
		"check tcp://:80\nmin_up 50\nlimit 50":                 "",
		"check tcp://:80\nmin_up 50\nlimit off":                "",
		"check tcp://:80\nmin_up 50%":                          "",
		"check tcp://:80\nmin_up 8":                            "",
		"check tcp://:80\nmin_up 101\nlimit 100":               "Corefile:4 - min_up 101 is above the limit of 100, so unhealthy addresses fill up every answer that has fewer than 100 healthy ones",
		"check http://127.0.0.1:8080/a status 200":             "Corefile:3 - check http://127.0.0.1:8080/a dials the address of each record, not 127.0.0.1, which is only the host that it names: leave the host out, unless that is meant",
		"check tcp://:80\ncheck http://[::1]/":                 "Corefile:4 - check http://[::1]/ dials the address of each record, not ::1, which is only the host that it names: leave the host out, unless that is meant",
		"check http://localhost/":                              "Corefile:3 - check http://localhost/ dials the address of each record, not localhost, which is only the host that it names: leave the host out, unless that is meant",
		"check http://www.example.org/":                        "",
		"check http://:8080/":                                  "",
		"check http://:80 reuse\ninterval 15m":                 "Corefile:4 - the interval of 15m0s is not shorter than the 10m0s for which check http://:80/ reuse uses a connection, so none is asked again, and each is kept in vain: use a longer reuse_for, or leave reuse out",
		"check tcp://:81\ncheck http://:80 reuse reuse_for 10": "Corefile:2 - the interval of 10s is not shorter than the 10s for which check http://:80/ reuse reuse_for 10s uses a connection, so none is asked again, and each is kept in vain: use a longer reuse_for, or leave reuse out",
		"check http://:80 reuse reuse_for 11":                  "",
		"check http://:80 reuse\ninterval 9m":                  "",
	} {
		stanzas, err := parseCorefile("example.org {\nmultivalue {\n" + stanza + "\n}\n}")
		if err != nil {
			t.Errorf("%s: %v", stanza, err)
		} else if got := strings.Join(stanzas[0].Notices, "|"); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", stanza, got, want)
		}
	}
}

// Every plugin of CoreDNS has been judged for who decides its addresses. A new one fails here: add it to strangers, or to
// the comment there and to this list.
func TestEveryPluginIsJudged(t *testing.T) {
	harmless := strings.Fields("root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket reload nsid bufsize bind debug trace " +
		"ready health pprof shed prometheus errors log dnstap local dns64 siit any chaos loadbalance tsig rewrite autopath acl cache header dnssec tls minimal " +
		"transfer dynupdate hosts route53 azure clouddns k8s_external file auto etcd loop erratic on sign view nomad")
	for _, plugin := range dnsserver.Directives {
		if _, ok := strangers[plugin]; !ok && !slices.Contains(harmless, plugin) && plugin != "multivalue" {
			t.Errorf("who decides which addresses %s answers with?", plugin)
		}
	}
	for _, plugin := range harmless {
		if _, ok := strangers[plugin]; ok || !slices.Contains(dnsserver.Directives, plugin) {
			t.Errorf("%s is no harmless plugin of CoreDNS", plugin)
		}
	}
}
