//go:build !linux

package check

import (
	"context"
	"errors"
	"net/netip"
)

// runnable refuses exec where a program could not be ended with all that it has started.
func runnable(string) error { return errors.New("exec works on Linux only") }

func newRunner([]string) prober {
	return proberFunc(func(context.Context, netip.AddrPort) error { return ErrAbstain })
}
