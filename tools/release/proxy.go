package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// proxy makes a directory that the go command takes for a module proxy (https://go.dev/ref/mod#goproxy-protocol) with the one
// version of the module: GOPROXY=file:///DIR. So the module can be built into a CoreDNS before it is published, and what is
// published later must have the same checksum.
func (s *source) proxy(dir string) error {
	version := "v" + s.version
	at := filepath.Join(dir, filepath.FromSlash(modulePath), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	// As it is in the checkout, which has no changes.
	mod, err := os.ReadFile(s.file("go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, s.time})
	if err != nil {
		return err
	}
	// These names are those of the protocol. The version has a v there.
	for name, text := range map[string][]byte{"list": []byte(version + "\n"), version + ".mod": mod, version + ".info": append(info, '\n')} {
		if err := os.WriteFile(filepath.Join(at, name), text, 0o644); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	// The checksum of this file is what go.sum of users will have.
	//
	// What is committed, without nested modules such as this one, as the go command would make it of a published tag.
	return errors.Join(zip.CreateFromVCS(f, module.Version{Path: modulePath, Version: version}, s.root, "HEAD", ""), f.Close())
}

// sums writes the checksums of all files, as sha256sum reads them: 64 digits, two spaces, and the path below the directory. They are
// sorted by path.
func sums(dir string) error {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		lines = append(lines, fmt.Sprintf("%s  %s\n", hex.EncodeToString(sum[:]), filepath.ToSlash(name)))
		return nil
	})
	if err != nil {
		return err
	}
	// The order of a directory is that of its file system, and paths begin after the digits and two spaces.
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644)
}
