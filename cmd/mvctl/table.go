package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Here is how things are written for people and for programs. Names and reasons come from clients, backends and other members, so
// nothing of them reaches a terminal that it would take for a command.

// cell is a field of a table, in a colour or without one.
type cell struct {
	// text may come from strangers: it is cleaned when it is written.
	text  string
	style string // the parameters of the escape sequence; empty for none
}

// The colours. Words and glyphs say the same, for those who do not see them.
const (
	green  = "32"
	red    = "31;1"
	yellow = "33"
	dim    = "2"
)

// plain is a field without a colour.
func plain(text string) cell { return cell{text: text} }

// state is a field with the state of an address: a glyph, the word and a colour.
func state(name string) cell {
	// Each has a glyph of its own, as on the page.
	known := map[string]cell{"up": {"✓ up", green}, "down": {"✗ down", red}, "unknown": {"? unknown", yellow}, "unchecked": {"· unchecked", dim},
		"drain": {"◦ drain", yellow}, "drained": {"◦ drained", yellow}}
	if c, ok := known[name]; ok {
		return c
	}
	// A newer server may have more states. They have no colour, because what they mean is not known.
	return plain("? " + name)
}

// outcome is a field with what became of an answer.
func outcome(name string, checked bool, health string, dry bool) cell {
	if name == "whole" || name == "sample" {
		instead := map[string]cell{"down": {"✗ down, but served", red}, "drained": {"◦ drained, but served", yellow}, "forced": {"! forced up", yellow}}
		if c, ok := instead[health]; ok {
			return c
		}
		// Where nothing was checked, nothing is known, whatever the word.
		if !checked {
			return cell{"? not checked", yellow}
		}
	}
	known := map[string]cell{"whole": {"✓ all healthy", green}, "sample": {"✓ limited", green}, "thin": {"- filtered", yellow}, "backup": {"! on backups", yellow},
		"open": {"✗ fail-open", red}, "closed": {"✗ fail-closed", red}, "none": {"· not filtered", dim}}
	if c, ok := known[name]; ok {
		if dry && name != "whole" && name != "none" { // what clients get is all
			_, word, _ := strings.Cut(c.text, " ")
			return cell{"~ " + word + " (dry run)", dim}
		}
		return c
	}
	return plain("? " + name)
}

// colours reports whether the output may have colours: it is a terminal, and its user has not asked for none (no-color.org).
func (a *app) colours() bool {
	// A pipe and a file are for programs, and for pagers that may not know colours.
	file, ok := a.out.(*os.File)
	if !ok || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// table writes rows under heads, in columns. The last column is not padded.
func (a *app) table(heads []string, rows [][]cell) {
	var all [][]cell
	// Without heads, it is a paragraph of aligned words.
	if heads != nil {
		head := make([]cell, len(heads))
		for i, h := range heads {
			head[i] = cell{h, dim}
		}
		all = append(all, head)
	}
	writeRows(a.out, append(all, rows...), a.colours())
}

// writeRows writes rows in columns that are as wide as their widest field.
func writeRows(w io.Writer, rows [][]cell, colours bool) {
	// First the widths, of the text as it is written, then the rows.
	var widths []int
	for _, row := range rows {
		for i := range row {
			row[i].text = clean(row[i].text)
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			text := c.text
			// The escape sequence takes no place, so it is added after the width is known.
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			if colours && c.style != "" && text != "" {
				text = "\x1b[" + c.style + "m" + text + "\x1b[0m"
			}
			b.WriteString(text + pad)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// clean makes a text harmless to a terminal, and keeps it on one line: what is not printable is written as its number. That holds
// for marks of writing direction as well, which would show another text than the one that is there.
func clean(text string) string {
	var b strings.Builder
	// A byte that is no UTF-8 is one of its own, which a terminal may take for a control character.
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// pass writes JSON of the server as it is, except that what a terminal could take for a command is written as its number.
func (a *app) pass(body []byte) error {
	// All of it is in strings: outside of them, JSON has no such characters.
	for _, r := range string(bytes.TrimSpace(body)) {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || unicode.IsPrint(r):
			_, _ = fmt.Fprintf(a.out, "%c", r)
		case r > 0xffff: // JSON has numbers of 16 bits alone
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			_, _ = fmt.Fprintf(a.out, `\u%04x\u%04x`, high, low)
		default:
			_, _ = fmt.Fprintf(a.out, `\u%04x`, r)
		}
	}
	_, err := fmt.Fprintln(a.out)
	return err
}

// passList writes a list whose pages are together, in the form of one page.
func (a *app) passList(key string, all []json.RawMessage) error {
	// An empty list is [] and not null, as the server writes it.
	if all == nil {
		all = []json.RawMessage{}
	}
	body, err := json.MarshalIndent(map[string]any{key: all, "total": len(all), "next": ""}, "", "  ")
	if err != nil {
		return err
	}
	return a.pass(body)
}

// ago says how long ago something was, by the clock of the server, in one or two units.
func ago(now, then time.Time) string {
	if then.IsZero() || now.IsZero() {
		return ""
	}
	// The date of a response has whole seconds, and may be just before what happened.
	d := max(0, now.Sub(then))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
