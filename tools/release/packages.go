package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

// packages makes a Debian and an RPM package for Linux. What is installed does not run: port 53 is often taken.
func (p *program) packages(to, work string) error {
	// No other target has a package manager that takes these formats, and what a cluster runs is an image.
	if p.target.os != "linux" || p.edition != editions[0] {
		return nil
	}
	licences, err := p.licences()
	if err != nil {
		return err
	}
	// The packager reads files, and this one differs from target to target.
	extra := filepath.Join(work, "third-party-licences.txt")
	if err := os.WriteFile(extra, licences, 0o644); err != nil {
		return err
	}
	if err := p.completions(work); err != nil {
		return err
	}
	for suffix, packager := range map[string]nfpm.Packager{"deb": deb.Default, "rpm": rpm.DefaultRPM} {
		if err := p.pack(to, work, suffix, packager, extra); err != nil {
			return fmt.Errorf("%s for %s: %w", suffix, p.target, err)
		}
	}
	return nil
}

// pack makes one package. Its scripts make the user, and tell systemd about the unit. An edited Corefile stays over an upgrade.
//
// The program has another name there than in an archive: Debian and others may have a package coredns with a file of that name.
func (p *program) pack(to, work, suffix string, packager nfpm.Packager, extra string) error {
	const doc = "/usr/share/doc/coredns-multivalue/"
	arch := p.target.arch
	if arch == "arm" {
		arch = "arm7" // which each format writes in its own way
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "coredns-multivalue", Arch: arch, Platform: "linux", Version: p.version, Release: "1", Section: "net", Priority: "optional",
		Maintainer:  "The multivalue authors <https://" + modulePath + ">",
		Description: "CoreDNS that answers with healthy addresses only\n This is CoreDNS with all of its plugins and with multivalue, which probes the\n addresses in answers and leaves out those that are down.",
		Homepage:    "https://" + modulePath, License: "Apache-2.0", MTime: p.time, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: append(completionEntries(work), files.Contents{
				// systemd-sysusers reads what makes the user, also where there is no shell to run a script.
				entry("", "/etc/coredns-multivalue", files.TypeDir, 0o755), // rpm removes what is named
				entry("", "/usr/share/doc/coredns-multivalue", files.TypeDir, 0o755),
				entry(p.path, "/usr/bin/coredns-multivalue", files.TypeFile, 0o755),
				entry(p.controllerPath(), "/usr/bin/mvctl", files.TypeFile, 0o755),
				entry(p.file("deploy/linux/Corefile"), "/etc/coredns-multivalue/Corefile", files.TypeConfigNoReplace, 0o644),
				entry(p.file("deploy/linux/coredns-multivalue.service"), "/usr/lib/systemd/system/coredns-multivalue.service", files.TypeFile, 0o644),
				entry(p.file("deploy/linux/sysusers.conf"), "/usr/lib/sysusers.d/coredns-multivalue.conf", files.TypeFile, 0o644),
				entry(p.file("LICENSE"), doc+"copyright", files.TypeFile, 0o644),
				entry(p.file("NOTICE"), doc+"NOTICE", files.TypeFile, 0o644),
				entry(p.file(manPage), "/usr/share/man/man7/coredns-multivalue.7", files.TypeFile, 0o644),
				entry(p.file(controllerPage), "/usr/share/man/man1/mvctl.1", files.TypeFile, 0o644),
				entry(extra, doc+"third-party-licences.txt", files.TypeFile, 0o644),
			}...),
			Scripts: nfpm.Scripts{PostInstall: p.file("deploy/linux/postinstall.sh"), PreRemove: p.file("deploy/linux/preremove.sh"), PostRemove: p.file("deploy/linux/postremove.sh")},
			// Without a name for the host, that of the machine would enter.
			RPM: nfpm.RPM{BuildHost: "localhost", Summary: "CoreDNS that answers with healthy addresses only", Packager: "The multivalue authors"},
		},
	})
	if err := nfpm.PrepareForPackager(info, suffix); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(to, packager.ConventionalFileName(info)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(packager.Package(info, f), f.Close())
}

// entry is a file of a package. It belongs to root, and not to the user who makes the release.
func entry(from, to, kind string, mode os.FileMode) *files.Content {
	return &files.Content{Source: from, Destination: to, Type: kind, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode}}
}

// shells are where each shell looks for a completion of mvctl.
var shells = map[string]string{
	"bash": "/usr/share/bash-completion/completions/mvctl",
	"fish": "/usr/share/fish/vendor_completions.d/mvctl.fish",
	"zsh":  "/usr/share/zsh/vendor-completions/_mvctl",
}

// completions writes the completions of mvctl. They are the same for all targets, so the one of this machine can tell them.
func (p *program) completions(work string) error {
	for shell := range shells {
		text, err := outputWith(p.root, defaults, "go", "run", "./cmd/"+controller, "completion", shell)
		if err == nil {
			err = os.WriteFile(completionFile(work, shell), []byte(text+"\n"), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// completionFile is where a completion is before it is packed.
func completionFile(work, shell string) string { return filepath.Join(work, "completion."+shell) }

// completionEntries are the completions as files of a package, in the order of their paths.
func completionEntries(work string) (all files.Contents) {
	for _, shell := range slices.Sorted(maps.Keys(shells)) {
		all = append(all, entry(completionFile(work, shell), shells[shell], files.TypeFile, 0o644))
	}
	return all
}
