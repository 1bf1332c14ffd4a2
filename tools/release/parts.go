package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
)

// parts writes which modules are in the program, by what the linker has written into it, as a list of parts (SBOM) in the format of
// CycloneDX 1.6. Scanners for known faults read it. Licences are not in it: the archive has their texts.
//
// It has the time of the commit, and no serial number, which would be another one each time.
func (p *program) parts(to string) error {
	g, err := bin.NewGenerator(p.path, bin.WithIncludeStdlib(true), bin.WithVersionOverride("v"+p.version), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return err
	}
	list, err := g.Generate()
	if err != nil {
		return err
	}
	list.Metadata.Timestamp = p.time.Format(time.RFC3339)
	f, err := os.OpenFile(filepath.Join(to, p.label()+".cdx.json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(list), f.Close())
}
