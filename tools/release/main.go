// Command release makes all files of a release from a clean checkout: programs for every system, archives, Debian and RPM
// packages, a Go module proxy of the module, and their checksums.
//
// Run it from the checkout that is released:
//
//	go -C tools/release run . -o ../../dist
//
// docs/releasing.md says what is made, what it is for, and what else belongs to a release. The directory must not exist: what is
// in it is listed in SHA256SUMS, and files of another release would get among them.
//
// It needs no root, and no network once the modules are fetched. The same commit gives the same bytes: times are those of
// the commit, and nothing of the machine enters.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "dist", "directory to make, which must not exist")
	only := flag.String("targets", "", "make these targets only, such as linux/amd64,linux/arm64")
	root := flag.String("root", "../..", "the checkout")
	flag.Parse()
	if err := release(*root, *out, *only); err != nil {
		log.Fatalf("release: %v", err)
	}
}

// release makes the directory. It is made under another name and renamed when it is complete, so that no one takes a part of
// a release for all of it.
func release(root, out, only string) error {
	// What can be refused at once is, before minutes of building.
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s exists: remove it, or name another directory with -o", out)
	}
	s, err := readSource(root)
	if err != nil {
		return err
	}
	// In the same directory, since a rename does not cross file systems.
	part, err := os.MkdirTemp(filepath.Dir(out), ".release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)                      // has no effect after the rename
	if err := os.Chmod(part, 0o755); err != nil { // a temporary directory is for its owner alone
		return err
	}
	if err := s.makeAll(part, chosen); err != nil {
		return err
	}
	return os.Rename(part, out)
}

// makeAll makes all files of the release in a directory. What is needed on the way is in a directory of its own, so that nothing
// else gets a checksum. The targets come one after the other: each build uses all cores already.
func (s *source) makeAll(dir string, chosen []target) error {
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, t := range chosen {
		log.Printf("%s %s", s.version, t)
		p := &program{source: s, target: t, path: filepath.Join(work, strings.ReplaceAll(t.String(), "/", "-"), t.program())}
		if err := p.build(); err != nil {
			return err
		}
		if err := p.archive(dir); err != nil {
			return err
		}
		if err := p.packages(dir, work); err != nil {
			return err
		}
	}
	// The module is the same for all targets.
	if err := s.proxy(filepath.Join(dir, "goproxy")); err != nil {
		return err
	}
	return sums(dir) // last, because it lists what is there
}
