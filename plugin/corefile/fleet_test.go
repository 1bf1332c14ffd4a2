package corefile

import (
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// fleetOf parses a stanza with a check on line 3 and a fleet on line 4, whose block begins on line 5 with the key.
func fleetOf(members, block string) (*Fleet, error) {
	c, err := parsed("check tcp://:80\nfleet " + members + " {\nkey fleet.key\n" + block + "\n}")
	if err != nil {
		return nil, err
	}
	return c.Fleet, nil
}

// A fleet is read as it is written, with the defaults, and the port of listen where none is written.
func TestParseFleet(t *testing.T) {
	fleetConfig := func(key, listen, advertise, name, site string, peers ...string) membership.Config {
		return membership.Config{Peers: peers, Key: key, Listen: listen, Advertise: advertise, Name: name, Site: site}
	}
	usual := answer.Quorum{Percent: 18}
	for _, tc := range []struct {
		members, block string
		want           Fleet
	}{
		{"192.0.2.17", "", Fleet{fleetConfig("fleet.key", ":9254", "", "multivalue", "", "192.0.2.17:9254"), 3, usual}},
		{"dns-fleet.example.org 192.0.2.17", "vantage 5\nquorum 51%\nsite ams\nlisten :9300\nadvertise 192.0.2.17\nname production",
			Fleet{fleetConfig("fleet.key", ":9300", "192.0.2.17:9300", "production", "ams", "dns-fleet.example.org:9300", "192.0.2.17:9300"), 5, answer.Quorum{Percent: 51}}},
		{"a:1 [2001:db8::7]:2 2001:DB8:0::8 [2001:db8::9] LOCALHOST. 127.0.0.1 _x.Bücher.example", "advertise [2001:db8::1]:65535\nvantage 16\nquorum 16\nlisten [::]:09301",
			Fleet{fleetConfig("fleet.key", "[::]:9301", "[2001:db8::1]:65535", "multivalue", "", "a:1", "[2001:db8::7]:2", "[2001:db8::8]:9301", "[2001:db8::9]:9301",
				"localhost.:9301", "127.0.0.1:9301", "_x.xn--bcher-kva.example:9301"), 16, answer.Quorum{Count: 16}}},
		{"a", "advertise 127.0.0.1:1\nlisten 127.0.0.1:9300\nvantage 1\nquorum 1\nsite Zürich/2\nname " + strings.Repeat("n", 63),
			Fleet{fleetConfig("fleet.key", "127.0.0.1:9300", "127.0.0.1:1", strings.Repeat("n", 63), "Zürich/2", "a:9300"), 1, answer.Quorum{Count: 1}}},
		{"a", "advertise 2001:db8::1\nlisten 0.0.0.0:1\nquorum 100%", Fleet{fleetConfig("fleet.key", "0.0.0.0:1", "[2001:db8::1]:1", "multivalue", "", "a:1"), 3, answer.Quorum{Percent: 100}}},
		{"a a:9255", "vantage 3\nquorum 3", Fleet{fleetConfig("fleet.key", ":9254", "", "multivalue", "", "a:9254", "a:9255"), 3, answer.Quorum{Count: 3}}},
		{strings.Repeat("a.", 126) + "a", "", Fleet{fleetConfig("fleet.key", ":9254", "", "multivalue", "", strings.Repeat("a.", 126)+"a:9254"), 3, usual}},
	} {
		got, err := fleetOf(tc.members, tc.block)
		if err != nil {
			t.Errorf("%s\n%s\n%v", tc.members, tc.block, err)
		} else if !reflect.DeepEqual(*got, tc.want) {
			t.Errorf("%s\n%s\ngot  %+v\nwant %+v", tc.members, tc.block, *got, tc.want)
		}
	}
	if c, err := parsed("check tcp://:80"); err != nil || c.Fleet != nil {
		t.Errorf("without fleet: %+v, %v", c, err)
	}
}

// The block may come before the check, holds what the environment says, and each line of it is known.
func TestFleetAndEnvironment(t *testing.T) {
	t.Setenv("MULTIVALUE_TEST_ZONE", "eu-west-1a")
	c, err := parsed("fleet {$MULTIVALUE_TEST_ZONE}.example.org {\nsite {$MULTIVALUE_TEST_ZONE}\nkey /etc/{%MULTIVALUE_TEST_ZONE%}/key\n}\ncheck tcp://:80")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Fleet.Peers, c.Fleet.Site, c.Fleet.Key); got != "[eu-west-1a.example.org:9254]eu-west-1a/etc/eu-west-1a/key" {
		t.Error(got)
	}
	for property, want := range map[string]string{"fleet": "Corefile:3", "fleet site": "Corefile:4", "fleet key": "Corefile:5", "fleet name": "Corefile:2", "check": "Corefile:7"} {
		if got := c.Where(property); got != want {
			t.Errorf("%q is at %s, want %s", property, got, want)
		}
	}
}

// Every mistake in the block of a fleet is refused, with its line and the fix (B78).
func TestFleetErrors(t *testing.T) {
	const (
		share  = ": use a share from 1% to 100%"
		count  = ": use a count from 1, or a share, such as 18%"
		listen = ": use a port, with or without an address of this server before it, such as :9254 or 192.0.2.17:9254"
		own    = ": use the address where other members reach this server, such as 192.0.2.17 or [2001:db8::7]:9254"
		host   = ": use a host name or an address, such as dns-fleet.example.org or 192.0.2.17"
		square = ": put an IPv6 address in brackets before a port, and nothing else, such as [2001:db8::7]:9254"
		port   = ": use one from 1 to 65535"
		one    = ": this is not the address of one host: use that of one server"
		zone   = ": the address has a zone, which other hosts do not know: leave it out"
		word   = ": use one word of printable characters"
	)
	for block, want := range map[string]string{ // the lines after the key, of which the first is line 6
		"vantage 0":                    "6 invalid vantage 0: use a count from 1 to 16",
		"vantage -1":                   "6 invalid vantage -1: use a count from 1 to 16",
		"vantage 17":                   "6 invalid vantage 17: use a count from 1 to 16",
		"vantage 3.5":                  `6 invalid vantage "3.5": use a count from 1 to 16`,
		"vantage all":                  `6 invalid vantage "all": use a count from 1 to 16`,
		"vantage 50%":                  `6 invalid vantage "50%": use a count from 1 to 16`,
		"vantage 99999999999999999999": `6 invalid vantage "99999999999999999999": use a count from 1 to 16`,

		"quorum 200%":         "6 invalid quorum 200%" + share,
		"quorum 101%":         "6 invalid quorum 101%" + share,
		"quorum -1%":          `6 invalid quorum "-1%"` + share,
		"quorum 0%":           `6 invalid quorum "0%"` + share,
		"quorum 18.5%":        `6 invalid quorum "18.5%"` + share,
		"quorum %":            `6 invalid quorum "%"` + share,
		"quorum 18%%":         `6 invalid quorum "18%%"` + share,
		"quorum most%":        `6 invalid quorum "most%"` + share,
		"quorum 0":            "6 invalid quorum 0" + count,
		"quorum -1":           "6 invalid quorum -1" + count,
		"quorum 1.5":          `6 invalid quorum "1.5"` + count,
		"quorum any":          `6 invalid quorum "any"` + count,
		"quorum 5\nvantage 3": "6 invalid quorum 5: there are 3 vantage points; use a count up to that, or a share, such as 18%",
		"vantage 3\nquorum 4": "7 invalid quorum 4: there are 3 vantage points; use a count up to that, or a share, such as 18%",
		"quorum 4":            "6 invalid quorum 4: there are 3 vantage points; use a count up to that, or a share, such as 18%",
		"quorum 9\nvantage 0": "7 invalid vantage 0: use a count from 1 to 16",

		"listen 192.0.2.17":             `6 invalid listen "192.0.2.17"` + listen,
		"listen 9254":                   `6 invalid listen "9254"` + listen,
		"listen 2001:db8::7":            `6 invalid listen "2001:db8::7"` + listen,
		"listen \"\"":                   `6 invalid listen ""` + listen,
		"listen localhost:9254":         `6 invalid listen "localhost:9254"` + listen,
		"listen *:9254":                 `6 invalid listen "*:9254"` + listen,
		"listen udp://:9254":            `6 invalid listen "udp://:9254"` + listen,
		"listen :0":                     `6 invalid listen ":0": invalid port "0"` + port,
		"listen :65536":                 `6 invalid listen ":65536": invalid port "65536"` + port,
		"listen :-1":                    `6 invalid listen ":-1": invalid port "-1"` + port,
		"listen :":                      `6 invalid listen ":": invalid port ""` + port,
		"listen :domain":                `6 invalid listen ":domain": invalid port "domain"` + port,
		"listen 224.0.0.1:9254":         `6 invalid listen "224.0.0.1:9254"` + one,
		"listen [fe80::1%eth0]:9254":    `6 invalid listen "[fe80::1%eth0]:9254"` + zone,
		"listen [::ffff:192.0.2.1]:1":   `6 invalid listen "[::ffff:192.0.2.1]:1": this is an IPv4 address in IPv6 form: use 192.0.2.1`,
		"advertise 0.0.0.0":             `6 invalid advertise "0.0.0.0"` + one,
		"advertise 0.0.0.0:9254":        `6 invalid advertise "0.0.0.0:9254"` + one,
		"advertise ::":                  `6 invalid advertise "::"` + one,
		"advertise [::]:9254":           `6 invalid advertise "[::]:9254"` + one,
		"advertise 255.255.255.255":     `6 invalid advertise "255.255.255.255"` + one,
		"advertise ff02::1":             `6 invalid advertise "ff02::1"` + one,
		"advertise fe80::1%eth0":        `6 invalid advertise "fe80::1%eth0"` + zone,
		"advertise ::ffff:192.0.2.1":    `6 invalid advertise "::ffff:192.0.2.1": this is an IPv4 address in IPv6 form: use 192.0.2.1`,
		"advertise dns1.example.org":    `6 invalid advertise "dns1.example.org"` + own,
		"advertise dns1.example.org:1":  `6 invalid advertise "dns1.example.org:1"` + own,
		"advertise :9254":               `6 invalid advertise ":9254"` + own,
		"advertise \"\"":                `6 invalid advertise ""` + own,
		"advertise 192.0.2.300":         `6 invalid advertise "192.0.2.300"` + own,
		"advertise 192.0.2.17:":         `6 invalid advertise "192.0.2.17:": invalid port ""` + port,
		"advertise [192.0.2.17]:9254":   `6 invalid advertise "[192.0.2.17]:9254"` + square,
		"advertise [2001:db8::7]:65536": `6 invalid advertise "[2001:db8::7]:65536": invalid port "65536"` + port,
		"advertise 192.0.2.0/24":        `6 invalid advertise "192.0.2.0/24"` + own,

		"site \"\"":                         "6 site is empty: leave it out, or write a word; if it is a variable of the environment, set it",
		"site {$MULTIVALUE_NOT_SET}":        "6 site is empty: leave it out, or write a word; if it is a variable of the environment, set it",
		"name \"\"":                         "6 name is empty: leave it out, or write a word; if it is a variable of the environment, set it",
		"name " + strings.Repeat("n", 64):   `6 name "` + strings.Repeat("n", 64) + `" has 64 bytes: use at most 63`,
		"site " + strings.Repeat("ü", 32):   `6 site "` + strings.Repeat("ü", 32) + `" has 64 bytes: use at most 63`,
		"site \"north wing\"":               `6 invalid site "north wing"` + word,
		"site \"ams\u00a0one\"":             "6 invalid site \"ams\\u00a0one\"" + word,
		"name a\u200bb":                     `6 invalid name "a\u200bb"` + word,
		"name a\x01b":                       `6 invalid name "a\x01b"` + word,
		"name a\xffb":                       "6 invalid name \"a\ufffdb\"" + word,
		"site north wing":                   "6 site takes 1 value, not 2: use site TEXT",
		"key other":                         "6 duplicate key, first on line 5",
		"site a\nsite a":                    "7 duplicate site, first on line 6",
		"vantage":                           "6 vantage takes 1 value, not 0: use vantage COUNT",
		"quorum":                            "6 quorum takes 1 value, not 0: use quorum COUNT|PERCENT%",
		"quorum 18 %":                       "6 quorum takes 1 value, not 2: use quorum COUNT|PERCENT%",
		"listen":                            "6 listen takes 1 value, not 0: use listen [ADDRESS]:PORT",
		"advertise":                         "6 advertise takes 1 value, not 0: use advertise ADDRESS[:PORT]",
		"name":                              "6 name takes 1 value, not 0: use name TEXT",
		"vantge 3":                          `6 unknown property "vantge": did you mean "vantage"?`,
		"qourum 3":                          `6 unknown property "qourum": did you mean "quorum"?`,
		"xyzzyxyzzy 3":                      `6 unknown property "xyzzyxyzzy": use one of advertise, credentials, key, listen, name, prefix, quorum, site, tls, vantage`,
		"Site ams":                          `6 unknown property "Site": did you mean "site"?`,
		"site ams }":                        "6 unexpected } after site: put it on a line of its own",
		"site ams {\nb c\n}":                "6 unexpected { in its block: no property of fleet has a block of its own",
		"{\nb c\n}":                         "6 unexpected { in its block: no property of fleet has a block of its own",
		"interval 3s":                       "6 interval is a property of multivalue, not a property of fleet: close the block of fleet before it, with a } on a line of its own",
		"file db.example.org":               `6 unexpected "file" in the block of fleet: close the block before it, with a } on a line of its own`,
		"vantage 3\nfleet b {\nkey c\n}\n}": "7 fleet is a property of multivalue, not a property of fleet: close the block of fleet before it, with a } on a line of its own",
	} {
		expectFleetError(t, "a", block, want)
	}
	for members, want := range map[string]string{
		"http://u:hush@a.example.org/":       "4 a member is not a URL: for an etcd write etcd://HOST:PORT, and tls in the block of fleet in place of https",
		"a HTTPS://192.0.2.1:2379":           "4 a member is not a URL: for an etcd write etcd://HOST:PORT, and tls in the block of fleet in place of https",
		"ftp://u:hush@a.example.org":         "4 a member is not a URL" + host,
		"a.example.org/x":                    "4 a member is not a URL" + host,
		"u:hush@a.example.org":               "4 a member is not a URL" + host,
		"a:0":                                `4 invalid member "a:0": invalid port "0"` + port,
		"a:65536":                            `4 invalid member "a:65536": invalid port "65536"` + port,
		"a:http":                             `4 invalid member "a:http": invalid port "http"` + port,
		"a:":                                 `4 invalid member "a:": invalid port ""` + port,
		"192.0.2.17:+1":                      `4 invalid member "192.0.2.17:+1": invalid port "+1"` + port,
		":9254":                              `4 invalid member ":9254"` + host,
		"\"\"":                               `4 invalid member ""` + host,
		"*.example.org":                      `4 invalid member "*.example.org"` + host,
		"a..b":                               `4 invalid member "a..b"` + host,
		".":                                  `4 invalid member "."` + host,
		"-a.example.org":                     `4 invalid member "-a.example.org"` + host,
		"a-.example.org":                     `4 invalid member "a-.example.org"` + host,
		"\"a b\"":                            `4 invalid member "a b"` + host,
		"192.0.2":                            `4 invalid member "192.0.2"` + host,
		"192.0.2.300":                        `4 invalid member "192.0.2.300"` + host,
		"192.0.2.300:1":                      `4 invalid member "192.0.2.300:1"` + host,
		strings.Repeat("a", 64) + ".example": `4 invalid member "` + strings.Repeat("a", 64) + `.example"` + host,
		strings.Repeat("a.", 127) + "a":      `4 invalid member "` + strings.Repeat("a.", 127) + `a"` + host,
		"\u0301a.example":                    "4 invalid member \"\u0301a.example\": label \"\u0301a\" is not valid in an international domain name: idna: invalid label \"\u0301a\"",
		"0.0.0.0":                            `4 invalid member "0.0.0.0"` + one,
		"ff02::1":                            `4 invalid member "ff02::1"` + one,
		"[fe80::1%eth0]:9254":                `4 invalid member "[fe80::1%eth0]:9254"` + zone,
		"::ffff:192.0.2.1":                   `4 invalid member "::ffff:192.0.2.1": this is an IPv4 address in IPv6 form: use 192.0.2.1`,
		"2001:db8:1:2:3:4:5:6:9254":          `4 invalid member "2001:db8:1:2:3:4:5:6:9254"` + square,
		"[a.example.org]:9254":               `4 invalid member "[a.example.org]:9254"` + square,
		"[2001:db8::7":                       `4 invalid member "[2001:db8::7"` + square,
		"[2001:db8::7]9254":                  `4 invalid member "[2001:db8::7]9254"` + square,
		"2001:db8::7]":                       `4 invalid member "2001:db8::7]"` + square,
		"a A:9254":                           "4 duplicate member a:9254",
		"2001:db8::7 [2001:DB8::7]:9254":     "4 duplicate member [2001:db8::7]:9254",
	} {
		expectFleetError(t, members, "", want)
	}
}

func expectFleetError(t *testing.T, members, block, want string) {
	t.Helper()
	_, err := fleetOf(members, block)
	line, want, _ := strings.Cut(want, " ")
	if want = "Corefile:" + line + " - Error during parsing: fleet: " + want; err == nil || err.Error() != want {
		t.Errorf("fleet %s, %s\ngot  %v\nwant %s", members, block, err, want)
	}
}

// What a stanza with a fleet lacks, or says beside it, is refused with its line (B78).
func TestFleetInAStanza(t *testing.T) {
	const (
		check = "check tcp://:80\n"
		key   = " needs a key: add key FILE to its block, with a line of `openssl rand -base64 32` in that file, the same one for all members"
		never = "fleet: exec and from are never shared, and this stanza has no check without them: add one, or remove fleet"
	)
	for stanza, want := range map[string]string{
		check + "fleet":                                      "4 fleet takes at least 1 value, not 0: use fleet NAME|ADDRESS[:PORT]...|etcd://HOST:PORT[,HOST:PORT...]",
		check + "fleet {\nkey a\n}":                          "4 fleet takes at least 1 value, not 0: use fleet NAME|ADDRESS[:PORT]...|etcd://HOST:PORT[,HOST:PORT...]",
		check + "fleet a":                                    "4 fleet" + key,
		check + "fleet a {\n}":                               "4 fleet" + key,
		check + "fleet a {\nsite ams\n}":                     "4 fleet" + key,
		check + "fleet a {\nkey\n}":                          "5 fleet: key takes 1 value, not 0: use key FILE",
		check + "fleet a {\nkey \"\"\n}":                     "5 fleet: key without a file: name its path",
		check + "fleet a { key b }":                          `4 fleet: unexpected "key" after {: begin a new line after it`,
		check + "fleet a }":                                  "4 unexpected } after fleet: put it on a line of its own",
		check + "fleet a {\nkey a\n}\nfleet a {\n}":          "7 duplicate fleet, first on line 4",
		check + "key a":                                      "4 key is an option of check and a property of fleet: write it in the block of one of them",
		check + "vantage 3":                                  "4 vantage is a property of fleet: write it in its block",
		check + "limit 3 {\n}":                               "4 unexpected { after limit: only check, fleet and status have a block of their own",
		check + "fleat a":                                    `4 unknown property "fleat": did you mean "fleet"?`,
		"check tcp://:80 {\nfleet a\n}":                      "4 check: fleet is a property of multivalue, not an option of check: close the block of check before it, with a } on a line of its own",
		"check tcp://:80 fleet a":                            "3 check: fleet is a property of multivalue, not an option of check: write it on a line of its own",
		"fleet a {\nkey b\n}":                                "2 check is missing: add at least one, such as check http://:80/healthz",
		"check tcp://:1 from 192.0.2.1\nfleet a {\nkey b\n}": "4 " + never,
		"fleet a {\nkey b\n}\ncheck exec://:1 {\ncommand /bin/true\n}\ncheck tcp://:1 from ::1": "3 " + never,
	} {
		if runtime.GOOS != "linux" && strings.Contains(stanza, "exec://") {
			continue // no other system has this check
		}
		line, want, _ := strings.Cut(want, " ")
		_, err := parsed(stanza)
		if want = "Corefile:" + line + " - Error during parsing: " + want; err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", stanza, err, want)
		}
	}
	// A block without its brace ends with that of the stanza, which then ends with that of the server block.
	for rest, want := range map[string]string{
		"}\nfile db\n}": `Corefile:7 - Error during parsing: unexpected "file" in the block of multivalue: close the block before it, with a } on a line of its own`,
		"limit 3\n}\n}": "Corefile:6 - Error during parsing: fleet: limit is a property of multivalue, not a property of fleet: close the block of fleet before it, with a } on a line of its own",
		"":              "Corefile:5 - Error during parsing: Unexpected EOF",
	} {
		_, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\nfleet a {\nkey b\n" + rest)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("a block that does not end, before %q: %v, want %s", rest, err, want)
		}
	}
}

// A check that other members could not ask in the place of this one is noted, as long as another is shared.
func TestFleetNotices(t *testing.T) {
	const block = "\nfleet a {\nkey b\n}"
	const because = ": exec and from belong to one server, so each member asks this one for itself"
	for stanza, want := range map[string]string{
		"check tcp://:1" + block: "",
		"check tcp://:1\ncheck tcp://:2 from 192.0.2.1 from 2001:db8::1" + block:      "Corefile:5 - fleet does not share check tcp://:2 from 192.0.2.1 from 2001:db8::1" + because,
		"check icmp: from 192.0.2.1\ncheck http://:1/ body from" + block:              "Corefile:5 - fleet does not share check icmp:// from 192.0.2.1" + because,
		"check exec://:1 {\ncommand /bin/true\n}\ncheck agent://:2 send exec" + block: "Corefile:7 - fleet does not share check exec://:1 command /bin/true" + because,
		"check agent://:2 from ::1\ncheck agent://:3" + block:                         "Corefile:5 - fleet does not share check agent://:2 from ::1 alone" + because,
		"check tcp://:1 from 192.0.2.1\nannotations\nwithin 192.0.2.0/24" + block:     "Corefile:6 - fleet does not share check tcp://:1 from 192.0.2.1" + because,
		"check tcp://:1 from 192.0.2.1\ncheck tcp://:2 from 192.0.2.1\nmin_up 1\n":    "",
	} {
		if runtime.GOOS != "linux" && strings.Contains(stanza, "exec://") {
			continue // no other system has this check
		}
		c, err := parsed(stanza)
		if err != nil {
			t.Errorf("%s: %v", stanza, err)
		} else if got := strings.Join(c.Notices, "|"); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", stanza, got, want)
		}
	}
}

// twoStanzas parses a Corefile with two stanzas, whose fleets have these lines: lines 4 and up, and 14 and up. Each is padded to
// seven lines.
func twoStanzas(t *testing.T, first, second string) []*Config {
	t.Helper()
	var all []string
	for i, block := range []string{first, second} {
		all = append(all, fmt.Sprintf("multivalue z%d.example.org {\ncheck tcp://:80\n%s%s\n}", i, block, strings.Repeat("\n", 6-strings.Count(block, "\n"))))
	}
	configs, err := parseCorefile("example.org {\n" + strings.Join(all, "\n") + "\n}")
	if err != nil {
		t.Fatal(err)
	}
	return configs
}

// A process is one member of one fleet, so the stanzas of a Corefile agree on what a member is. Peers are those of all, and vantage
// and quorum are those of each (B78).
func TestOneFleet(t *testing.T) {
	below := func(path string) string { return filepath.Join("/etc", path) }
	const one = ": they are one member, so write the same"
	for _, tc := range []struct{ first, second, want string }{
		{"fleet a {\nkey k\n}", "fleet b {\nkey k\nlisten :9255\n}", "16 listen :9255, and the stanza at Corefile:4 has listen :9254: a process is a member of one fleet, so write the same"},
		{"fleet a {\nkey k\nlisten :9255\n}", "fleet b {\nkey k\n}", "14 listen :9254, and the stanza at Corefile:6 has listen :9255: a process is a member of one fleet, so write the same"},
		{"fleet a {\nkey k\n}", "fleet a {\nlisten 0.0.0.0:9254\nkey k\n}", "15 listen 0.0.0.0:9254, and the stanza at Corefile:4 has listen :9254: a process is a member of one fleet, so write the same"},
		{"fleet a {\nsite b\nkey k\n}", "fleet a {\nkey l\n}", "15 key /etc/l, and the stanza at Corefile:6 has key /etc/k" + one},
		{"fleet a {\nkey k\n}", "fleet a {\nkey k\nname n\n}", "16 name n, and the stanza at Corefile:4 has name multivalue" + one},
		{"fleet a {\nkey k\nadvertise 192.0.2.1\n}", "fleet a {\nkey k\n}", "14 no advertise, and the stanza at Corefile:6 has advertise 192.0.2.1:9254" + one},
		{"fleet a {\nkey k\nsite ams\n}", "fleet a {\nkey k\nsite fra\n}", "16 site fra, and the stanza at Corefile:6 has site ams" + one},
		{"fleet a {\nkey k\n}", "fleet a {\nkey k\nsite fra\n}", "16 site fra, and the stanza at Corefile:4 has no site" + one},
		{"fleet a {\nkey k\nsite ams\n}", "fleet a {\nkey k\n}", "14 no site, and the stanza at Corefile:6 has site ams" + one},
		{"fleet a {\nkey k\n}", "fleet b a {\nkey ./k\nvantage 5\nquorum 2\nlisten :9254\nname multivalue\n}", "{{[] false     } [a:9254 b:9254] /etc/k :9254  multivalue  }"},
		{"fleet a {\nkey k\n}", "limit 3", "{{[] false     } [a:9254] /etc/k :9254  multivalue  }"},
		{"limit 3", "fleet a {\nkey k\n}", "{{[] false     } [a:9254] /etc/k :9254  multivalue  }"},
		{"limit 3", "limit 3", "{{[] false     } []      }"},
	} {
		configs := twoStanzas(t, tc.first, tc.second)
		var all Fleets
		if err := all.Include(configs[0], below); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(all.Include(configs[1], below))
		line, want, refused := strings.Cut(tc.want, " ")
		if refused && line[0] != '{' {
			want = "Corefile:" + line + " - Error during parsing: fleet: " + want
		} else if want = tc.want; got == "<nil>" {
			got = fmt.Sprint(all.Config)
		}
		if got != want {
			t.Errorf("%s\n%s\ngot  %s\nwant %s", tc.first, tc.second, got, want)
		}
	}
	// The stanzas stay as they were written.
	configs := twoStanzas(t, "fleet a {\nkey k\n}", "fleet b {\nkey k\nvantage 5\nquorum 2\n}")
	var all Fleets
	for _, c := range configs {
		if err := all.Include(c, below); err != nil {
			t.Fatal(err)
		}
		all.Config.Peers[0] = "elsewhere:1" // what is done to the sum is not done to the stanzas
	}
	if got := fmt.Sprint(*configs[0].Fleet, *configs[1].Fleet); got != "{{{[] false     } [a:9254] k :9254  multivalue  } 3 18%} {{{[] false     } [b:9254] k :9254  multivalue  } 5 2}" {
		t.Error(got)
	}
}
