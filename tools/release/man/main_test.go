package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// The page in the tree is the one of the manual. It has to be made again when the manual changes.
func TestFresh(t *testing.T) {
	want, err := page(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "man", "coredns-multivalue.7"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the page is not that of the manual, run: go -C tools/release run ./man (%v)", err)
	}
}

// man shows the page without a warning, whatever the width of the terminal, and shows all of it: each section and each term of a table
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
	path := filepath.Join(root, "man", "coredns-multivalue.7")
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
	manual, err := os.ReadFile(filepath.Join(root, "docs", "manual.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile("(?m)^##+ (.+)$|^\\| `([a-z_]+)").FindAllStringSubmatch(string(manual), -1)
	if len(parts) < 60 {
		t.Errorf("only %d parts", len(parts))
	}
	folded := strings.ToLower(wide)
	for _, m := range parts {
		if part := strings.ToLower(m[1] + m[2]); !strings.Contains(folded, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	for _, wrong := range []string{"](", "| --- |", "`"} {
		if strings.Contains(wide, wrong) {
			t.Errorf("the page has %q, which is Markdown", wrong)
		}
	}
	line, err := exec.Command("lexgrog", path).CombinedOutput()
	if want := `"coredns-multivalue - answers with healthy addresses only."`; err != nil || !strings.Contains(string(line), want) {
		t.Errorf("%v: %s, want %s", err, line, want)
	}
}
