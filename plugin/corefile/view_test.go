package corefile

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// valuesByName are the values that a stanza shows, by property.
func valuesByName(s *Config) map[string][]string {
	all := make(map[string][]string)
	for _, p := range s.Properties() {
		all[p.Name] = append(all[p.Name], p.Value)
	}
	return all
}

// Every property of the table is shown, and so is each of a fleet (B119): a new one that is not makes this fail.
func TestPropertiesAreAllShown(t *testing.T) {
	for _, fleet := range []string{"fleet 192.0.2.1 {\n key k\n }", "fleet etcd://192.0.2.1:2379"} {
		stanzas, err := parseCorefile("example.org {\n multivalue {\n  check http://:80\n " + fleet + "\n }\n}")
		if err != nil {
			t.Fatal(err)
		}
		shown := valuesByName(stanzas[0])
		for word := range properties {
			if shown[word] == nil {
				t.Errorf("%s is not shown: add it to shownProperties", word)
			}
		}
		for word, p := range fleetProperties {
			possible := p.over == overAny || (p.over == overStore) == stanzas[0].Fleet.UsesStore()
			if (shown["fleet "+word] != nil) != possible {
				t.Errorf("%s: fleet %s is shown: %t, want %t", fleet, word, !possible, possible)
			}
		}
		for _, word := range slices.Sorted(maps.Keys(shown)) {
			inner, ofFleet := strings.CutPrefix(word, "fleet ")
			if _, known := properties[word]; !known && !(ofFleet && fleetProperties[inner].usage != "") {
				t.Errorf("%s is shown and is not a property", word)
			}
		}
	}
}

// everything is a Corefile in which each property has another value than its default.
const everything = `example.org {
 multivalue www.example.org example.org {
  check http://:80/healthz status 200-299 body "all is well"
  check tcp://:22
  require 1
  interval 1m 500ms
  timeout 1500ms
  rise 4
  fall 5
  limit off
  min_up 50%
  all_down 203.0.113.1 2001:db8::f
  ttl 1h 90
  within 192.0.2.0/24
  within 2001:db8::/32 198.51.100.0/24
  except static.example.org
  max_targets 100
  force "a file"
  state verdicts
  dry_run
  types A SRV
  select nearest client
  topology sites
  weight 3 192.0.2.0/25
  weight 2 2001:db8::/48 192.0.2.128/25
  backup 198.51.100.0/24
  backup 2 198.51.100.128/25
  warmup 2m
  watch www.example.org a.example.org
  preload
  annotations "/etc/kube config" ctx
  fleet 192.0.2.1 a.example.org:1 {
   key k
   vantage 4
   quorum 40%
   site ams
   listen 192.0.2.7:1
   advertise 192.0.2.8
   name other
  }
  status unix:/run/status
 }
}`

// A property that is a switch is shown as off, not as none, since that is what the manual says (B119).
func TestSwitchesAreShownAsOff(t *testing.T) {
	stanzas, err := parseCorefile("example.org {\n multivalue {\n  check http://:80\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	shown := valuesByName(stanzas[0])
	for _, name := range []string{"dry_run", "preload", "annotations", "warmup"} {
		if !slices.Equal(shown[name], []string{"off"}) {
			t.Errorf("%s is shown as %q", name, shown[name])
		}
	}
	if !slices.Equal(shown["force"], []string{""}) {
		t.Errorf("force is shown as %q", shown["force"])
	}
}

// What is shown of a stanza, written into another one, gives the same stanza: so each value is the one that is in effect, that of
// a default as well (B119).
func TestPropertiesRoundTrip(t *testing.T) {
	for _, corefile := range []string{
		everything,
		"example.org {\n multivalue {\n  check http://:80\n }\n}",
		"example.org {\n multivalue {\n  check http://:80\n interval 1s\n ttl 10\n all_down other.example.org\n topology kubernetes\n select nearest\n annotations\n within 192.0.2.0/24\n status\n }\n}",
		"example.org {\n multivalue {\n  check http://:80\n ttl off\n require 40%\n select client\n all_down servfail\n fleet etcd://192.0.2.1:2379,a.example.org:2379 {\n tls c k ca\n credentials f\n prefix /x\n }\n }\n}",
		"example.org {\n multivalue {\n  check http://:80\n fleet etcd://192.0.2.1:2379 {\n tls\n }\n }\n}",
		"example.org {\n multivalue {\n  check http://:80 host owner\n }\n}",
	} {
		stanzas, err := parseCorefile(corefile)
		if err != nil {
			t.Fatal(err)
		}
		was := stanzas[0]
		var b strings.Builder
		b.WriteString("example.org {\n multivalue " + strings.Join(was.Zones, " ") + " {\n")
		inFleet := false
		for _, p := range was.Properties() {
			if p.Value == "" || strings.HasPrefix(p.Value, "(no maximum)") || p.Default && p.Value == "off" { // which is what a stanza without it has
				continue
			}
			word, inner := strings.CutPrefix(p.Name, "fleet ")
			if inner && !inFleet {
				b.WriteString(" {\n")
			}
			inFleet = inner
			value := " " + p.Value
			if p.Value == "on" {
				value = ""
			}
			b.WriteString("\n" + word + value)
		}
		if inFleet {
			b.WriteString("\n}")
		}
		text := strings.ReplaceAll(b.String(), "\n {", " {") + "\n }\n}"
		again, err := parseCorefile(text)
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if got, want := valuesByName(again[0]), valuesByName(was); !reflect.DeepEqual(got, want) {
			t.Errorf("%v\nwant %v", got, want)
		}
		if a, b := again[0], was; !reflect.DeepEqual(a.Policy, b.Policy) || a.Pace != b.Pace || a.Types != b.Types || !reflect.DeepEqual(a.Fleet, b.Fleet) || !reflect.DeepEqual(a.Within, b.Within) || a.Require != b.Require {
			t.Errorf("%+v\nwant %+v", a, b)
		}
	}
}

// A property of the Corefile is not a default and has its line; another is a default and has none (B119).
func TestPropertiesSayWhatIsDefault(t *testing.T) {
	all, err := parseCorefile(everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all[0].Properties() {
		if p.Default || p.Value == "" || !regexp.MustCompile(`^Corefile:[0-9]+$`).MatchString(p.At) {
			t.Errorf("%+v", p)
		}
	}
	few, err := parseCorefile("example.org {\n multivalue {\n  check tcp://:1\n  check tcp://:2\n  limit 8\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range few[0].Properties() {
		written := p.Name == "check" || p.Name == "limit"
		if p.Default == written || (p.At != "") != written {
			t.Errorf("%+v", p)
		}
	}
	if all := few[0].Properties(); all[0].At != "Corefile:3" || all[1].At != "Corefile:4" || all[1].Value != "tcp://:2" {
		t.Errorf("%+v", all[:2])
	}
}

// The text of a stanza is what was written, and parses to the same stanza. An imported line has the file that it is in (B119).
func TestText(t *testing.T) {
	stanzas, err := parseCorefile(everything)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseCorefile("example.org {\n" + stanzas[0].Text() + "}")
	if err != nil || again[0].Text() != stanzas[0].Text() || !reflect.DeepEqual(valuesByName(again[0]), valuesByName(stanzas[0])) {
		t.Errorf("%v:\n%s", err, stanzas[0].Text())
	}
	for _, want := range []string{"multivalue www.example.org example.org {\n    check http://:80/healthz status 200-299 body \"all is well\"\n", "\n    fleet 192.0.2.1 a.example.org:1 {\n        key k\n", "\n        name other\n    }\n    status unix:/run/status\n}\n", "\n    force \"a file\"\n"} {
		if !strings.Contains(stanzas[0].Text(), want) {
			t.Errorf("the text lacks %q:\n%s", want, stanzas[0].Text())
		}
	}
	dir := t.TempDir()
	imported, main := filepath.Join(dir, "extra.conf"), filepath.Join(dir, "Corefile")
	if err := os.WriteFile(imported, []byte("# a comment\nlimit 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks, err := caddyfile.Parse(main, strings.NewReader("example.org {\n multivalue {\n  check tcp://:80\n  import extra.conf\n }\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	configs, err := Parse(&caddy.Controller{Dispenser: caddyfile.NewDispenserTokens(main, blocks[0].Tokens["multivalue"]), ServerBlockKeys: blocks[0].Keys})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(configs[0].Properties(), func(p Property) bool { return p.Name == "limit" })
	if p := configs[0].Properties()[i]; p.At != imported+":2" || p.Value != "3" {
		t.Errorf("%+v", p)
	}
}

// Neither the text nor the values have a secret, on the line of a check or in its block (B119).
func TestSecretsAreNotShown(t *testing.T) {
	stanzas, err := parseCorefile("example.org {\n multivalue {\n  check http://:80 header X-Token hunter2\n  check http://:81 {\n   header Authorization \"Bearer hunter2\"\n  }\n  check tcp://:25 send hunter2 expect ok\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	shown := stanzas[0].Text()
	for _, p := range stanzas[0].Properties() {
		shown += p.Value + "\n"
	}
	if strings.Contains(shown, "hunter2") || !strings.Contains(shown, "header X-Token …") {
		t.Errorf("%s", shown)
	}
}

// A line in a block that has no table of its own is shown after the property, as it was written (B119).
func TestLinesOfBlocks(t *testing.T) {
	stanzas, err := parseCorefile("example.org {\n multivalue {\n  check tcp://:1\n  status\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	s := stanzas[0]
	s.noteLine("status admin", "Corefile:5", 2, []string{"admin", "a file"})
	all := s.Properties()
	i := slices.IndexFunc(all, func(p Property) bool { return p.Name == "status" })
	if want := (Property{Name: "status admin", Value: `"a file"`, At: "Corefile:5"}); all[i+1] != want {
		t.Errorf("%+v, want %+v", all[i+1], want)
	}
}
