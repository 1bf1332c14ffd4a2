// Package namespaces runs a test again in namespaces of its own, in which it may have a network, mounts and processes that are
// not shared with any other process.
package namespaces

import "os"

// variable, in the environment, says that the test runs in namespaces of its own.
const variable = "MULTIVALUE_TEST_INSIDE"

// Inside reports whether this process was started by Rerun.
func Inside() bool { return os.Getenv(variable) != "" }
