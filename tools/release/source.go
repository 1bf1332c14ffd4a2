package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// modulePath is the path of the module that is released.
const modulePath = "github.com/coredns-multivalue/multivalue"

// source is the checkout that is released. Its version is the one constant in the plugin, which the program shows: a tag that
// says something else is a mistake.
type source struct {
	root    string    // absolute
	version string    // without a v, such as 0.1.0
	commit  string    // in full
	time    time.Time // of the commit, in UTC: all times in a release are this one
}

// versionLine is where the version is written, once, in multivalue.go. There are no versions such as 0.1.0-rc.1: package formats write them in
// their own ways.
var versionLine = regexp.MustCompile(`(?m)^const Version = "([0-9]+\.[0-9]+\.[0-9]+)"$`)

// readSource finds out what is released. Files that are not committed are refused: a clone would give
// another release.
func readSource(root string) (*source, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "multivalue.go"))
	if err != nil {
		return nil, err
	}
	m := versionLine.FindSubmatch(text)
	if m == nil {
		return nil, errors.New("multivalue.go has no line such as: const Version = \"0.1.0\"")
	}
	// This also lists new files, which the programs would have and a clone has not.
	changed, err := output(root, "git", "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return nil, err
	}
	if changed != "" {
		return nil, fmt.Errorf("the checkout has changes that are not committed:\n%s", changed)
	}
	last, err := output(root, "git", "log", "-1", "--format=%ct %H")
	if err != nil {
		return nil, err
	}
	seconds, commit, _ := strings.Cut(last, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, err
	}
	return &source{root: root, version: string(m[1]), commit: commit, time: time.Unix(unix, 0).UTC()}, nil
}

// file is the path of a file of the checkout.
func (s *source) file(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

// output runs a program in a directory, and returns what it prints, without the last line end. The error has what it printed
// as errors.
func output(dir, name string, args ...string) (string, error) {
	return outputWith(dir, nil, name, args...)
}

// outputWith does the same with more variables in the environment, as NAME=VALUE. They come last, so they win over those that
// the caller of this program has set.
func outputWith(dir string, env []string, name string, args ...string) (string, error) {
	// What the program prints as errors is shown only if it fails: the go command prints what it downloads there.
	cmd := exec.Command(name, args...)
	var failed bytes.Buffer
	cmd.Dir, cmd.Stderr, cmd.Env = dir, &failed, append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, failed.String())
	}
	return strings.TrimRight(string(out), "\n"), nil
}
