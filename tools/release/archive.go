package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
)

// manPage is the manual as a page for man, which tools/release/man makes, and controllerPage that of mvctl.
const (
	manPage        = "man/coredns-multivalue.7"
	controllerPage = "man/mvctl.1"
)

// member is a file of an archive. Its owner is not written, and its time is that of the commit.
type member struct {
	name string
	mode int64
	data []byte
}

// members are the files of an archive, in the directory that it unpacks to. Everyone who passes the program on has to pass on the
// licences too, so they are in each archive.
func (p *program) members(dir string) ([]member, error) {
	binary, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	tool, err := os.ReadFile(p.controllerPath())
	if err != nil {
		return nil, err
	}
	licences, err := p.licences()
	if err != nil {
		return nil, err
	}
	// The program comes first, since it is what a reader of the list looks for.
	all := []member{{dir + "/" + p.target.program(), 0o755, binary}, {dir + "/" + filepath.Base(p.controllerPath()), 0o755, tool}}
	for _, name := range []string{"LICENSE", "NOTICE", "CHANGELOG.md", manPage, controllerPage} {
		text, err := os.ReadFile(p.file(name))
		if err != nil {
			return nil, err
		}
		all = append(all, member{dir + "/" + path.Base(name), 0o644, text})
	}
	return append(all, member{dir + "/third-party-licences.txt", 0o644, licences}), nil
}

// archive makes the archive of the program: a zip file for Windows, and a compressed tar file for other systems.
func (p *program) archive(to string) error {
	members, err := p.members(p.label())
	if err != nil {
		return err
	}
	// Windows unpacks zip files without another program.
	pack, suffix := p.tarball, ".tar.gz"
	if p.target.os == "windows" {
		pack, suffix = p.zip, ".zip"
	}
	// A file that exists would be of another target with the same name, which is a mistake in the table.
	f, err := os.OpenFile(filepath.Join(to, p.label()+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(pack(f, members), f.Close())
}

// tarball writes a compressed tar file. The header of gzip has no name and no time, so that it is the same each time.
func (p *program) tarball(w io.Writer, members []member) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.data)), ModTime: p.time, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(m.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// zip writes a zip file, in which times have a resolution of two seconds.
func (p *program) zip(w io.Writer, members []member) error {
	z := zip.NewWriter(w)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate, Modified: p.time}
		h.SetMode(os.FileMode(m.mode))
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(m.data); err != nil {
			return err
		}
	}
	return z.Close()
}
