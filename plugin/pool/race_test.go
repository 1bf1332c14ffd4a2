//go:build race

package pool

// raced is whether the race detector is on: tests with hundreds of thousands of targets use fewer then, because it makes
// them ten times as slow.
const raced = true
