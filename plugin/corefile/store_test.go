package corefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// storeOf parses a stanza with a check on line 3 and a fleet over etcd on line 4, whose block begins on line 5.
func storeOf(endpoints, block string) (*Fleet, error) {
	c, err := parsed("check tcp://:80\nfleet " + endpoints + " {\n" + block + "\n}")
	if err != nil {
		return nil, err
	}
	return c.Fleet, nil
}

// A fleet over etcd is read as it is written, with the defaults, and has nothing of one whose members talk to each other.
func TestParseStore(t *testing.T) {
	type files = [4]string // certificate, key, authorities, credentials
	for _, tc := range []struct {
		endpoints, block, prefix string
		want                     []string
		tls                      bool
		files                    files
	}{
		{"etcd://192.0.2.1:2379", "", "/multivalue", []string{"192.0.2.1:2379"}, false, files{}},
		{"ETCD://LOCALHOST:2379", "prefix /a", "/a", []string{"localhost:2379"}, false, files{}},
		{"etcd://b.example.org:1,Bücher.example:65535,[2001:DB8:0::8]:02379,127.0.0.1:2379", "prefix /dns/fleet-1_x.y/...", "/dns/fleet-1_x.y/...",
			[]string{"b.example.org:1", "xn--bcher-kva.example:65535", "[2001:db8::8]:2379", "127.0.0.1:2379"}, false, files{}},
		{"etcd://a:1", "tls", "/multivalue", []string{"a:1"}, true, files{}},
		{"etcd://a:1", "tls ca", "/multivalue", []string{"a:1"}, true, files{2: "ca"}},
		{"etcd://a:1", "tls cert key", "/multivalue", []string{"a:1"}, true, files{"cert", "key"}},
		{"etcd://a:1", "tls \"c d\" key /ca\ncredentials dir/user", "/multivalue", []string{"a:1"}, true, files{"c d", "key", "/ca", "dir/user"}},
		{"etcd://a:1", "prefix /skydnsx", "/skydnsx", []string{"a:1"}, false, files{}},
		{"etcd://a:1", "prefix /a/skydns", "/a/skydns", []string{"a:1"}, false, files{}},
		{"etcd://a:1", "prefix /" + strings.Repeat("p", 254), "/" + strings.Repeat("p", 254), []string{"a:1"}, false, files{}},
	} {
		got, err := storeOf(tc.endpoints, tc.block)
		want := membership.Config{Name: "multivalue", Store: membership.Store{
			Endpoints: tc.want, TLS: tc.tls, Prefix: tc.prefix, Cert: tc.files[0], Key: tc.files[1], CA: tc.files[2], Credentials: tc.files[3],
		}}
		if err != nil {
			t.Errorf("%s\n%s\n%v", tc.endpoints, tc.block, err)
		} else if !reflect.DeepEqual(got.Config, want) || !got.UsesStore() {
			t.Errorf("%s\n%s\ngot  %+v\nwant %+v", tc.endpoints, tc.block, got.Config, want)
		}
	}
	// What is not about etcd is as in any fleet, and the block need not be there.
	got, err := storeOf("etcd://a:1", "name n\nsite s\nvantage 5\nquorum 51%")
	if err != nil || got.Name != "n" || got.Site != "s" || got.Vantage != 5 || got.Quorum != (answer.Quorum{Percent: 51}) {
		t.Errorf("%+v, %v", got, err)
	}
	c, err := parsed("check tcp://:80\nfleet etcd://a:1")
	if err != nil || fmt.Sprint(c.Fleet.Store.Endpoints, c.Fleet.Vantage) != "[a:1] 3" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Every mistake in a fleet over etcd is refused, with its line and the fix, and no password is in an error (B78).
func TestStoreErrors(t *testing.T) {
	const (
		endpoint = ": use HOST:PORT, such as etcd1.example.org:2379 or 192.0.2.17:2379"
		mixed    = "4 etcd:// stands beside another word: name members, or one etcd:// with commas and no spaces between its endpoints"
		secret   = "4 an endpoint has no user or password: write them to a file, and credentials FILE in the block of fleet"
		scheme   = "4 write etcd:// once, before the first endpoint, and http:// or https:// nowhere: tls in the block of fleet is for https"
		empty    = "4 an endpoint of etcd:// is empty" + endpoint
		square   = ": put an IPv6 address in brackets before a port, and nothing else, such as [2001:db8::7]:9254"
		talk     = " is for members that talk to each other, and these meet in an etcd: remove it; tls and credentials say how to use the etcd"
		over     = " is for a fleet over etcd, and this one names members: remove it, or write etcd://HOST:PORT in place of the members"
		path     = ": use a path of up to 255 printable bytes that begins with a /, such as /multivalue"
		parts    = ": use a path without empty parts, dots alone and a / at its end, such as /multivalue"
	)
	for endpoints, want := range map[string]string{
		"etcd://":                         empty,
		"etcd://a:1,":                     empty,
		"etcd://,a:1":                     empty,
		"etcd://a:1,,b:1":                 empty,
		"etcd:":                           "4 etcd: lacks its slashes: write etcd://HOST:PORT",
		"etcd:a:2379":                     "4 etcd: lacks its slashes: write etcd://HOST:PORT",
		"etcd:/a:2379":                    "4 etcd: lacks its slashes: write etcd://HOST:PORT",
		"etcd://a":                        `4 endpoint "a" has no port: write it, such as a:2379`,
		"etcd://a:1,B":                    `4 endpoint "B" has no port: write it, such as b:2379`,
		"etcd://2001:db8::7":              `4 endpoint "2001:db8::7" has no port: write it, such as [2001:db8::7]:2379`,
		"etcd://[2001:db8::7]":            `4 endpoint "[2001:db8::7]" has no port: write it, such as [2001:db8::7]:2379`,
		"etcd://a:":                       `4 invalid endpoint "a:": invalid port "": use one from 1 to 65535`,
		"etcd://a:0":                      `4 invalid endpoint "a:0": invalid port "0": use one from 1 to 65535`,
		"etcd://a:65536":                  `4 invalid endpoint "a:65536": invalid port "65536": use one from 1 to 65535`,
		"etcd://a:etcd":                   `4 invalid endpoint "a:etcd": invalid port "etcd": use one from 1 to 65535`,
		"etcd://:2379":                    `4 invalid endpoint ":2379"` + endpoint,
		"etcd://a..b:2379":                `4 invalid endpoint "a..b:2379"` + endpoint,
		"etcd://192.0.2.300:2379":         `4 invalid endpoint "192.0.2.300:2379"` + endpoint,
		"etcd://0.0.0.0:2379":             `4 invalid endpoint "0.0.0.0:2379": this is not the address of one host: use that of one server`,
		"etcd://2001:db8:1:2:3:4:5:6:2":   `4 invalid endpoint "2001:db8:1:2:3:4:5:6:2"` + square,
		"etcd://[a.example.org]:2379":     `4 invalid endpoint "[a.example.org]:2379"` + square,
		"etcd://a:1,A:1":                  "4 duplicate endpoint a:1: name each once",
		"etcd://[::1]:1,[0::1]:01":        "4 duplicate endpoint [::1]:1: name each once",
		"etcd://a:2379/":                  "4 an endpoint has no path: write prefix PATH in the block of fleet",
		"etcd://a:2379/multivalue":        "4 an endpoint has no path: write prefix PATH in the block of fleet",
		"etcd://user:hush@a:2379":         secret,
		"etcd://user:hush@a:2379/x":       secret,
		"etcd://http://user:hush@a:2379":  scheme,
		"etcd://a:1,etcd://b:1":           scheme,
		"etcd://a:1,https://b:1":          scheme,
		"etcd://a:1 etcd://b:1":           mixed,
		"etcd://a:1, b:1":                 mixed,
		"etcd://a:1 dns-fleet.example":    mixed,
		"dns-fleet.example ETCD://u:p@a/": mixed,
		"http://a:1 etcd://a:1":           mixed,
		"https://user:hush@a:2379":        "4 a member is not a URL: for an etcd write etcd://HOST:PORT, and tls in the block of fleet in place of https",
	} {
		expectStoreError(t, endpoints, "", want)
	}
	for block, want := range map[string]string{
		"key fleet.key":                       "5 key" + talk,
		"name n\nlisten :9254":                "6 listen" + talk,
		"advertise 192.0.2.17":                "5 advertise" + talk,
		"listen":                              "5 listen" + talk,
		"tls a b c d":                         "5 tls takes 0 to 3 values, not 4: use tls [CERT KEY] [CA]",
		"tls \"\"":                            "5 tls with an empty path: name files, or leave them out for the authorities of the system",
		"tls cert \"\"":                       "5 tls with an empty path: name files, or leave them out for the authorities of the system",
		"tls\ntls ca":                         "6 duplicate tls, first on line 5",
		"tls {\nca\n}":                        "5 unexpected { in its block: no property of fleet has a block of its own",
		"credentials":                         "5 credentials takes 1 value, not 0: use credentials FILE",
		"credentials \"\"":                    "5 credentials without a file: name its path",
		"credentials user hush":               "5 credentials takes 1 value, not 2: use credentials FILE",
		"prefix":                              "5 prefix takes 1 value, not 0: use prefix PATH",
		"prefix \"\"":                         `5 invalid prefix ""` + path,
		"prefix multivalue":                   `5 invalid prefix "multivalue"` + path,
		"prefix ./a":                          `5 invalid prefix "./a"` + path,
		"prefix \"/a b\"":                     `5 invalid prefix "/a b"` + path,
		"prefix /é":                           `5 invalid prefix "/é"` + path,
		"prefix /a\x01":                       `5 invalid prefix "/a\x01"` + path,
		"prefix /" + strings.Repeat("p", 255): `5 invalid prefix "/` + strings.Repeat("p", 255) + `"` + path,
		"prefix /":                            `5 invalid prefix "/"` + parts,
		"prefix /a/":                          `5 invalid prefix "/a/"` + parts,
		"prefix //a":                          `5 invalid prefix "//a"` + parts,
		"prefix /a//b":                        `5 invalid prefix "/a//b"` + parts,
		"prefix /a/../b":                      `5 invalid prefix "/a/../b"` + parts,
		"prefix /a/.":                         `5 invalid prefix "/a/."` + parts,
		"prefix /skydns":                      `5 invalid prefix "/skydns": the plugin etcd reads what is below /skydns; use another one, such as /multivalue`,
		"prefix /skydns/org/example":          `5 invalid prefix "/skydns/org/example": the plugin etcd reads what is below /skydns; use another one, such as /multivalue`,
		"prefix /registry/x":                  `5 invalid prefix "/registry/x": Kubernetes reads what is below /registry; use another one, such as /multivalue`,
		"prefix /a\nprefix /a":                "6 duplicate prefix, first on line 5",
		"vantage 3\nquorum 4":                 "6 invalid quorum 4: there are 3 vantage points; use a count up to that, or a share, such as 18%",
		"vantage 0":                           "5 invalid vantage 0: use a count from 1 to 16",
		"credental a":                         `5 unknown property "credental": did you mean "credentials"?`,
		"interval 3s":                         "5 interval is a property of multivalue, not a property of fleet: close the block of fleet before it, with a } on a line of its own",
		"etcd /skydns":                        `5 unexpected "etcd" in the block of fleet: close the block before it, with a } on a line of its own`,
	} {
		expectStoreError(t, "etcd://a:1", block, want)
	}
	for block, want := range map[string]string{"tls": "6 tls", "tls a b c d": "6 tls", "credentials f": "6 credentials", "prefix /a": "6 prefix"} {
		expectFleetError(t, "a", block, want+over)
	}
}

func expectStoreError(t *testing.T, endpoints, block, want string) {
	t.Helper()
	_, err := storeOf(endpoints, block)
	line, want, _ := strings.Cut(want, " ")
	if want = "Corefile:" + line + " - Error during parsing: fleet: " + want; err == nil || err.Error() != want {
		t.Errorf("fleet %s, %s\ngot  %v\nwant %s", endpoints, block, err, want)
	}
}

// Stanzas agree on the etcd and on how it is used, and their endpoints add up. One process has one engine (B78).
func TestOneStore(t *testing.T) {
	below := func(path string) string { return filepath.Join("/etc", path) }
	const (
		one    = ": they are one member, so write the same"
		member = ": a process is a member of one fleet, so write the same"
		etcd   = "fleet etcd://a:1 {\n"
	)
	for _, tc := range []struct{ first, second, want string }{
		{"fleet a {\nkey k\n}", "fleet etcd://a:1", "14 this stanza names an etcd, and the stanza at Corefile:4 names members" + member},
		{"fleet etcd://a:1", "limit 3\nfleet a {\nkey k\n}", "15 this stanza names members, and the stanza at Corefile:4 names an etcd" + member},
		{etcd + "}", etcd + "prefix /b\n}", "15 prefix /b, and the stanza at Corefile:4 has prefix /multivalue" + member},
		{etcd + "prefix /b\n}", etcd + "}", "14 prefix /multivalue, and the stanza at Corefile:5 has prefix /b" + member},
		{etcd + "}", etcd + "\nname b\n}", "16 name b, and the stanza at Corefile:4 has name multivalue" + one},
		{etcd + "site a\n}", etcd + "site b\n}", "15 site b, and the stanza at Corefile:5 has site a" + one},
		{etcd + "}", etcd + "tls\n}", "15 tls, and the stanza at Corefile:4 has no tls" + one},
		{etcd + "tls\n}", etcd + "}", "14 no tls, and the stanza at Corefile:5 has tls" + one},
		{etcd + "tls\n}", etcd + "tls ca\n}", "15 tls /etc/ca, and the stanza at Corefile:5 has tls" + one},
		{etcd + "tls a b\n}", etcd + "tls a b c\n}", "15 tls /etc/a /etc/b /etc/c, and the stanza at Corefile:5 has tls /etc/a /etc/b" + one},
		{etcd + "credentials u\n}", etcd + "\ncredentials v\n}", "16 credentials /etc/v, and the stanza at Corefile:5 has credentials /etc/u" + one},
		{etcd + "credentials u\n}", etcd + "}", "14 no credentials, and the stanza at Corefile:5 has credentials /etc/u" + one},
		{etcd + "tls a b\ncredentials u\n}", "fleet etcd://b:1,a:1 {\ncredentials ./u\ntls a ./b\nvantage 5\nprefix /multivalue\n}",
			"{{[a:1 b:1] true /etc/a /etc/b  /etc/u /multivalue} []    multivalue  }"},
		{"limit 3", "fleet etcd://a:1", "{{[a:1] false     /multivalue} []    multivalue  }"},
	} {
		configs := twoStanzas(t, tc.first, tc.second)
		var all Fleets
		if err := all.Include(configs[0], below); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(all.Include(configs[1], below))
		line, want, _ := strings.Cut(tc.want, " ")
		if line[0] != '{' {
			want = "Corefile:" + line + " - Error during parsing: fleet: " + want
		} else if want = tc.want; got == "<nil>" {
			got = fmt.Sprint(all.Config)
		}
		if got != want {
			t.Errorf("%s\n%s\ngot  %s\nwant %s", tc.first, tc.second, got, want)
		}
	}
	// The stanzas stay as they were written.
	configs := twoStanzas(t, etcd+"tls a\n}", "fleet etcd://b:1 {\ntls a\n}")
	var all Fleets
	for _, c := range configs {
		if err := all.Include(c, below); err != nil {
			t.Fatal(err)
		}
		all.Config.Store.Endpoints[0] = "elsewhere:1" // what is done to the sum is not done to the stanzas
	}
	if got := fmt.Sprint(configs[0].Fleet.Store, configs[1].Fleet.Store); got != "{[a:1] true   a  /multivalue} {[b:1] true   a  /multivalue}" {
		t.Error(got)
	}
}

// What is a secret in place of the name of its file is in no error, neither at its own line nor at that of another stanza (B78).
func TestSecretInPlaceOfItsFile(t *testing.T) {
	dir := t.TempDir()
	below := func(path string) string { return filepath.Join(dir, path) }
	for _, key := range []string{"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYyE=", "c2VjcmV0-XNlY3JldC1z_WNyZXQtc2VjcmV0LXNlYyE="} {
		const want = "5 key names a file, and this looks like the key itself: write it into a file"
		_, err := parsed("check tcp://:80\nfleet a {\nkey " + key + "\n}")
		line, text, _ := strings.Cut(want, " ")
		if err == nil || !strings.HasPrefix(err.Error(), "Corefile:"+line+" - Error during parsing: fleet: "+text) || strings.Contains(err.Error(), key) {
			t.Errorf("%v", err)
		}
	}
	// A path of as many letters is one.
	if _, err := parsed("check tcp://:80\nfleet a {\nkey /etc/coredns/secrets/fleet/production/keyss\n}"); err != nil {
		t.Error(err)
	}
	const password = "credentials coredns:hu/sh"
	for _, blocks := range [][2]string{{password, "site a"}, {"credentials u", password}} {
		configs := twoStanzas(t, "fleet etcd://a:1 {\n"+blocks[0]+"\n}", "fleet etcd://a:1 {\n"+blocks[1]+"\n}")
		var all Fleets
		err := errors.Join(all.Include(configs[0], below), all.Include(configs[1], below))
		if err == nil || !strings.Contains(err.Error(), "looks like USER:PASSWORD itself: write that into a file") ||
			strings.Contains(err.Error(), "hu/sh") {
			t.Errorf("%q: %v", blocks, err)
		}
	}
	// A file may have a colon in its name.
	if err := os.WriteFile(below("etcd:user"), nil, 0o600); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	if err := new(Fleets).Include(twoStanzas(t, "fleet etcd://a:1 {\ncredentials etcd:user\n}", "limit 3")[0], below); err != nil && runtime.GOOS != "windows" {
		t.Error(err)
	}
}
