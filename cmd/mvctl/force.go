package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Here are the commands that change something. What they change is a file of the property force: the server edits it, and reads it
// again as it would after an edit by hand.

// order is what the server is asked to do.
type order struct {
	// These are the words of a line of the file.
	State    string   `json:"state"` // drain, down, up or release
	Networks []string `json:"networks"`
	Until    string   `json:"until"` // +2h, or a time; empty for no end
	Reason   string   `json:"reason"`
}

// forced is the file as the server shows it.
type forced struct {
	File     string // as the server knows it; shown so that people find it
	Admin    bool   // this listener may change it
	Writable bool
	Fleet    bool   // the server is a member of one, whose others have files of their own
	Scope    string // what a change is about, if there are other replicas, in a fleet or not
	Lines    []forcedLine
	More     int      `json:"more_lines"` // lines that are not among them
	Notes    []string // what the change does not do, and why
}

// forcedLine is a line of the file.
type forcedLine struct {
	// Line changes when lines above it do, and is for people alone.
	Line     int
	State    string
	Networks []string
	Until    time.Time
	Ended    bool // its time is over, so it no longer counts
	Reason   string
}

// asWords is the line without its number, which changes when lines before it do.
func (l forcedLine) asWords() string {
	text := l.State + " " + strings.Join(l.Networks, " ")
	if !l.Until.IsZero() {
		text += " until " + l.Until.Format(time.RFC3339)
	}
	if l.Reason != "" {
		text += " (" + l.Reason + ")"
	}
	return text
}

// forceCommand forces addresses into a state.
func (a *app) forceCommand(state, short string) *cobra.Command {
	o := order{State: state}
	c := &cobra.Command{
		Use: state + " ADDRESS|NETWORK...", Short: short, Args: someAddress, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error { return a.act(cmd.Context(), o, args) },
	}
	c.Flags().StringVar(&o.Reason, "reason", "", "why, for the log, the page and the file")
	c.Flags().StringVar(&o.Until, "until", "", "when it ends: +2h, or a time such as 2026-01-31T18:00:00Z")
	return c
}

// releaseCommand takes addresses out of the file.
func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "release ADDRESS|NETWORK...", Short: "Let the checks of addresses decide again", Args: someAddress, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd.Context(), order{State: "release"}, args)
		},
	}
}

// someAddress asks for at least one address.
func someAddress(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("name an address or a network, such as 192.0.2.1 or 192.0.2.0/24")
	}
	return nil
}

// check looks for mistakes that need no server to be found. The server checks all of it again, since it may be asked by others, and
// knows more: which addresses a line of the file may have, and how far away an end may be.
func (o *order) check(args []string) error {
	// A name is refused: it may have other addresses a moment later.
	for _, arg := range args {
		if _, err := netip.ParseAddr(arg); err != nil {
			if _, err := netip.ParsePrefix(arg); err != nil {
				return failf(exitUsage, "invalid address %q: use one such as 192.0.2.1, or a network such as 192.0.2.0/24", arg)
			}
		}
	}
	// The server turns +2h into a time, by its own clock.
	o.Networks = args
	if o.Until == "" {
		return nil
	}
	if span, relative := strings.CutPrefix(o.Until, "+"); relative {
		if d, err := time.ParseDuration(span); err == nil && d > 0 {
			return nil
		}
	} else if _, err := time.Parse(time.RFC3339, o.Until); err == nil {
		return nil
	}
	return failf(exitUsage, "invalid --until %q: use +2h, or a time such as 2026-01-31T18:00:00Z", o.Until)
}

// act has the server do what is ordered, and shows the file after that.
func (a *app) act(ctx context.Context, o order, args []string) error {
	if err := o.check(args); err != nil {
		return err
	}
	server, err := a.newClient()
	if err == nil {
		err = a.readToken(server)
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	// The tag says which file we have seen. The server refuses an order for another one.
	before, tag, err := server.forcedFile(ctx)
	if err != nil {
		return err
	}
	got, err := server.post(ctx, tag, body)
	// Another may have changed the file since we read it. Once more, then, with what they made of it.
	if refused := (*statusError)(nil); errors.As(err, &refused) && refused.status == http.StatusPreconditionFailed {
		now, tag, again := server.forcedFile(ctx)
		if again != nil {
			return again
		}
		a.tellChanges(before, now)
		got, err = server.post(ctx, tag, body)
	}
	if err != nil {
		return err
	}
	// The response is the file as it is now. It is in force already: the server has read it again.
	var after forced
	if err := decode(got.body, &after); err != nil {
		return err
	}
	// A change may do less than was meant. Programs have the notes in the JSON, and people who look at it see them, too.
	for _, note := range after.Notes {
		fmt.Fprintln(a.errors, "mvctl: note: "+clean(note))
	}
	if a.json() {
		return a.pass(got.body)
	}
	a.showForced(&after)
	return nil
}

// forcedFile gets the file, and the tag by which the server knows whether it is still the same.
func (c *client) forcedFile(ctx context.Context) (*forced, string, error) {
	got, err := c.get(ctx, "/v1/force", nil)
	if err != nil {
		return nil, "", err
	}
	f := new(forced)
	if err := decode(got.body, f); err != nil {
		return nil, "", err
	}
	if !f.Admin {
		return nil, "", failf(exitRefused, "%s only shows: to change something, add admin FILE to the block of status in the Corefile, or name another --server", c.shown)
	}
	return f, got.etag, nil
}

// post sends an order for the file with a tag. It is never sent a second time by itself: if the response is lost, the order may have
// been carried out.
func (c *client) post(ctx context.Context, tag string, body []byte) (reply, error) {
	header := http.Header{"Content-Type": {"application/json"}, "If-Match": {tag}}
	// Over the socket, its permissions decide, and no token is needed.
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	got, err := c.exchange(ctx, http.MethodPost, "/v1/force", header, bytes.Clone(body))
	// Of a token, the server speaks as those who write a client know it.
	if refused := (*statusError)(nil); errors.As(err, &refused) && refused.status == http.StatusUnauthorized {
		refused.text = "the token is missing or wrong: use --token-file or MVCTL_TOKEN_FILE, with what is in the file of token in the Corefile"
	}
	return got, err
}

// tellChanges says what another has changed in the file meanwhile. It all stays: the server edits the file as it is now.
func (a *app) tellChanges(before, now *forced) {
	// Lines are compared without their numbers.
	has := func(f *forced, l forcedLine) bool {
		return slices.ContainsFunc(f.Lines, func(x forcedLine) bool { return x.asWords() == l.asWords() })
	}
	fmt.Fprintln(a.errors, "mvctl: the file was changed meanwhile; that is kept, and this is tried once more")
	for _, l := range before.Lines {
		if !has(now, l) {
			fmt.Fprintln(a.errors, "mvctl: removed by another: "+clean(l.asWords()))
		}
	}
	for _, l := range now.Lines {
		if !has(before, l) {
			fmt.Fprintln(a.errors, "mvctl: added by another: "+clean(l.asWords()))
		}
	}
}

// showForced writes what is forced now.
func (a *app) showForced(f *forced) {
	if len(f.Lines) == 0 && f.More == 0 {
		fmt.Fprintln(a.out, clean("Nothing is forced by "+f.File+"."))
	} else {
		var rows [][]cell
		for _, l := range f.Lines {
			until := ""
			if !l.Until.IsZero() {
				until = l.Until.Format(time.RFC3339)
			}
			if l.Ended {
				until += " (has ended)"
			}
			rows = append(rows, []cell{state(l.State), plain(strings.Join(l.Networks, " ")), plain(until), plain(l.Reason), {fmt.Sprintf("%s:%d", f.File, l.Line), dim}})
		}
		a.table([]string{"FORCED", "ADDRESSES", "UNTIL", "REASON", "AT"}, rows)
	}
	if f.More > 0 {
		fmt.Fprintf(a.out, "and %d more of its lines\n", f.More)
	}
	// People may take a fleet, or replicas that the page links, for one thing.
	switch {
	case f.Fleet:
		fmt.Fprintln(a.errors, "mvctl: this holds on this server alone: the other members of its fleet have files of their own")
	case f.Scope != "":
		fmt.Fprintln(a.errors, "mvctl: this holds on this server alone: its peers have files of their own")
	}
}
