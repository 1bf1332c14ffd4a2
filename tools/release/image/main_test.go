package main

import (
	"strings"
	"testing"
)

// What is missing on the command line is an error that says what to name. Package oci has the tests of the rest.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "name one for each architecture"},
		{[]string{"-name", "it:1", "/no/such"}, "no such file"},
		{[]string{"-push"}, "0 archives given"},
		{[]string{"-push", "a", "b"}, "2 archives given"},
		{[]string{"-push", "-name", "it:1", "a.tar"}, "has no registry"},
		{[]string{"-sbom"}, "not defined"},
	} {
		if err := run(c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
