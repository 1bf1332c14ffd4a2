package corefile

import (
	"fmt"
	"strings"
	"testing"
)

// parsed parses a stanza of these lines, of which the first is line 3 of the Corefile.
func parsed(lines string) (*Config, error) {
	all, err := parseCorefile("example.org {\n multivalue {\n" + lines + "\n }\n}")
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Silence of an agent is a failure only where no check of another kind is beside it, and a stanza knows whether its checks
// report weights (B100, B101).
func TestAgentsInAStanza(t *testing.T) {
	for _, tc := range []struct{ lines, checks, draws string }{
		{"check agent://:9777", "agent://:9777 alone", "reported weights"},
		{"check agent://:9777\ncheck agent://:9778 send a", "agent://:9777 alone, agent://:9778 send … alone", "reported weights"},
		{"check agent://:9777\ncheck tcp://:80", "agent://:9777, tcp://:80", "reported weights"},
		{"check tcp://:80\nrequire any\ncheck agent://:9777", "tcp://:80, agent://:9777 alone", "reported weights"}, // it could keep the dead in
		{"check tcp://:80\ncheck tcp://:81\nrequire 2\ncheck agent://:9777", "tcp://:80, tcp://:81, agent://:9777", "reported weights"},
		{"check tcp://:80\nrequire 2\ncheck agent://:1\ncheck agent://:2", "tcp://:80, agent://:1 alone, agent://:2 alone", "reported weights"},
		{"check http://:80 weight_header x-weight", "http://:80/ weight_header X-Weight", "reported weights"},
		{"check https://h weight_header X-Weight\nweight 3 10.0.0.0/8", "https://h/ weight_header X-Weight", "weight, reported weights"},
		{"check http://:80", "http://:80/", ""},
	} {
		c, err := parsed(tc.lines)
		if err != nil {
			t.Errorf("%s: %v", tc.lines, err)
			continue
		}
		var checks []string
		for _, x := range c.Checks {
			checks = append(checks, x.String())
		}
		if got := strings.Join(checks, ", "); got != tc.checks {
			t.Errorf("%s: checks %s, want %s", tc.lines, got, tc.checks)
		}
		if got := strings.Join(c.Policy.DrawnBy(), ", "); got != tc.draws {
			t.Errorf("%s: drawn by %q, want %q", tc.lines, got, tc.draws)
		}
	}
	for lines, want := range map[string]string{
		"check agent://:9777\ncheck agent://:9777": "duplicate check agent://:9777 in this stanza",
		"check agent://":                                 "Corefile:3 - Error during parsing: check: agent needs a port, that of the agent and not of the service",
		"check agent://:1 {\ninvert\n}":                  "Corefile:4 - Error during parsing: check: option invert is for ",
		"check agent://:1 {\nsend a\nsend b\n}":          "Corefile:4 - Error during parsing: check: option send: an agent reads one text: keep one",
		"check http://:80 {\ninvert\nweight_header X\n}": "Corefile:5 - Error during parsing: check: option weight_header: cannot be used together with invert: remove one of the two",
	} {
		if _, err := parsed(lines); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %s", lines, err, want)
		}
	}
}
