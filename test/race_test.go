//go:build race

package test

// raced is whether the race detector is on, which makes reading a large file take seconds on a busy machine.
const raced = true
