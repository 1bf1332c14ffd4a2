package corefile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

// The block of status has the names by which clients ask for the page (B75).
func TestStatusHosts(t *testing.T) {
	parse := func(status string) (*Config, error) {
		c := caddy.NewTestController("dns", "multivalue {\ncheck tcp://:80\n"+status+"\nlimit 3\n}")
		c.ServerBlockKeys = []string{"example.org"}
		all, err := Parse(c)
		if err != nil {
			return nil, err
		}
		return all[0], nil
	}
	for status, want := range map[string]string{
		"status :9253 {\nhost dns1.example.org DNS2.example.org. ns_3 xn--bcher-kva.example\n}": ":9253 [dns1.example.org dns2.example.org ns_3 xn--bcher-kva.example]",
		"status {\nhost dns1\n}": "localhost:9253 [dns1]", "status {\n}": "localhost:9253 []", "status 127.0.0.1:1": "127.0.0.1:1 []",
	} {
		c, err := parse(status)
		if err != nil || c.Policy.Limit != 3 {
			t.Errorf("%s: %v", status, err)
			continue
		}
		if c.StatusBlock == nil {
			c.StatusBlock = new(StatusBlock)
		}
		if got := fmt.Sprint(c.Status, " ", c.StatusBlock.Hosts); got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
	for line, want := range map[string]string{
		"host":               "4 status: host takes at least 1 value, not 0",
		"host dns1:9253":     "4 status: invalid host \"dns1:9253\": use the name alone, without a port",
		"host http://dns1/":  "4 status: invalid host \"http://dns1/\": use the name alone, without a scheme and a path",
		"host *.example.org": "4 status: invalid host \"*.example.org\": name each host",
		"host 192.0.2.1":     "4 status: invalid host \"192.0.2.1\": use a name",
		"host [2001:db8::1]": "4 status: invalid host \"[2001:db8::1]\": use a name",
		"host a,b":           "4 status: invalid host \"a,b\": use a name such as dns1.example.org",
		`host ""`:            "4 status: invalid host \"\": use a name",
		"host a..b":          "4 status: invalid host \"a..b\": use a name",
		"host a A.":          "4 status: duplicate host a",
		"host a\nhost b":     "5 status: duplicate host, first on line 4",
		"hostname a":         "4 status: unknown property \"hostname\"",
		"host" + names(33):   "4 status: host has 33 names: use at most 32",
		"host a {\n}":        "status: unexpected { in its block",
		"limit 3":            "4 status: limit is a property of multivalue",
	} {
		place, want, ok := strings.Cut(want, " status: ")
		if !ok {
			place, want = "", place
		}
		if _, err := parse("status {\n" + line + "\n}"); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "status: ")) || place != "" && !strings.Contains(err.Error(), ":"+place+" - Error") {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
	if _, err := parse("status :9253\nhost a"); err == nil || !strings.Contains(err.Error(), "host is an option of check and a property of status") {
		t.Errorf("host outside: %v", err)
	}
	c, err := parse("status unix:/run/s {\nhost a\n}")
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Pages).Include(c, func(path string) string { return path }); err == nil || !strings.Contains(err.Error(), ":4 - Error during parsing: status: host has no effect on a socket") {
		t.Errorf("a socket: %v", err)
	}
}

// names is so many different names.
func names(n int) (text string) {
	for i := range n {
		text += fmt.Sprintf(" n%d", i)
	}
	return text
}
