package main

import (
	"fmt"
	"path/filepath"
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

// edition is one of the programs that are released.
type edition struct {
	name  string // of its files
	main  string // its package
	linux bool   // for Linux alone, which is where images run
}

// editions are all of them. The first is the one that packages install.
var editions = []edition{
	{name: "coredns-multivalue", main: "./cmd/coredns"},
	{name: "coredns-multivalue-cluster", main: "./cmd/coredns-cluster", linux: true},
}

// program is an edition for one target.
type program struct {
	*source
	edition
	target target
	path   string
}

// programs are the editions for a target, to be built below a directory.
func (s *source) programs(t target, dir string) (all []*program) {
	for _, e := range editions {
		if !e.linux || t.os == "linux" {
			all = append(all, &program{s, e, t, filepath.Join(dir, e.name, strings.ReplaceAll(t.String(), "/", "-"), t.program())})
		}
	}
	return all
}

// label is how the program's files begin.
func (p *program) label() string {
	return fmt.Sprintf("%s_%s_%s_%s", p.name, p.version, p.target.os, p.target.arch)
}

// environment is that of all Go commands about the target. There is no cgo, so the program needs no library of the system.
func (p *program) environment() []string {
	return append(slices.Clone(defaults), "GOOS="+p.target.os, "GOARCH="+p.target.arch)
}

// defaults are what Go would do without settings of the machine or the user. Each is set, because these could change the program:
// one for newer processors would not start on older ones. ARM is version 7, with floating point, as in Debian's armhf.
var defaults = []string{
	"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off",
	"GOAMD64=v1", "GOARM=7", "GOARM64=v8.0", "GOPPC64=power8", "GORISCV64=rva20u64",
}

// controller is the program by which people look at CoreDNS and drain addresses. It is in every archive, package and image, since
// an image has no other one that could ask over the socket.
const controller = "mvctl"

// controllerPath is where it is built, and so its name in an archive.
func (p *program) controllerPath() string {
	name := controller
	if p.target.os == "windows" {
		name += ".exe"
	}
	return filepath.Join(filepath.Dir(p.path), name)
}

// build makes the program, and the controller beside it. Neither the path of the checkout nor its version control enter, so two checkouts give the same. It has
// no symbol table and no debugging information, which make up a quarter of it; stack traces still name functions and lines.
func (p *program) build() error {
	for path, main := range map[string]string{p.path: p.main, p.controllerPath(): "./cmd/" + controller} {
		if _, err := outputWith(p.root, p.environment(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", path, main); err != nil {
			return err
		}
	}
	return nil
}
