package check

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzAgent lets an agent say anything. The result does not depend on packets, on the case of letters, or on what separates
// words; a weight is at most 100; and what is shown is fit for a log and has nothing of the agent's if that may be a secret.
func FuzzAgent(f *testing.F) {
	for _, seed := range []string{"", "\n", "up\r\n", "75% ready #fine\n", "down,fail\tstopped # \x1b[1m\n", "maxconn:3 101% 5a% DRAIN\n", "maint", strings.Repeat("9", 5000) + "%\n", "\xff\x00 up\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := dialogue{conn: half{bytes.NewReader(data), io.Discard}, left: agentLimit}
		bytewise := dialogue{conn: half{iotest.OneByteReader(bytes.NewReader(data)), io.Discard}, left: agentLimit}
		line, err := whole.firstLine()
		if again, other := bytewise.firstLine(); again != line || (err == nil) != (other == nil) {
			t.Fatalf("%q, %v, and byte by byte %q, %v", line, err, again, other)
		}
		if err != nil {
			decent(t, err.Error())
			return
		}
		r := parseAgentLine(line, true)
		if r.Weight > 100 || !r.Decides || !slices.Contains([]string{"", "up", "down", "fail", "stopped"}, r.Health) || !slices.Contains([]string{"", "ready", "drain", "maint"}, r.Admin) {
			t.Errorf("%q: %+v", line, r)
		}
		for _, shown := range []string{r.Reason, r.Odd} {
			if shown != "" {
				decent(t, shown)
			}
		}
		for _, same := range []string{swapCase(line), strings.ReplaceAll(line, " ", ",\t")} {
			if other := parseAgentLine(same, true); other.HasWeight != r.HasWeight || other.Weight != r.Weight || other.Health != r.Health || other.Admin != r.Admin {
				t.Errorf("%q: %+v, and %q: %+v", line, r, same, other)
			}
		}
		hidden := parseAgentLine(line, false)
		if hidden.Reason != "" || strings.Contains(hidden.Odd, `"`) || hidden.Health != r.Health || hidden.Admin != r.Admin || hidden.Weight != r.Weight {
			t.Errorf("%q, not to be quoted: %+v", line, hidden)
		}
	})
}

// swapCase swaps the case of ASCII letters: what others become may be longer, or a letter of ASCII.
func swapCase(text string) string {
	all := []byte(text)
	for i, b := range all {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
			all[i] = b ^ 0x20
		}
	}
	return string(all)
}
