package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// Each page in the tree is the one of its manual. It has to be made again when the manual changes.
func TestFresh(t *testing.T) {
	for _, b := range books {
		want, err := b.page(root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "man", b.file))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("man/%s is not that of %s, run: go -C tools/release run ./man (%v)", b.file, b.manual, err)
		}
	}
}

// man shows each page without a warning, whatever the width of the terminal, and shows all of it: each section and each term of a table
// of the manual. whatis finds its name and what it is for.
func TestShown(t *testing.T) {
	for _, name := range []string{"man", "lexgrog"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("no ", name)
			}
			t.Skip("no ", name)
		}
	}
	for file, want := range map[string]struct {
		parts int
		line  string
	}{
		"coredns-multivalue.7": {60, `"coredns-multivalue - answers with healthy addresses only."`},
		"mvctl.1":              {20, `"mvctl - shows and changes what a CoreDNS with multivalue answers."`},
	} {
		i := slices.IndexFunc(books, func(b book) bool { return b.file == file })
		if i < 0 {
			t.Fatalf("no page %s", file)
		}
		shown(t, books[i], want.parts, want.line)
	}
}

// shown has man show a page, and looks for so many parts of its manual, and for the line of whatis.
func shown(t *testing.T, b book, least int, want string) {
	t.Helper()
	path := filepath.Join(root, "man", b.file)
	var wide string
	for _, width := range []string{"80", "132", "2000"} {
		cmd := exec.Command("man", "--warnings", "--no-hyphenation", "--no-justification", "-l", path)
		var out, warnings bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &warnings
		cmd.Env = append(os.Environ(), "MANWIDTH="+width, "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("%s columns: %v\n%s", width, err, warnings.String())
		}
		wide = out.String()
	}
	manual, err := os.ReadFile(filepath.Join(root, b.manual))
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile("(?m)^##+ (.+)$|^\\| `([a-z_]+)").FindAllStringSubmatch(string(manual), -1)
	if len(parts) < least {
		t.Errorf("%s: only %d parts", b.file, len(parts))
	}
	folded := strings.ToLower(wide)
	for _, m := range parts {
		if part := strings.ToLower(m[1] + m[2]); !strings.Contains(folded, part) {
			t.Errorf("%s lacks %q", b.file, part)
		}
	}
	for _, wrong := range []string{"](", "| --- |", "`"} {
		if strings.Contains(wide, wrong) {
			t.Errorf("the page has %q, which is Markdown", wrong)
		}
	}
	line, err := exec.Command("lexgrog", path).CombinedOutput()
	if err != nil || !strings.Contains(string(line), want) {
		t.Errorf("%v: %s, want %s", err, line, want)
	}
}
