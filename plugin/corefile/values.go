package corefile

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/durations"
)

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

// parseShare reads a share from 1% to 100% into a variable, as a number. what names it in the error.
func parseShare(c *caddy.Controller, what, text string, into *int) error {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 1 || n > 100 {
		return c.Errf("invalid %s %q: use a share from 1%% to 100%%", what, text)
	}
	*into = n
	return nil
}
