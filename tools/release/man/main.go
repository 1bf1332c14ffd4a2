// Command man makes the pages for man from the manuals. A test fails if a page is not that of its manual.
//
//	go -C tools/release run ./man
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() {
	log.SetFlags(0)
	root := flag.String("root", "../..", "the checkout")
	flag.Parse()
	for _, b := range books {
		text, err := b.page(*root)
		if err == nil {
			err = os.WriteFile(filepath.Join(*root, "man", b.file), text, 0o644)
		}
		if err != nil {
			log.Fatalf("man: %v", err)
		}
	}
}

// book is a manual that a page is made of. The title is the line that it begins with, and its place is taken by the head: name, section,
// date, source and book. There is no date, since the page is that of a version.
type book struct {
	file, manual string
	title, head  string
	name         string // as the manual writes it; whatis wants the page's name, in one word
}

// books are all of them.
var books = []book{
	{"coredns-multivalue.7", "docs/manual.md", "# multivalue\n", "# COREDNS-MULTIVALUE 7 \"\" \"multivalue %s\" \"CoreDNS plugins\"\n", "multivalue"},
	{"mvctl.1", "docs/mvctl.md", "# mvctl\n", "# MVCTL 1 \"\" \"multivalue %s\" \"User commands\"\n", "mvctl"},
}

// versionLine is where the version of the module is written.
var versionLine = regexp.MustCompile(`(?m)^const Version = "(.*)"$`)

// page returns the page of the manual in a checkout.
func (b *book) page(root string) ([]byte, error) {
	manual, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(b.manual)))
	if err != nil {
		return nil, err
	}
	source, err := os.ReadFile(filepath.Join(root, "multivalue.go"))
	if err != nil {
		return nil, err
	}
	version := versionLine.FindSubmatch(source)
	text, found := strings.CutPrefix(string(manual), b.title)
	if version == nil || !found {
		return nil, fmt.Errorf("%s does not begin with %q, or multivalue.go has no version", b.manual, b.title)
	}
	text = strings.Replace(text, "*"+b.name+"* - ", strings.TrimSuffix(b.file, filepath.Ext(b.file))+" - ", 1)
	text = fmt.Sprintf(b.head, version[1]) + headings(unlinked(tabled(text)))
	return flush(md2man.Render([]byte(text))), nil
}

// flush takes the spaces off that a line of text begins with. In Markdown they say what item of a list the line belongs to; troff
// would begin a new line there. What is shown as it is written lies between .EX and .EE.
func flush(troff []byte) []byte {
	var b bytes.Buffer
	shown := false
	for line := range bytes.Lines(troff) {
		switch {
		case bytes.Equal(line, []byte(".EX\n")):
			shown = true
		case bytes.Equal(line, []byte(".EE\n")):
			shown = false
		case !shown:
			line = bytes.TrimLeft(line, " ")
		}
		b.Write(line)
	}
	return b.Bytes()
}

// headings writes those of sections in capitals, as they are in pages for man.
func headings(text string) string {
	return regexp.MustCompile(`(?m)^## .*$`).ReplaceAllStringFunc(text, strings.ToUpper)
}

// link is a link of Markdown. Its text may be code, or go over the end of a line.
var link = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)

// unlinked replaces links by their texts: a reader of man cannot follow a path of this repository. Other addresses stay, after the
// text. A text in code has no links.
func unlinked(text string) string {
	return link.ReplaceAllStringFunc(text, func(l string) string {
		m := link.FindStringSubmatch(l)
		if strings.Contains(m[2], "://") && m[1] != m[2] {
			return m[1] + ", " + m[2]
		}
		return m[1]
	})
}

// tabled writes each table as a list of definitions, which fits a terminal of any width: the first cell is the term, and the others
// follow, each after the head of its column if there are several.
func tabled(text string) string {
	var b strings.Builder
	var heads []string
	rule := false // the line before was the rule below the heads
	for line := range strings.Lines(text) {
		cells, is := row(line)
		switch {
		case !is:
			heads = nil
			b.WriteString(line)
			continue
		case heads == nil:
			heads, rule = cells, true
			continue
		case rule:
			rule = false
			continue
		}
		fmt.Fprintf(&b, "%s\n", cells[0])
		var rest []string
		for i, c := range cells[1:] {
			if c == "" {
				continue
			}
			if len(cells) > 2 {
				c = heads[i+1] + " " + c
			}
			rest = append(rest, c)
		}
		fmt.Fprintf(&b, ": %s\n\n", strings.Join(rest, "; "))
	}
	return b.String()
}

// row splits a line of a table.
func row(line string) (cells []string, is bool) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "| ") || !strings.HasSuffix(line, "|") {
		return nil, false
	}
	for c := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
		cells = append(cells, strings.TrimSpace(c))
	}
	return cells, true
}
