package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// Here is the state as Markdown, to paste into a ticket or a chat. Names, reasons and checks come from strangers, and what they
// say must not become a link, a heading, a mention or markup there. So it stands in code alone, in which nothing is read, and
// the characters that end code are replaced. Everything else is ours.

// maxCode bounds what stands in one place, in characters.
const maxCode = 300

// markdown is a text that grows line by line.
type markdown struct{ strings.Builder }

// printf adds a line. The arguments must be ours, or the result of code.
func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// code is a text of others in one line of code. A backtick would end it, and a pipe a cell of a table around it.
func code(text string) string {
	text = strings.TrimSpace(harmless(text))
	if runes := []rune(text); len(runes) > maxCode {
		text = strings.TrimSpace(string(runes[:maxCode])) + "…"
	}
	if text == "" {
		text = "–"
	}
	return "`" + strings.NewReplacer("|", "¦", "\t", " ").Replace(text) + "`"
}

// harmless is a text in one line without backticks, and without characters that cannot be seen or that turn the direction of others.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '`':
			return '\''
		case r == '\t':
			return r
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, text)
}

// block adds lines of others as a block of code.
func (m *markdown) block(lines []string) {
	m.printf("```text")
	for _, text := range lines {
		m.printf("%s", harmless(text))
	}
	m.printf("```")
}

// title adds the first heading, with what a reader in another place has to know: where and when this was so.
func (m *markdown) title(what string, s *status.Snapshot) {
	m.printf("# %s", what)
	m.printf("")
	m.printf("- Server %s, version %s, since %s", code(s.Summary.Host), code(s.Summary.Version), formatClock(s.Summary.Started))
	m.printf("- As of %s", formatClock(s.Taken))
}

// target adds an item for a target.
func (m *markdown) target(s *status.Snapshot, t *status.Target) {
	words := fmt.Sprintf("- %s by %s is **%s**", code(t.Address.String()), code(t.Check), t.State)
	if !t.Since.IsZero() {
		words += fmt.Sprintf(" since %s (%s)", formatClock(t.Since), formatAge(s.Taken, t.Since))
	}
	if t.Forced != "" {
		words += ", forced " + t.Forced
		if t.Note != "" {
			words += " " + code(t.Note)
		}
		if !t.Until.IsZero() {
			words += " until " + formatClock(t.Until)
		}
	}
	if t.Reason != "" {
		words += ": " + code(t.Reason)
	}
	m.printf("%s", words)
	m.printf("  - Name %s%s", code(t.Name), moreNames(len(t.Names)-1))
	if text := t.Progress(); text != "" {
		m.printf("  - %s", text)
	}
	if text := probeSummary(t.Probes); text != "" {
		m.printf("  - Probes: %s", text)
	}
	if t.State == "down" && !t.NextProbe.IsZero() {
		m.printf("  - Up after %d successful probes in a row, the next one at %s", t.Needed, formatClock(t.NextProbe))
	}
	if t.Shared != nil {
		m.printf("  - Fleet: %s find it %s", t.VoteText(), t.State)
		for _, v := range t.Votes {
			m.printf("    - %s of %s: %s %s", v.State, code(v.Member), v.Standing, code(v.Reason))
		}
	}
}

// targetsMarkdown is a page of targets as a text.
func targetsMarkdown(snap *status.Snapshot, list listPage[*status.Target]) *markdown {
	m := new(markdown)
	m.title("Targets", snap)
	m.printf("- %d of %d targets that match", len(list.items), list.total)
	m.printf("")
	for _, t := range list.items {
		m.target(snap, t)
	}
	return m
}

// moreNames says how many other names there are.
func moreNames(n int) string {
	if n < 1 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// transition adds an item for a change.
func (m *markdown) transition(c *status.Change) {
	words := fmt.Sprintf("- %s: %s %s → %s, %s, %s", formatClock(c.At), code(c.Address.String()), c.From, c.To, code(c.Name), code(c.Check))
	if c.Reason != "" {
		words += ": " + code(c.Reason)
	}
	m.printf("%s", words)
}

// explanation adds how one server block answers.
func (m *markdown) explanation(e *status.Explanation) {
	m.printf("")
	m.printf("## %s %s is %s", code(e.Name), code(e.Type), status.OutcomeOf(e.Outcome, e.Checked, e.Health, e.DryRun).Label)
	m.printf("")
	m.printf("- Server block %s, stanza %s", code(e.Block), code(e.Stanza))
	for i := range e.Sets {
		m.section(&e.Sets[i])
	}
	m.printf("")
	m.block(e.Steps)
	if e.Message != "" {
		m.printf("")
		m.block(strings.Split(strings.TrimSpace(e.Message), "\n"))
	}
	if e.Text != "" {
		m.printf("")
		m.block(strings.Split(strings.TrimSpace(e.Text), "\n"))
	}
}

// section adds how one set was decided.
func (m *markdown) section(s *status.Set) {
	m.printf("- %s %s: %d of %d served: %s", code(s.Owner), code(s.Type), s.Kept, s.Total, code(s.Why))
	for i := range s.Members {
		x := &s.Members[i]
		served := "served"
		if !x.Served {
			served = "**left out**"
		}
		words := fmt.Sprintf("  - %s %s: %s", code(x.Member), served, code(x.Why))
		if x.Share != nil {
			words += fmt.Sprintf(", in %s of answers", percent(*x.Share))
		}
		if !x.Since.IsZero() {
			words += ", down since " + formatClock(x.Since)
		}
		if x.Recovery != "" {
			words += ", what brings it back: " + code(x.Recovery)
		}
		m.printf("%s", words)
	}
}

// percent is a share with up to three digits.
func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// wantsMarkdown reads the parameter format.
func wantsMarkdown(r *http.Request) (bool, error) {
	switch f := r.URL.Query().Get("format"); f {
	case "", "json":
		return false, nil
	case "markdown":
		return true, nil
	default:
		return false, fmt.Errorf("invalid format %q: use json or markdown", f)
	}
}

// writeMarkdown writes a text. A browser shows plain text, and offers to save what it is told to be Markdown.
func writeMarkdown(w http.ResponseWriter, r *http.Request, m *markdown) {
	writeBody(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte(m.String()))
}

// copyLinks are where the data of a place of the page is, as Markdown and as JSON.
type copyLinks struct{ Markdown, JSON string }

// linksTo returns where to copy from: a path of the interface, and its parameters in pairs. Empty ones are left out.
func linksTo(path string, pairs ...string) copyLinks {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	plain := (&url.URL{Path: path, RawQuery: q.Encode()}).String()
	q.Set("format", "markdown")
	return copyLinks{(&url.URL{Path: path, RawQuery: q.Encode()}).String(), plain}
}
