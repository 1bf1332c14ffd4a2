package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Here are the commands that show a list: targets, names and members.

// filters are the options that pick entries of a list, by the words of the server.
type filters struct{ find, name, address, state, check string }

// addFilters adds the options to a command.
func addFilters(c *cobra.Command) *filters {
	f := new(filters)
	c.Flags().StringVar(&f.find, "find", "", "only with all these words, as Find on the page: parts of a name, address, check, reason or site, or an outcome such as \"fails closed\"")
	c.Flags().StringVar(&f.name, "name", "", "only with this in a name")
	c.Flags().StringVar(&f.address, "address", "", "only of this network or address, or with this part of an address")
	c.Flags().StringVar(&f.state, "state", "", "only in this state: up, down, unknown, forced, drain or idle")
	c.Flags().StringVar(&f.check, "check", "", "only with this in the text of the check, or in quotes with all of it")
	return f
}

// query is the filters as parameters.
func (f *filters) query() url.Values {
	return url.Values{"q": {f.find}, "name": {f.name}, "address": {f.address}, "state": {f.state}, "check": {f.check}}
}

// listed writes a table, or says that the filters picked nothing: a table without rows may be taken for a failure.
func (a *app) listed(f *filters, heads []string, rows [][]cell) {
	if !a.pickedNone(f, len(rows)) {
		a.table(heads, rows)
	}
}

// pickedNone says so if filters have picked nothing.
func (a *app) pickedNone(f *filters, n int) bool {
	if n > 0 || *f == (filters{}) {
		return false
	}
	fmt.Fprintln(a.out, "The filter picks none.")
	return true
}

// target is a target of the JSON, as far as the table shows it.
type target struct {
	// These are as the JSON has them. Said is what the backend says that it wants.
	Address, Check, State, Reason, Said, Name string
	// All names that lead to it, of which the server tells some hundred, and how many it leaves out.
	Names     []string
	MoreNames int `json:"more_names"`
	// What people have forced, with their reason, and its end if it has one.
	Forced string
	Note   string    `json:"forced_reason"`
	Until  time.Time `json:"forced_until"`
	Since  time.Time
	// Streak results speak against the state, and Needed would change it.
	Streak, Needed int
	Idle, Drained  bool
}

// targetsCommand shows the targets.
func (a *app) targetsCommand() *cobra.Command {
	c := &cobra.Command{Use: "targets", Short: "List the addresses that are probed, and their states", Args: cobra.NoArgs}
	f := addFilters(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		all, last, err := server.fetchAll(cmd.Context(), "/v1/targets", "targets", f.query())
		if err != nil {
			return err
		}
		// What is in trouble is counted while the rows are made, for --fail.
		down := false
		var rows [][]cell
		for _, raw := range all {
			var t target
			if err := decode(raw, &t); err != nil {
				return err
			}
			down = down || t.State == "down"
			rows = append(rows, []cell{t.measured(), plain(t.Address), plain(t.forcedText()), plain(ago(last.date, t.Since)), plain(t.nameFor(f.name)), plain(t.Check), plain(t.why())})
		}
		if a.json() {
			err = a.passList("targets", all)
		} else {
			a.listed(f, []string{"STATE", "ADDRESS", "FORCED", "FOR", "NAME", "CHECK", "WHY"}, rows)
		}
		if err != nil {
			return err
		}
		return a.troubled(down)
	}
	return a.failFlag(c, "a target that is listed is down")
}

// measured is the field with the state. Green would say that clients get it, which what is forced may prevent.
func (t *target) measured() cell {
	if t.State == "up" && (t.Forced == "down" || t.Forced == "drain") {
		return cell{"· up", dim}
	}
	return state(t.State)
}

// forcedText says what is forced.
func (t *target) forcedText() string {
	text := t.Forced
	if !t.Until.IsZero() {
		text += " until " + t.Until.Format(time.RFC3339)
	}
	if t.Note != "" {
		text += " (" + t.Note + ")"
	}
	return text
}

// nameFor is a name that leads to the target, if possible one with the part that was asked for, and how many more there are.
func (t *target) nameFor(part string) string {
	name, more := t.Name, max(0, len(t.Names)-1)+t.MoreNames
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(part)) }
	if i := slices.IndexFunc(t.Names, has); i >= 0 && !has(name) {
		name = t.Names[i]
	}
	if more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	return name
}

// why says in words what matters about a target beside its state.
func (t *target) why() string {
	// The order is that of what matters most.
	var words []string
	// The reason of the last failure stays after the target came up, and explains nothing then.
	if t.Reason != "" && (t.State != "up" || t.Streak > 0) {
		words = append(words, t.Reason)
	}
	if t.Streak > 0 {
		words = append(words, fmt.Sprintf("%d of %d results against it", t.Streak, t.Needed))
	}
	if t.Said != "" {
		words = append(words, t.Said)
	}
	if t.Idle {
		words = append(words, "idle")
	}
	return strings.Join(words, "; ")
}

// namesCommand shows the names.
func (a *app) namesCommand() *cobra.Command {
	// The outcomes are those of the last answers, which clients got. explain has what they would get now.
	c := &cobra.Command{Use: "names", Short: "List the names that clients ask for, and the outcomes of their answers", Args: cobra.NoArgs}
	f := addFilters(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		all, _, err := server.fetchAll(cmd.Context(), "/v1/names", "names", f.query())
		if err != nil {
			return err
		}
		trouble := false
		var rows [][]cell
		for _, raw := range all {
			var n struct {
				Name string
				// Those of each type that was asked for lately.
				Answers []struct {
					Type, Outcome string
					Health        string
					Checked       bool
					DryRun        bool `json:"dry_run"`
					Kept, Total   int
				}
			}
			if err := decode(raw, &n); err != nil {
				return err
			}
			// A name has a row for each type, so that each row has one outcome.
			for _, x := range n.Answers {
				trouble = trouble || !x.DryRun && disregarded(x.Outcome, x.Health)
				rows = append(rows, []cell{outcome(x.Outcome, x.Checked, x.Health, x.DryRun), plain(n.Name), plain(x.Type), plain(fmt.Sprintf("%d of %d", x.Kept, x.Total))})
			}
			if len(n.Answers) == 0 {
				rows = append(rows, []cell{{"· no query lately", dim}, plain(n.Name)})
			}
		}
		if a.json() {
			err = a.passList("names", all)
		} else {
			a.listed(f, []string{"LAST ANSWER", "NAME", "TYPE", "SERVED"}, rows)
		}
		if err != nil {
			return err
		}
		return a.troubled(trouble)
	}
	return a.failFlag(c, "a name that is listed is fail-open or fail-closed, or its only address is down")
}

// disregarded reports whether an outcome and a health mean that clients get addresses that are down, or none.
func disregarded(outcome, health string) bool {
	return outcome == "open" || outcome == "closed" || health == "down"
}

// membersCommand shows the members of the fleet.
func (a *app) membersCommand() *cobra.Command {
	c := &cobra.Command{Use: "members", Short: "List the members of the fleet, as this server sees them", Args: cobra.NoArgs}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		all, last, err := server.fetchAll(cmd.Context(), "/v1/members", "members", url.Values{})
		if err != nil {
			return err
		}
		// A member that is gone has left on purpose, in most cases, and is no trouble.
		silent := false
		var rows [][]cell
		for _, raw := range all {
			var m member
			if err := decode(raw, &m); err != nil {
				return err
			}
			silent = silent || m.State == "silent"
			rows = append(rows, m.cells(last.date))
		}
		switch {
		case a.json():
			err = a.passList("members", all)
		case len(all) == 0: // it lists itself in a fleet
			fmt.Fprintln(a.out, "This server is in no fleet.")
		default:
			a.table([]string{"STATE", "NAME", "SITE", "ADDRESS", "VERSION", "HEARD", "SEATS", "DIFFERS"}, rows)
		}
		if err != nil {
			return err
		}
		return a.troubled(silent)
	}
	return a.failFlag(c, "a member is silent")
}

// member is a member of the fleet, as the JSON has it.
type member struct {
	// Text of other members, which is never trusted.
	Name, Site, Address, Version, State string
	Self, Isolated                      bool
	Heard                               time.Time `json:"last_heard"`
	Seats, Targets                      int
	// What differs between its Corefile and that of the server.
	Lacks     []struct{ Check string }
	MoreLacks int `json:"more_lacks"`
	Others    int `json:"other_checks"`
}

// cells are the member in the table.
func (m *member) cells(now time.Time) []cell {
	shown := map[string]cell{"alive": {"✓ alive", green}, "silent": {"✗ silent", red}, "gone": {"· gone", dim}}[m.State]
	if shown.text == "" {
		shown = plain("? " + m.State)
	}
	name := m.Name
	if m.Self {
		name += " (this server)"
	}
	// Each difference is in words, since a count alone does not help.
	var differs []string
	if m.Isolated {
		differs = append(differs, "isolated")
	}
	for _, l := range m.Lacks {
		differs = append(differs, "lacks "+l.Check)
	}
	if m.MoreLacks > 0 {
		differs = append(differs, fmt.Sprintf("lacks %d more", m.MoreLacks))
	}
	if m.Others > 0 {
		differs = append(differs, fmt.Sprintf("has %d others", m.Others))
	}
	// When anything of it arrived, which is not told of the server itself.
	heard := ago(now, m.Heard)
	if heard != "" {
		heard += " ago"
	}
	return []cell{shown, plain(name), plain(m.Site), plain(m.Address), plain(m.Version), plain(heard), plain(fmt.Sprintf("%d of %d", m.Seats, m.Targets)), plain(strings.Join(differs, "; "))}
}
