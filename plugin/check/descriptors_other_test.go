//go:build !unix

package check_test

// probeStarved is for systems with a limit of descriptors.
func probeStarved() {}
