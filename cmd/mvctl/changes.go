package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// change is a change of state, with the JSON that it came in.
type change struct {
	// Number is counted from 1 since the process started.
	Number                                 uint64
	At                                     time.Time
	Address, Check, Name, From, To, Reason string

	raw json.RawMessage // as the server wrote it
}

// changesCommand shows what went down or came up.
func (a *app) changesCommand() *cobra.Command {
	c := &cobra.Command{Use: "changes", Short: "Show which targets went down or came up", Args: cobra.NoArgs}
	f := addFilters(c)
	follow := c.Flags().BoolP("follow", "f", false, "go on with what changes from then on, until interrupted")
	after := c.Flags().Uint64("after", 0, "only changes after the one with this number")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		reader := changeReader{client: server, filters: f, after: *after}
		// Without -f, it is what the server still has: the last 512, or more.
		if *follow {
			return a.keepShowing(cmd.Context(), &reader)
		}
		all, lost, err := reader.unread(cmd.Context())
		if err != nil {
			return err
		}
		if !a.json() {
			a.pickedNone(f, len(all))
		}
		return a.showChanges(all, lost)
	}
	return c
}

// pollInterval is how often changes are asked for. The stream of the server would save half a second, and takes one of 16 places.
const pollInterval = time.Second

// changeReader reads the changes after a number. The numbers belong to a process, which is known by its start: that of a new one
// begins at 1 again, and may have passed ours before we ask.
type changeReader struct {
	*client
	filters *filters
	after   uint64    // the number of the last change that was read, or passed by the filters
	started time.Time // of the process that the number is of; zero before the first time
}

// unread returns the changes since the last time, each once, and how many more there were that the server no longer has.
func (r *changeReader) unread(ctx context.Context) (all []change, lost uint64, err error) {
	before, err := r.processStart(ctx)
	if err != nil {
		return nil, 0, err
	}
	// Who asks for all that there is misses nothing, however long ago the first change was.
	fromStart := r.started.IsZero() && r.after == 0
	if !r.started.IsZero() && !before.Equal(r.started) { // another process, and we have seen none of its changes
		r.after = 0
	}
	r.started = before
	for range maxPages {
		some, next, gone, more, err := r.page(ctx)
		if err != nil {
			return all, lost, err // what was read is shown, since it is not read again
		}
		// The number of a page holds for the process that wrote it, so look whether it is still the same one.
		now, err := r.processStart(ctx)
		if err != nil {
			return all, lost, err // without knowing whose it is, the page is read again
		}
		if !now.Equal(r.started) {
			// The server was restarted between two requests. What is older than the new process is of the old one, and is gone for
			// good; the rest is read again by the numbers of the new one.
			for _, c := range some {
				if c.At.Before(now) {
					all = append(all, c)
				}
			}
			r.after, r.started = 0, now
			continue
		}
		if fromStart {
			gone, fromStart = 0, false
		}
		all, lost, r.after = append(all, some...), lost+gone, next
		if !more {
			return all, lost, nil
		}
	}
	return all, lost, failf(exitServer, "the list of changes does not end")
}

// page gets one page of changes, the number to continue with, and whether there is another page.
func (r *changeReader) page(ctx context.Context) (all []change, next, lost uint64, more bool, err error) {
	query := r.filters.query()
	// With filters, the server numbers all changes, and next is past those that it left out.
	query.Set("limit", "1000")
	query.Set("after", strconv.FormatUint(r.after, 10))
	got, err := r.get(ctx, "/v1/changes", query)
	if err != nil {
		return nil, 0, 0, false, err
	}
	var page struct {
		Changes    []json.RawMessage
		Total      int
		Next, Lost uint64
	}
	if err := decode(got.body, &page); err != nil {
		return nil, 0, 0, false, err
	}
	for _, raw := range page.Changes {
		c := change{raw: raw}
		if err := decode(raw, &c); err != nil {
			return nil, 0, 0, false, err
		}
		all = append(all, c)
	}
	return all, page.Next, page.Lost, page.Total > len(all), nil
}

// processStart is when the process of the server started.
func (c *client) processStart(ctx context.Context) (time.Time, error) {
	got, err := c.get(ctx, "/v1/summary", url.Values{})
	if err != nil {
		return time.Time{}, err
	}
	// It is the same in all responses of a process, to the nanosecond.
	var summary struct{ Started time.Time }
	err = decode(got.body, &summary)
	return summary.Started, err
}

// keepShowing shows changes until it is interrupted. A server that does not answer is asked again and again, once there was one.
func (a *app) keepShowing(ctx context.Context, r *changeReader) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	// What fails the first time is a mistake in the command; later it is a restart.
	failing, answered := "", false
	for {
		all, lost, err := r.unread(ctx)
		// What was read before a failure is shown, because it is not read again.
		if shown := a.showChanges(all, lost); shown != nil {
			return shown
		}
		switch exit := (*exitError)(nil); {
		case ctx.Err() != nil: // interrupted: that is how it ends
			return nil
		case err == nil:
			if failing != "" {
				fmt.Fprintln(a.errors, "mvctl: the server answers again")
			}
			failing, answered = "", true
		case !answered || errors.As(err, &exit) && exit.code != exitServer:
			return err
		case failing != err.Error(): // said once
			failing = err.Error()
			fmt.Fprintln(a.errors, "mvctl: "+clean(failing)+"; trying again")
		}
		// A tick that came while the server was slow is taken at once, and none are made up for.
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// showChanges writes changes, one a line, so that a reader sees each at once. For programs, each line is an object.
func (a *app) showChanges(all []change, lost uint64) error {
	if lost > 0 {
		fmt.Fprintf(a.errors, "mvctl: %d changes are no longer kept by the server\n", lost)
	}
	for _, c := range all {
		if a.json() {
			// One line, so that a program can read line by line.
			compact, err := json.Marshal(c.raw)
			if err == nil {
				err = a.pass(compact)
			}
			if err != nil {
				return err
			}
			continue
		}
		to := state(c.To)
		row := []cell{{c.At.Format(time.RFC3339), dim}, plain(c.From + " →"), to, plain(c.Address), plain(c.Name), plain(c.Check), plain(c.Reason)}
		a.table(nil, [][]cell{row})
	}
	return nil
}
