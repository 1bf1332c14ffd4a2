//go:build !linux

package wire

// Supported tells whether there is an implementation for this system.
const Supported = false

// Loop is not implemented here.
type Loop struct{}

// Held is a connection that is kept.
type Held struct{}

// Start returns [ErrUnsupported].
func Start(func([]Answer)) (*Loop, error) { return nil, ErrUnsupported }

// Ask does nothing.
func (*Loop) Ask([]Question) {}

// Release does nothing.
func (*Loop) Release(*Held) {}

// Close does nothing.
func (*Loop) Close() []Answer { return nil }
