//go:build !linux

package check

import (
	"context"
	"errors"
	"net/netip"
)

// runnable refuses exec on systems where the server could not kill a program together with
// everything it started.
func runnable(string) error { return errors.New("exec works on Linux only") }

// newRunner is never reached, because runnable refuses the option.
func newRunner([]string) prober {
	return proberFunc(func(context.Context, netip.AddrPort) error { return ErrAbstain })
}
