package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceFile matches the names of files that a licence asks to be passed on: the licence itself, and a notice if there is one
// (section 4 of Apache-2.0). Both spellings are in use, and so are suffixes such as .md, .txt or -MIT.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents|unlicense)([.-].*)?$`)

// licences are the licences of everything that is in the program, in one text, by module. A module without any is an error:
// a program must not be passed on without them.
func (p *program) licences() ([]byte, error) {
	list, err := outputWith(p.root, p.environment(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}} {{.Dir}}{{end}}", p.main, "./cmd/"+controller)
	if err != nil {
		return nil, err
	}
	// Many packages have the same module, and the order of the list is that of imports.
	lines := slices.Sorted(strings.SplitSeq(list, "\n"))
	// The standard library and the runtime are in each program, and no module has them.
	goroot, err := outputWith(p.root, p.environment(), "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	version, err := outputWith(p.root, p.environment(), "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "This program has parts of the modules below, each under its own licence.\n")
	if err := addLicences(&text, "Go "+strings.TrimPrefix(version, "go"), goroot); err != nil {
		return nil, err
	}
	for _, line := range slices.Compact(lines) {
		words := strings.SplitN(line, " ", 3) // path, version, directory, which may have spaces
		if line == "" || words[0] == modulePath {
			continue
		}
		if err := addLicences(&text, words[0]+" "+words[1], words[2]); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// addLicences adds the licences in a directory, which is that of a module: a licence holds for what is below it. They are text,
// and Go files with such a name, as some modules have, are not.
func addLicences(text *bytes.Buffer, module, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		licence, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(text, "\n==== %s: %s\n\n%s\n", module, e.Name(), bytes.TrimSpace(licence))
	}
	// Nothing can be passed on without a licence, so this stops the release. If it is elsewhere in the module, this program has to
	// learn where.
	if !found {
		return fmt.Errorf("%s has no licence in its directory", module)
	}
	return nil
}
