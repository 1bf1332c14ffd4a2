package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// explanation is one of the JSON, as far as it is shown.
type explanation struct {
	// The server block, and the file and line of its stanza, which is empty if the stanza exempts the name.
	Block  string `json:"server_block"`
	Stanza string
	Name   string
	Type   string
	// Checked is false if no check said of any address whether it is up.
	Rcode   string
	Outcome string
	Checked bool
	Health  string
	DryRun  bool `json:"dry_run"`
	Steps   []string
	Records []string
	// One for each set of records, with what happens to each member.
	Sets []struct {
		Owner, Type, Outcome, Why string
		Health                    string
		Checked                   bool
		DryRun                    bool `json:"dry_run"`
		Members                   []struct {
			Member, Why, State, Forced, Tier, Site string
			Served                                 bool
			Recovery                               string
			// Since when it is down, and in which part of the answers it is; nil if that is not known.
			Since time.Time
			Share *float64
		}
	}
}

// explainCommand shows how an answer comes about.
func (a *app) explainCommand() *cobra.Command {
	var client string
	var dnssec bool
	c := &cobra.Command{
		Use: "explain NAME [TYPE]", Short: "Show how the answer for a name comes about, step by step",
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().StringVar(&client, "client", "", "address or network that the query comes from")
	c.Flags().BoolVar(&dnssec, "do", false, "ask with the DO bit, as validating resolvers do")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		// The server knows the types, the names and the networks, and says what is wrong with one.
		query := url.Values{"name": {args[0]}, "client": {client}, "type": {""}, "do": {""}}
		if len(args) > 1 {
			query.Set("type", args[1])
		}
		if dnssec {
			query.Set("do", "1")
		}
		got, err := server.get(cmd.Context(), "/v1/explain", query)
		if err != nil {
			return err
		}
		var all struct{ Explanations []explanation }
		if err := decode(got.body, &all); err != nil {
			return err
		}
		if a.json() {
			err = a.pass(got.body)
		} else {
			a.showExplanations(args[0], got.date, all.Explanations)
		}
		if err != nil {
			return err
		}
		// A name that no stanza covers is one that a script has mistyped, or one that is no longer covered.
		trouble := len(all.Explanations) == 0
		for _, e := range all.Explanations {
			trouble = trouble || !e.DryRun && disregarded(e.Outcome, e.Health)
		}
		return a.troubled(trouble)
	}
	return a.failFlag(c, "the answer is fail-open or fail-closed, if its only address is down, or if no stanza covers the name")
}

// showExplanations writes the explanations: the answer first, then each set, then the steps.
func (a *app) showExplanations(name string, now time.Time, all []explanation) {
	if len(all) == 0 {
		fmt.Fprintln(a.out, clean("No stanza of any server block covers "+name+", so its answers are not changed."))
	}
	for i, e := range all {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		a.table(nil, [][]cell{{plain(e.Name + " " + e.Type), outcome(e.Outcome, e.Checked, e.Health, e.DryRun), {strings.TrimSpace(e.Rcode + " from server block " + e.Block), dim}, {e.Stanza, dim}}})
		// The records as they would be answered now.
		for _, r := range e.Records {
			fmt.Fprintln(a.out, "  "+clean(strings.ReplaceAll(r, "\t", " ")))
		}
		for _, set := range e.Sets {
			fmt.Fprintln(a.out)
			a.table(nil, [][]cell{{plain(set.Owner + " " + set.Type), outcome(set.Outcome, set.Checked, set.Health, set.DryRun), plain(set.Why)}})
			// Members are indented below their set.
			var rows [][]cell
			for _, m := range set.Members {
				served := cell{"served", green}
				if !m.Served {
					served = cell{"left out", dim}
				}
				rows = append(rows, []cell{plain(""), state(m.State), plain(m.Member), served, plain(shareText(m.Share)), plain(ago(now, m.Since)), plain(m.Why)})
			}
			a.table([]string{"", "STATE", "MEMBER", "SERVED", "SHARE", "DOWN FOR", "WHY"}, rows)
			for _, m := range set.Members {
				if m.Recovery != "" {
					fmt.Fprintln(a.out, clean("  what brings back "+m.Member+": "+m.Recovery))
				}
			}
		}
		// The steps come last, since the answer is what most look for.
		fmt.Fprintln(a.out)
		for n, step := range e.Steps {
			fmt.Fprintf(a.out, "%3d. %s\n", n+1, clean(step))
		}
	}
}

// shareText is the part of the answers that a member is in.
func shareText(share *float64) string {
	if share == nil {
		return ""
	}
	return fmt.Sprintf("%.3g%%", 100**share)
}

// configCommand shows the configuration in force.
func (a *app) configCommand() *cobra.Command {
	// Most properties have their defaults, and what was changed is what one looks for.
	changed := false
	c := &cobra.Command{Use: "config", Short: "Show the configuration in force: each stanza with the values in effect", Args: cobra.NoArgs}
	c.Flags().BoolVar(&changed, "set", false, "only what the Corefile sets, without defaults")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		got, err := server.get(cmd.Context(), "/v1/config", nil)
		if err != nil {
			return err
		}
		var shown configShown
		if err := decode(got.body, &shown); err != nil {
			return err
		}
		if a.json() {
			err = a.pass(got.body)
		} else {
			a.showConfig(&shown, changed)
		}
		if err != nil {
			return err
		}
		return a.troubled(shown.ReloadFailed)
	}
	return a.failFlag(c, "the last reload failed, so that an older Corefile is in force")
}

// configShown is the configuration in the JSON.
type configShown struct {
	ReloadFailed bool `json:"reload_failed"`
	// In the order of the server blocks.
	Stanzas []struct {
		At, Block, Zones string
		Properties       []struct {
			Name, Value, At string
			Default         bool
		}
	}
}

// showConfig writes the stanzas. Defaults are told in words.
func (a *app) showConfig(shown *configShown, changed bool) {
	if shown.ReloadFailed {
		a.table(nil, [][]cell{{{"! The last reload failed: an older Corefile is in force.", red}}})
	}
	for i, s := range shown.Stanzas {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		a.table(nil, [][]cell{{plain(s.At), plain(s.Zones), {"server block " + s.Block, dim}}})
		var rows [][]cell
		for _, p := range s.Properties {
			// A value is from a line, or it is the default.
			value, set := plain(p.Value), plain(p.At)
			if p.Default {
				set = cell{"default", dim}
			}
			if p.Value == "" {
				value = cell{"none", dim}
			}
			if !p.Default || !changed {
				rows = append(rows, []cell{plain(""), plain(p.Name), value, set})
			}
		}
		a.table(nil, rows)
	}
}
