//go:build !linux

package wire

import "net"

// Supported reports whether [Start] works on this system.
const Supported = false

// Loop replaces the one of Linux. [Start] never returns one, so its methods are never called.
type Loop struct{}

// Held replaces a held connection, of which there are none.
type Held struct{}

// Start returns [ErrUnsupported].
func Start(func([]Answer)) (*Loop, error) { return nil, ErrUnsupported }

// Ask does nothing.
func (*Loop) Ask([]Question) {}

// Take returns [ErrUnsupported].
func Take(*net.TCPConn) (*Held, error) { return nil, ErrUnsupported }

// Discard does nothing.
func (*Held) Discard() {}

// Keep does nothing.
func (*Loop) Keep(*Held, any) {}

// Release does nothing.
func (*Loop) Release(*Held) {}

// Close does nothing.
func (*Loop) Close() []Answer { return nil }
