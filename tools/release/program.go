package main

import (
	"fmt"
	"slices"
	"strings"
)

// target is a system that there is a program for, as Go names it.
type target struct{ os, arch string }

// targets are all of them: where CoreDNS runs, and where its own releases do, with FreeBSD and RISC-V in addition. The order is
// that of the table in docs/releasing.md.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"}, {"linux", "arm"}, {"linux", "riscv64"}, {"linux", "s390x"}, {"linux", "ppc64le"},
	{"darwin", "arm64"}, {"darwin", "amd64"}, {"windows", "amd64"}, {"freebsd", "amd64"},
}

func (t target) String() string { return t.os + "/" + t.arch }

// program is the name of the file in an archive: that of CoreDNS's own releases, so that it can take their place.
func (t target) program() string {
	if t.os == "windows" {
		return "coredns.exe"
	}
	return "coredns"
}

// choose returns the targets in a list such as linux/amd64,linux/arm64, or all if it is empty. The files of some targets do not
// depend on which others are made.
func choose(list string) ([]target, error) {
	if list == "" {
		return targets, nil
	}
	var chosen []target
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(targets, func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown target %q: use some of %v", name, targets)
		}
		chosen = append(chosen, targets[i])
	}
	return chosen, nil
}

// program is the complete build for one target.
type program struct {
	*source
	target target
	path   string
}

// environment is that of all Go commands about the target. There is no cgo, so the program needs no library of the system.
func (p *program) environment() []string {
	env := []string{"CGO_ENABLED=0", "GOOS=" + p.target.os, "GOARCH=" + p.target.arch, "GOFLAGS=-mod=readonly", "GOWORK=off"}
	if p.target.arch == "arm" { // version 7, with floating point, as in Debian's armhf
		env = append(env, "GOARM=7")
	}
	return env
}

// build makes the program. Neither the path of the checkout nor its version control enter, so two checkouts give the same. It has
// no symbol table and no debugging information, which make up a quarter of it; stack traces still name functions and lines.
func (p *program) build() error {
	_, err := outputWith(p.root, p.environment(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", p.path, "./cmd/coredns")
	return err
}
