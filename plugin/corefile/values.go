package corefile

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/check"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/durations"
)

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
	return text.Suggest(option, known)
}

// parseDuration reads a duration such as 10s or 500ms, from low to high. A number alone is in seconds, as elsewhere in
// CoreDNS.
func parseDuration(text string, low, high time.Duration) (time.Duration, error) {
	d, err := durations.NewDurationFromArg(text)
	if err != nil {
		return 0, fmt.Errorf("invalid duration %q: use a number with a unit, such as 10s or 500ms", text)
	}
	if d < low || d > high {
		return 0, fmt.Errorf("invalid duration %s: use one from %s to %s", text, low, high)
	}
	return d, nil
}

// parseCount reads a number from 1 to high into a variable. what names it in the error.
func parseCount(c *caddy.Controller, what, text string, high int, into *int) error {
	n, err := strconv.Atoi(text) // not Sscan, which would take "3x" for 3
	if err != nil || n < 1 || n > high {
		return c.Errf("invalid %s %q: use a number from 1 to %d", what, text, high)
	}
	*into = n
	return nil
}
