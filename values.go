package multivalue

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
