// Command release makes all files of a release from a clean checkout: programs for every system, archives, lists of their parts,
// Debian and RPM packages, container images, a Go module proxy of the module, and their checksums.
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
	linux := make(map[edition][]string) // the paths of programs for images
	for _, t := range chosen {
		for _, p := range s.programs(t, work) {
			log.Print(p.label())
			if err := p.make(dir, work); err != nil {
				return err
			}
			if t.os == "linux" {
				linux[p.edition] = append(linux[p.edition], p.path)
			}
		}
	}
	for _, e := range editions {
		if len(linux[e]) > 0 {
			log.Printf("%s_%s_image", e.name, s.version)
			if err := s.image(dir, e, linux[e]); err != nil {
				return err
			}
		}
	}
	// The module is the same for all targets.
	if err := s.proxy(filepath.Join(dir, "goproxy")); err != nil {
		return err
	}
	return sums(dir) // last, because it lists what is there
}

// make builds the program, and makes what there is of it alone. What is needed on the way is in the directory work.
func (p *program) make(dir, work string) error {
	if err := p.build(); err != nil {
		return err
	}
	if err := p.archive(dir); err != nil {
		return err
	}
	if err := p.parts(dir); err != nil {
		return err
	}
	return p.packages(dir, work)
}
