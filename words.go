package multivalue

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/durations"
)

// times is a count with its noun.
func times(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}

// suggest asks whether the nearest of the known words was meant, or lists them if none is near.
func suggest(word string, known []string) string {
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ": want one of " + strings.Join(known, ", ")
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// suggestOption is suggest for an option of the URL's scheme, and nothing if it is one.
func suggestOption(url, option string) string {
	scheme, _, _ := strings.Cut(url, ":")
	known := check.Options(strings.ToLower(scheme))
	for _, k := range known {
		if k == option {
			return ""
		}
	}
	if _, elsewhere := check.Takes(option); elsewhere || len(known) == 0 {
		return ""
	}
	return suggest(option, known)
}

// editDistance is how many letters have to be put in, left out or changed to make b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// parseDuration reads a duration such as 10s or 500ms; a number alone is in seconds, as elsewhere in CoreDNS.
func parseDuration(text string, low, high time.Duration) (time.Duration, error) {
	d, err := durations.NewDurationFromArg(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: want one such as 10s or 500ms", text)
	}
	if d < low || d > high {
		return 0, fmt.Errorf("%s: want a duration from %s to %s", text, low, high)
	}
	return d, nil
}

// parseCount reads a count from 1 to high.
func parseCount(c *caddy.Controller, what, text string, high int, into *int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > high {
		return c.Errf("%s %q: want a count from 1 to %d", what, text, high)
	}
	*into = n
	return nil
}
