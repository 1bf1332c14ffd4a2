package multivalue

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"

	"github.com/miekg/dns"
)

// parseCorefile parses the multivalue stanzas of the first server block of a Corefile, the way CoreDNS does: through
// Caddy's own lexer and parser.
func parseCorefile(corefile string) ([]*parsedStanza, error) {
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(corefile), nil)
	if err != nil || len(blocks) == 0 {
		return nil, err
	}
	return parse(&caddy.Controller{
		Dispenser:       caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens[name]),
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
	if !reflect.DeepEqual(s.rule.Policy, want) {
		t.Errorf("policy %+v, want %+v", s.rule.Policy, want)
	}
	if got, want := s.checks[0].identity.String(), "http://:80/ every 10s/2s timeout 2s rise 2 fall 3"; got != want {
		t.Errorf("the check is %q, want %q", got, want)
	}
	if strings.Join(s.zones, " ") != "example.org." || s.account.Max != 65536 || s.checks[0].port != 80 {
		t.Errorf("zones %v, max_targets %d, port %d", s.zones, s.account.Max, s.checks[0].port)
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
			Client: true, Warmup: 2 * time.Minute, Backup: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Weights: []answer.Weight{{Network: netip.MustParsePrefix("192.0.2.0/25"), Weight: 3}, {Network: netip.MustParsePrefix("2001:db8::/48"), Weight: 2},
				{Network: netip.MustParsePrefix("192.0.2.128/25"), Weight: 2}}},
		{Limit: 3, MinUp: answer.Quorum{Count: 2}, AllDown: answer.Fixed, TTL: answer.TTL{Off: true},
			Instead: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::f")}},
	}
	if !reflect.DeepEqual(first.rule.Policy, policies[0]) || !reflect.DeepEqual(second.rule.Policy, policies[1]) {
		t.Errorf("policies %+v and %+v\nwant %+v", first.rule.Policy, second.rule.Policy, policies)
	}
	pace := verdict.Pace{Interval: 30 * time.Second, Fast: 5 * time.Second, Timeout: 4 * time.Second, Rise: 1, Fall: 5}
	quick := verdict.Pace{Interval: time.Second, Fast: time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	if first.pace != pace || second.pace != quick {
		t.Errorf("paces %v and %v, want %v and %v", first.pace, second.pace, pace, quick)
	}
	var checks []string
	for _, c := range first.checks {
		checks = append(checks, c.Name)
	}
	want := `https://www.example.org:8443/healthz?deep=1 status 200-299,404 body "all is well"|tcp://:22|http://:8080/live method HEAD header X-Probe …`
	if got := strings.Join(checks, "|"); got != want {
		t.Errorf("checks\n%s, want\n%s", got, want)
	}
	if got := strings.Join(first.zones, " "); got != "api.example.org. www.example.org." {
		t.Errorf("zones %s", got)
	}
	if first.rule.Types != answer.TypesOf(dns.TypeA, dns.TypeHTTPS) || second.rule.Types != answer.DefaultTypes {
		t.Errorf("types %v and %v", first.rule.Types, second.rule.Types)
	}
	if !first.preload || strings.Join(first.watch, " ") != "www.example.org. a.api.example.org." || len(first.questions()) != 4 {
		t.Errorf("preload %t, watch %v, questions %v", first.preload, first.watch, first.questions())
	}
	if first.force != "states/forced" || second.force != "" {
		t.Errorf("force %q and %q", first.force, second.force)
	}
	if len(first.within) != 3 || first.account.Max != 100 || strings.Join(first.except, " ") != "static.www.example.org." {
		t.Errorf("within %v, max_targets %d, except %v", first.within, first.account.Max, first.except)
	}
}

func manyChecks(n int) string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("check tcp://:%d", i+1))
	}
	return strings.Join(lines, "\n")
}

// How many checks must pass; and what the lexer makes of the steps of a dialogue.
func TestParseRequire(t *testing.T) {
	const two = "check tcp://:80\ncheck tcp://:81 {\nexpect \"220 \\x41\\\\\"\nsend \"EHLO a\\r\\n\"\nexpect_regex \"^250 \"\n}\n"
	for text, want := range map[string]int{"": 0, "require all": 0, "require any": 1, "require 1": 1, "require 2": 0, "require 50%": 1, "require 51%": 0} {
		stanzas, err := parseCorefile("example.org {\nmultivalue {\n" + two + text + "\n}\n}")
		if err != nil {
			t.Fatal(err)
		}
		if got := stanzas[0].need; got != want {
			t.Errorf("%q: %d of 2, want %d", text, got, want)
		}
		if got := stanzas[0].checks[1].Name; got != `tcp://:81 expect "220 A\\\\" send … expect_regex "^250 "` {
			t.Errorf("%s", got)
		}
	}
	if _, err := parseCorefile("example.org {\nmultivalue {\n" + manyChecks(17) + "\n}\n}"); err != nil {
		t.Errorf("all of 17: %v", err)
	}
}

// Every mistake is refused, with the line it is on and what would be right (B78).
func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		stanza string // the lines of a stanza; the first is line 3 of the Corefile
		line   string
		want   string
	}{
		{"", "Corefile:2", "check is missing: want at least one, such as check http://:80/healthz"},
		{"limit 8", "Corefile:2", "check is missing"},
		{"check", "Corefile:3", "check takes at least 1 value, not 0 values: want check URL"},
		{"check gopher://:70", "Corefile:3", "gopher"},
		{"check tcp://", "Corefile:3", "check tcp:// names no port, and only SRV records do: want one, as in tcp://:80, or types SRV alone"},
		{"types SRV A\ncheck tcp://", "Corefile:4", "names no port"},
		{"check http://user:hush@example.org/", "Corefile:3", "credentials"},
		{"check http://:80 stauts 200", "Corefile:3", `unknown option "stauts": did you mean "status"?`},
		{"check http://:80 xyzzy 200", "Corefile:3", `unknown option "xyzzy": use one of `},
		{"check tcp://:80\nall_down serve nodata", "Corefile:4", "all_down serve does not go with other values: want one of serve, nodata and servfail alone, or addresses"},
		{"check tcp://:80\nall_down 192.0.2.1 servfail", "Corefile:4", "all_down servfail does not go with other values"},
		{"check http://:80 status", "Corefile:3", "option status takes 1 value, not 0"},
		{"check http://:80 status 99", "Corefile:3", "status"},
		{"check http://:80 {\nstatus 200\nbdoy ok\n}", "Corefile:5", `did you mean "body"?`},
		{"check http://:80 {\nstatus 200 201\n}", "Corefile:4", "status"},
		{"check http://:80 insecure", "Corefile:3", "https"},
		{"check https://www.example.org/ hold {\nbody ok\n}", "Corefile:3", "option hold: goes with a check of the connection or of the head of a response alone"},
		{"check tls://www.example.org:1 hold", "Corefile:3", "option hold is for http, https, tcp: tls takes"},
		{"check http://:80 {\nbody ok\nhold\n}", "Corefile:5", "option hold: goes with a check of the connection or of the head of a response alone"},
		{"check https://:443/", "Corefile:3", "server_name"},
		{"check tcp://:80\ncheck tcp://:80", "Corefile:4", "stands twice in this stanza"},
		{"check http://:80 host owner\ntypes A SRV", "Corefile:4", "asks for the owner of a record, which is no host's name for SRV, MX and SVCB"},
		{"check http://:80 host owner\ntypes A SVCB", "Corefile:4", "which is no host's name for SRV, MX and SVCB"},
		{"check http://www.example.org host owner", "Corefile:3", "option host: the url has a host"},
		{"check http://:80 host here", "Corefile:3", "option host: write host owner"},
		{"check tcp://:80\nrequire 0", "Corefile:4", `require "0": want a count from 1 to 16`},
		{"check tcp://:80\nrequire 2", "Corefile:4", "require 2 with 1 check: want at most as many as there are"},
		{"check tcp://:80\nrequire 0%", "Corefile:4", "the share of require"},
		{"check tcp://:80\nrequire nay", "Corefile:4", `require "nay": want all, any, a count or a share: did you mean "any"?`},
		{manyChecks(17) + "\nrequire any", "Corefile:20", "require with 17 checks: want at most 16, unless all must pass"},
		{"check tcp://:25 {\nexpect 220\nsend EHLO\\q\n}", "Corefile:5", `option send: the backslash at byte 5 of the text begins no escape`},
		{"check tcp://:25 {\nexpect 220\nstarttls\n}", "Corefile:3", "server_name NAME"},
		{"check tls://db.example.org:5432 expires never", "Corefile:3", "is no duration: write one such as"},
		{"check tcp://:80 from here", "Corefile:3", "is not the address of a host"},
		{"check tcp://:80\nintervall 10s", "Corefile:4", `unknown property "intervall": did you mean "interval"?`},
		{"check tcp://:80\nqqqqqqqqqq 1", "Corefile:4", "use one of all_down, annotations, backup, check, dry_run"},
		{"check tcp://:80\ninterval", "Corefile:4", "interval takes 1 or 2 values, not 0 values: want interval DURATION [FAST]"},
		{"check tcp://:80\ninterval 0s", "Corefile:4", "interval 0s: want a duration from 100ms to 24h0m0s"},
		{"check tcp://:80\ninterval -1s", "Corefile:4", "interval -1s: want a duration"},
		{"check tcp://:80\ninterval soon", "Corefile:4", `"soon" is no duration: want one such as 10s or 500ms`},
		{"check tcp://:80\ninterval 1s 2s", "Corefile:4", "the fast interval 2s: want a duration from 100ms to 1s"},
		{"check tcp://:80\ninterval 1s\ninterval 2s", "Corefile:5", "interval stands twice, first on line 4"},
		{"check tcp://:80\ntimeout 11s", "Corefile:4", "invalid timeout 11s: it must not exceed the interval of 10s"},
		{"check tcp://:80\ntimeout 5s\ninterval 4s", "Corefile:4", "invalid timeout 5s: it must not exceed the interval of 4s"},
		{"check tcp://:80\ntimeout 0s", "Corefile:4", "timeout 0s: want"},
		{"check tcp://:80\nrise 0", "Corefile:4", `rise "0": want a count from 1 to 65535`},
		{"check tcp://:80\nfall -3", "Corefile:4", `fall "-3": want a count from 1 to 65535`},
		{"check tcp://:80\nfall many", "Corefile:4", `fall "many": want a count`},
		{"check tcp://:80\nlimit 0", "Corefile:4", "limit \"0\": want a count"},
		{"check tcp://:80\nlimit", "Corefile:4", "limit takes 1 value, not 0 values: want limit COUNT|off"},
		{"check tcp://:80\nmin_up 101%", "Corefile:4", `the share of min_up "101": want a count from 1 to 100`},
		{"check tcp://:80\nmin_up 0", "Corefile:4", "min_up"},
		{"check tcp://:80\nall_down nodat", "Corefile:4", `did you mean "nodata"?`},
		{"check tcp://:80\nall_down 192.0.2", "Corefile:4", "want serve, nodata, servfail or addresses"},
		{"check tcp://:80\nall_down 192.0.2.1 serve", "Corefile:4", "all_down serve does not go with other values"},
		{"check tcp://:80\nall_down 192.0.2.1 192.0.2.1", "Corefile:4", "all_down 192.0.2.1 stands twice"},
		{"check tcp://:80\nall_down fe80::1%eth0", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down ::ffff:192.0.2.1", "Corefile:4", "or addresses"},
		{"check tcp://:80\ntypes TXT", "Corefile:4", "want some of A AAAA SRV MX HTTPS SVCB"},
		{"check tcp://:80\ntypes HTTP", "Corefile:4", `did you mean "HTTPS"?`},
		{"check tcp://:80\ntypes A a", "Corefile:4", "types A stands twice"},
		{"check tcp://:80\nselect cleint", "Corefile:4", `did you mean "client"?`},
		{"check tcp://:80\nweight 0 192.0.2.0/24", "Corefile:4", `weight "0": want a count from 1 to 65535`},
		{"check tcp://:80\nweight 3", "Corefile:4", "weight takes at least 2 values"},
		{"check tcp://:80\nweight 3 192.0.2.1", "Corefile:4", "weight \"192.0.2.1\" is an address, not a network"},
		{"check tcp://:80\nweight 3 192.0.2.0/24\nweight 4 192.0.2.0/24", "Corefile:5", "weight of 192.0.2.0/24 stands twice"},
		{"check tcp://:80\nbackup 192.0.2.1/24", "Corefile:4", "use 192.0.2.0/24"},
		{"check tcp://:80\nwarmup 0s", "Corefile:4", "warmup 0s: want a duration from 1s to 1h0m0s"},
		{"check tcp://:80\nwatch www.example.com", "Corefile:4", "watch www.example.com. lies outside what this stanza judges"},
		{"check tcp://:80\nexcept www.example.org\nwatch a.www.example.org", "Corefile:5", "lies outside what this stanza judges"},
		{"check tcp://:80\nwatch *.example.org", "Corefile:4", "want a domain name"},
		{"check tcp://:80\nwatch www.example.org WWW.example.org", "Corefile:4", "watch www.example.org. stands twice"},
		{"check tcp://:80\nwatch www.example.org:8080", "Corefile:4", "want a domain name"},
		{"check tcp://:80\nwatch dns://www.example.org", "Corefile:4", "want a domain name"},
		{"check tcp://:80\nexcept www.example.org:53", "Corefile:4", "want a domain name"},
		{"check tcp://:80\nbackup 192.0.2.0/24 192.0.2.0/24", "Corefile:4", "backup 192.0.2.0/24 stands twice"},
		{"check tcp://:80\nweight 1 10.0.0.0/8\nweight 5 10.0.0.0/24", "Corefile:5", "weight of 10.0.0.0/24 never counts, since 10.0.0.0/8 before it holds it"},
		{"check tcp://:80\nall_down 0.0.0.0", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down 255.255.255.255", "Corefile:4", "or addresses"},
		{"check tcp://:80\nall_down ff02::1", "Corefile:4", "or addresses"},
		{"check tcp://:80\npreload yes", "Corefile:4", "preload takes no value"},
		{"check tcp://:80\nttl 0s", "Corefile:4", "ttl 0s: want a duration from 1s"},
		{"check tcp://:80\nttl 30 60", "Corefile:4", "the second value, the least, is at most the first"},
		{"check tcp://:80\nttl off 30", "Corefile:4", "ttl off takes nothing behind it"},
		{"check tcp://:80\nwithin 192.0.2.1", "Corefile:4", "is an address, not a network: add a length, such as 192.0.2.1/32"},
		{"check tcp://:80\nwithin 2001:db8::1", "Corefile:4", "such as 2001:db8::1/128"},
		{"check tcp://:80\nwithin here", "Corefile:4", `invalid network "here"`},
		{"check tcp://:80\nwithin 192.0.2.1/24", "Corefile:4", "use 192.0.2.0/24"},
		{"check tcp://:80\nexcept www.example.com", "Corefile:4", "except www.example.com. lies outside the zones example.org."},
		{"check tcp://:80\nexcept www.example.org www.example.org", "Corefile:4", "www.example.org. stands in two places, here and at Corefile:4"},
		{"check tcp://:80\nmax_targets 0", "Corefile:4", "max_targets"},
		{"check tcp://:80\nmax_targets 99999999", "Corefile:4", "want a count from 1 to 262144"},
		{"check tcp://:80\ndry_run yes", "Corefile:4", "dry_run takes no value, not 1 values: want dry_run"},
		{"check tcp://:80\nstatus localhost", "Corefile:4", "status \"localhost\" is not a valid address: use HOST:PORT, such as localhost:9253, or unix:PATH"},
		{"check tcp://:80\nstatus localhost:0", "Corefile:4", "status \"localhost:0\" has no valid port: use one from 1 to 65535, as in localhost:9253"},
		{"check tcp://:80\nstatus unix:", "Corefile:4", "is not a socket in the file system: use unix:PATH"},
		{"check tcp://:80\nstatus a:1 b:2", "Corefile:4", "status takes 0 or 1 value, not 2 values: want status [ADDRESS]"},
		{"check tcp://:80\nstatus\nstatus", "Corefile:5", "status stands twice, first on line 4"},
		{"check tcp://:80\nforce", "Corefile:4", "force takes 1 value, not 0 values: want force FILE"},
		{"check tcp://:80\nforce \"\"", "Corefile:4", "force names no file: want the path of one"},
		{"check tcp://:80\nforce a\nforce b", "Corefile:5", "force stands twice, first on line 4"},
		{"check tcp://:80\ninterval 10s {\nrise 3\n}", "Corefile:4", "unexpected { behind interval: only check has a block"},
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
			t.Errorf("a password is in the error: %v", err)
		}
	}
}

func TestParseZones(t *testing.T) {
	const body = " {\ncheck tcp://:80\n}\n"
	for _, tc := range []struct{ corefile, want string }{
		{"example.org {\nmultivalue example.com" + body + "}", "Corefile:2 - Error during parsing: zone example.com. lies outside this server block: want a name in example.org."},
		{"example.org {\nmultivalue notexample.org" + body + "}", "lies outside"}, // label boundaries
		{"example.org {\nmultivalue" + body + "multivalue" + body + "}", "Corefile:5 - Error during parsing: example.org. stands in two places, here and at Corefile:2"},
		{". {\nmultivalue" + body + "}", `Corefile:2 - Error during parsing: within is missing, and required for the zone "."`},
		{". {\nmultivalue example.org" + body + "}", ""},
		{"example.org {\nmultivalue a..b" + body + "}", `"a..b" is no zone`},
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

// The most specific zone wins, labels are whole, and case does not matter (B20).
func TestZones(t *testing.T) {
	stanzas, err := parseCorefile(`example.org {
    multivalue {
        check tcp://:80
        except static.example.org
    }
    multivalue a.example.org {
        check tcp://:81
    }
    multivalue x.static.example.org {
        check tcp://:82
    }
}`)
	if err != nil {
		t.Fatal(err)
	}
	b := newBlock(stanzas)
	for name, want := range map[string]string{
		"example.org.":                "tcp://:80",
		"www.example.org.":            "tcp://:80",
		"WWW.EXAMPLE.ORG.":            "tcp://:80",
		"a.example.org.":              "tcp://:81",
		"b.A.example.org.":            "tcp://:81",
		"ba.example.org.":             "tcp://:80",
		`b\.a.example.org.`:           "tcp://:80", // the label is b.a
		"static.example.org.":         "exempt",
		"deep.in.static.example.org.": "exempt",
		"x.static.example.org.":       "tcp://:82",
		"org.":                        "none",
		".":                           "none",
		"evilexample.org.":            "none",
	} {
		got := "none"
		if z := b.zones.find(name); z != nil && z.stanza == nil {
			got = "exempt"
		} else if z != nil {
			got = z.stanza.checks[0].Name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// FuzzParse reads anything as the body of a stanza: no panic, and what is accepted is complete.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"check http://:80", "check http://:80 status 200-299 {\nbody ok\n}", "check tcp://:1\ninterval 1s 200ms\nlimit off",
		"check tcp://:1\nttl 30 10\nwithin 10.0.0.0/8 ::/0\nexcept a.example.org", "check {\n}", "{", "}", "check \"", "all_down\n{\n}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "import") {
			return // Caddy's, and it reads files
		}
		stanzas, err := parseCorefile("example.org {\nmultivalue {\n" + body + "\n}\n}")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "Corefile:") {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		for _, s := range stanzas {
			if len(s.checks) == 0 || s.pace.Check() != nil || len(s.zones) == 0 || s.rule.Health == nil || s.account.Max < 1 {
				t.Errorf("accepted, but incomplete: %+v", s)
			}
		}
	})
}

func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{"intervall": `: did you mean "interval"?`, "al_down": `: did you mean "all_down"?`, "falll": `: did you mean "fall"?`} {
		if got := text.Suggest(word, propertyNames()); got != want {
			t.Errorf("%s%s, want %s", word, got, want)
		}
	}
}

func TestDirectives(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"errors cache file", "errors multivalue cache file"},
		{"multivalue errors cache", "errors multivalue cache"},
		{"errors file", "errors file multivalue"},
	} {
		if got := strings.Join(Directives(strings.Fields(tc.list)), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.list, got, tc.want)
		}
	}
}
