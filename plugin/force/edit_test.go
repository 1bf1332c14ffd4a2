package force

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
)

// today is when changes of the tests are made.
var today = time.Date(2026, 11, 30, 8, 0, 0, 900, time.UTC)

// asked makes a change of a line: a state, networks, perhaps until and an end, perhaps a reason behind #.
func asked(line string) acting.Change {
	rule, reason, _ := strings.Cut(line, "#")
	words := strings.Fields(rule)
	c := acting.Change{State: words[0], Networks: words[1:], Reason: strings.TrimSpace(reason)}
	if i := slices.Index(c.Networks, "until"); i >= 0 {
		c.Networks, c.Until = c.Networks[:i], c.Networks[i+1]
	}
	return c
}

// A change keeps what belongs to others byte for byte: lines, comments, line ends, and their order (B118).
func TestEdit(t *testing.T) {
	for _, tc := range []struct{ what, before, change, after string }{
		{"an empty file", "", "drain 192.0.2.1", "drain 192.0.2.1\n"},
		{"an end and a reason", "", "down 192.0.2.1 2001:DB8::/32 until +2h # rack 4", "down 192.0.2.1 2001:db8::/32 until 2026-11-30T10:00:00Z # rack 4\n"},
		{"an end elsewhere", "", "up 192.0.2.1 until 2026-11-30T12:00:00+01:00", "up 192.0.2.1 until 2026-11-30T11:00:00Z\n"},
		{"the same twice", "", "drain 192.0.2.1 192.0.2.1/32", "drain 192.0.2.1\n"},
		{"below others", "# ours\n\ndown  192.0.2.7\t # disk\n", "drain 192.0.2.1", "# ours\n\ndown  192.0.2.7\t # disk\ndrain 192.0.2.1\n"},
		{"no line end", "down 192.0.2.7", "drain 192.0.2.1", "down 192.0.2.7\ndrain 192.0.2.1\n"},
		{"a comment without a line end", "# down 192.0.2.1", "drain 192.0.2.1", "# down 192.0.2.1\ndrain 192.0.2.1\n"},
		{"CRLF", "down 192.0.2.7\r\nup 192.0.2.8", "drain 192.0.2.1 # a", "down 192.0.2.7\r\nup 192.0.2.8\r\ndrain 192.0.2.1 # a\r\n"},
		{"in place of another state", "up 192.0.2.1 # by hand\ndown 192.0.2.7\n", "down 192.0.2.1", "down 192.0.2.7\ndown 192.0.2.1\n"},
		{"in place of a longer end", "drain 192.0.2.1 until 2027-01-01T00:00:00Z\n", "drain 192.0.2.1 until +30m", "drain 192.0.2.1 until 2026-11-30T08:30:00Z\n"},
		{"in place of one that has ended", "up 192.0.2.1 until 2020-01-01T00:00:00Z\n", "drain 192.0.2.1", "drain 192.0.2.1\n"},
		{"one of a line", "drain 192.0.2.1 \t192.0.2.2  192.0.2.3 until 2027-01-01T00:00:00Z  # a 192.0.2.2 b\n", "release 192.0.2.2", "drain 192.0.2.1  192.0.2.3 until 2027-01-01T00:00:00Z  # a 192.0.2.2 b\n"},
		{"the first and the last of a line", "  drain 192.0.2.1 192.0.2.2 192.0.2.3\r\n", "release 192.0.2.1 192.0.2.3", "  drain 192.0.2.2\r\n"},
		{"a word that is part of another", "drain 192.0.2.11 192.0.2.1 192.0.2.111\n", "release 192.0.2.1", "drain 192.0.2.11 192.0.2.111\n"},
		{"of several lines", "drain 192.0.2.1\n# a\nup 192.0.2.2 until 2020-01-01T00:00:00Z\ndrain 192.0.2.1/32 192.0.2.3\n", "release 192.0.2.1 192.0.2.2", "# a\ndrain 192.0.2.3\n"},
		{"as it is written there", "down 2001:0DB8:0::/32\n", "release 2001:db8::/32", ""},
		{"a larger and a smaller network", "drain 192.0.2.0/24\ndown 192.0.2.0/32\n", "release 192.0.2.0/25", "drain 192.0.2.0/24\ndown 192.0.2.0/32\n"},
		{"the last line, without an end", "down 192.0.2.7\ndrain 192.0.2.1", "release 192.0.2.1", "down 192.0.2.7\n"},
		{"a comment that begins at once", "drain 192.0.2.1#a\n", "release 192.0.2.1", ""},
		{"a reason in two lines", "", "drain 192.0.2.1 # a\ndown 0.0.0.0/0\r\n\x1b[31m\u202e", "drain 192.0.2.1 # a down 0.0.0.0/0  [31m\n"},
		{"a reason that is a comment", "", "drain 192.0.2.1 ## a", "drain 192.0.2.1 # # a\n"},
	} {
		x, err := parseChange(asked(tc.change), today)
		if err != nil {
			t.Errorf("%s: %v", tc.what, err)
			continue
		}
		if got := string(edit([]byte(tc.before), x)); got != tc.after {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.after)
		}
	}
}

// What no file could take is refused, with what would be right (B118).
func TestParseChange(t *testing.T) {
	many := strings.Repeat(" 192.0.2.1", maxChanged+1)
	for line, want := range map[string]string{
		"dwon 192.0.2.1":                                      `unknown state "dwon": use drain, down, up or release`,
		"none 192.0.2.1":                                      `unknown state "none"`,
		"drain":                                               "0 networks: use 1 to 256",
		"drain" + many:                                        "257 networks: use 1 to 256",
		"drain www.example.org":                               `"www.example.org" is neither an address nor a network`,
		"drain 192.0.2.1/24":                                  "has bits set after its length: use 192.0.2.0/24",
		"drain 192.0.2.1:80":                                  "is neither an address nor a network",
		"drain fe80::1%eth0":                                  "has a zone",
		"drain ::ffff:192.0.2.1":                              "is an IPv4 address in IPv6 form",
		"drain 192.0.2.1 until 2h":                            `invalid until "2h": use a date, a time and its zone`,
		"drain 192.0.2.1 until +2":                            `invalid until "+2": use how long from now`,
		"drain 192.0.2.1 until +-2h":                          "invalid until",
		"drain 192.0.2.1 until ++2h":                          "invalid until",
		"drain 192.0.2.1 until +0s":                           "invalid until",
		"drain 192.0.2.1 until +1000000h":                     "more than ten years ahead",
		"drain 192.0.2.1 until 2026-11-30T08:00:00Z":          "until 2026-11-30T08:00:00Z is over: use a time to come",
		"drain 192.0.2.1 until 9999-11-30T08:00:00Z":          "more than ten years ahead",
		"release 192.0.2.1 until +2h":                         "release has no end",
		"drain " + strings.Repeat("1", 1<<20):                 "is neither an address nor a network",
		"drain 192.0.2.1 until " + strings.Repeat("9", 1<<20): "invalid until",
	} {
		if _, err := parseChange(asked(line), today); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.80s: error %.400v, want %s", line, err, want)
		}
	}
}

// The answer says what a change does not do: a smaller network wins over a larger one (B118).
func TestNotes(t *testing.T) {
	file := "drain 192.0.2.0/24\ndown 192.0.2.7 192.0.2.128/25\nup 192.0.2.8 until 2020-01-01T00:00:00Z\n"
	for change, want := range map[string]string{
		"release 192.0.2.1":                  "192.0.2.1 is still drained, by line 1 about 192.0.2.0/24",
		"release 192.0.2.7":                  "192.0.2.7 is still drained, by line 1 about 192.0.2.0/24",
		"release 192.0.2.0/24":               "192.0.2.7 is still forced down, by line 1|192.0.2.128/25 is still forced down, by line 1",
		"up 192.0.2.0/24":                    "192.0.2.7 stays forced down, by line 1: the smaller network wins|192.0.2.128/25 stays forced down, by line 1: the smaller network wins",
		"down 192.0.2.0/24":                  "",
		"drain 192.0.2.9":                    "",
		"release 198.51.100.0/24":            "",
		"drain 2001:db8::/32 198.51.100.0/8": "",
	} {
		x, err := parseChange(asked(strings.Replace(change, "198.51.100.0/8", "198.0.0.0/8", 1)), today)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(notesOf(linesOf(edit([]byte(file), x), today), x), "|"); got != want {
			t.Errorf("%s: %q, want %q", change, got, want)
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "down 192.0.2.%d\n", i)
	}
	x, err := parseChange(asked("up 192.0.2.0/24"), today)
	if notes := notesOf(linesOf(edit([]byte(many.String()), x), today), x); err != nil || len(notes) != maxNotes+1 || notes[maxNotes] != "and more" {
		t.Errorf("%d notes: %q, %v", len(notes), notes, err)
	}
}

// After any changes of any file that can be read, it can be read, foreign words are there, in their order, and each change is what
// the file says of its networks (B118).
func FuzzEdit(f *testing.F) {
	f.Add("down 192.0.2.7 # disk\r\n\r\ndrain 192.0.2.0/24 192.0.2.1", "drain 192.0.2.1 # a\nrelease 192.0.2.0/24\nup 2001:db8::1 until +2h")
	f.Add("# a", "down 0.0.0.0/0\nup 192.0.2.1 # b # c")
	f.Add("up 10.0.0.1 until 2020-01-01T00:00:00Z\ndown 10.0.0.1\u00a0", "release 10.0.0.1")
	f.Fuzz(func(t *testing.T, file, changes string) {
		content := []byte(file)
		if _, err := Parse(content); err != nil || len(file) > 4096 {
			return
		}
		for line := range strings.Lines(changes) {
			if len(strings.Fields(strings.SplitN(line, "#", 2)[0])) == 0 || strings.HasSuffix(strings.TrimSpace(strings.SplitN(line, "#", 2)[0]), "until") {
				continue
			}
			x, err := parseChange(asked(line), time.Now())
			if err != nil {
				continue
			}
			before := content
			content = edit(before, x)
			o, err := Parse(content)
			if err != nil {
				t.Fatalf("%q made of %q is refused: %v", content, before, err)
			}
			for _, p := range x.networks {
				if got := stateOf(o, p); got != x.State {
					t.Errorf("%q: %s is forced %q", content, p, got)
				}
			}
			want, got := foreign(before, x.networks), foreign(content, x.networks)
			if x.State != None { // the last line is that of the change
				got = got[:max(0, len(got)-len(foreign([]byte(x.line()), x.networks)))]
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q after %q: foreign words %q, want %q", content, line, got, want)
			}
		}
	})
}

// stateOf is what a file says of exactly this network.
func stateOf(o *States, p netip.Prefix) State {
	tables := o.six
	if p.Addr().Is4() {
		tables = o.four
	}
	for _, t := range tables {
		if t.bits == p.Bits() {
			return t.states[p.Addr()].State
		}
	}
	return None
}

// foreign lists the words of the lines that do not belong to these networks alone, and lines that are nothing but comments.
func foreign(content []byte, networks []netip.Prefix) (words []string) {
	for line := range bytes.Lines(content) {
		rule, comment, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte("#"))
		all := strings.Fields(string(rule))
		others := slices.DeleteFunc(slices.Clone(all), func(word string) bool {
			p, err := netip.ParsePrefix(word)
			if a, e := netip.ParseAddr(word); e == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			return err == nil && slices.Contains(networks, p)
		})
		if i := slices.Index(others, "until"); len(all) > 0 && (len(others) == 1 || i == 1) {
			continue
		}
		words = append(append(words, others...), string(comment))
	}
	return words
}
