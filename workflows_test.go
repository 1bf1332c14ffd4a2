package multivalue

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The workflows run nothing but what a commit names, have no right that is not written down for a job, and leave no credentials in a
// checkout. actionlint, which .ci/run calls, checks the rest.
func TestWorkflows(t *testing.T) {
	all, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(all) < 4 {
		t.Fatalf("%v, %v", all, err)
	}
	uses := regexp.MustCompile(`(?m)uses: (.*)$`)
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z/-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$`)
	for _, path := range all {
		text := read(t, path)
		if !strings.Contains(text, "\npermissions: {}\n") {
			t.Errorf("%s gives its jobs rights that they do not name", path)
		}
		if strings.Count(text, "actions/checkout@") != strings.Count(text, "persist-credentials: false") {
			t.Errorf("%s leaves credentials in a checkout", path)
		}
		if strings.Count(text, "runs-on:") != strings.Count(text, "timeout-minutes:") {
			t.Errorf("%s has a job without a timeout", path)
		}
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned to a commit, with its version in a comment", path, m[1])
			}
		}
	}
}
