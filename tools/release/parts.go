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

// parts writes which modules are in the programs of the archive, by what the linker has written into them, as a list of parts (SBOM) in the format of
// CycloneDX 1.6. Scanners for known faults read it. Licences are not in it: the archive has their texts.
//
// It has the time of the commit, and no serial number, which would be another one each time.
func (p *program) parts(to string) error {
	list, err := p.partsOf(p.path)
	if err != nil {
		return err
	}
	tool, err := p.partsOf(p.controllerPath())
	if err != nil {
		return err
	}
	addParts(list, tool)
	list.Metadata.Timestamp = p.time.Format(time.RFC3339)
	f, err := os.OpenFile(filepath.Join(to, p.label()+".cdx.json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(list), f.Close())
}

// partsOf is the list of one program.
func (p *program) partsOf(path string) (*cdx.BOM, error) {
	g, err := bin.NewGenerator(path, bin.WithIncludeStdlib(true), bin.WithVersionOverride("v"+p.version), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return nil, err
	}
	return g.Generate()
}

// addParts adds the modules of another program to a list, each once: both are built from the same go.mod, so their versions are the
// same ones.
func addParts(list, more *cdx.BOM) {
	known := make(map[string]bool)
	for _, c := range *list.Components {
		known[c.BOMRef] = true
	}
	for _, c := range *more.Components {
		if !known[c.BOMRef] {
			*list.Components = append(*list.Components, c)
		}
	}
}
