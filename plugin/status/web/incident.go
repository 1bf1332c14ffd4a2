package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// lastHour is how far back an incident goes.
	lastHour = time.Hour
	// These are how many of each an incident lists; the rest is counted. A name costs an explanation.
	incidentNames   = 20
	incidentTargets = 100
	incidentChanges = 200
)

// incident is what is wrong now, since when, and what changed in the last hour: what someone needs who was not there.
type incident struct {
	Host     string          `json:"host"`
	Version  string          `json:"version"`
	Started  time.Time       `json:"started"` // of the process
	Taken    time.Time       `json:"taken"`
	From     time.Time       `json:"from"` // of the first change that can be listed
	Up       int             `json:"up"`   // targets in all, as are the next two
	Down     int             `json:"down"`
	Unknown  int             `json:"unknown"`
	Problems []string        `json:"problems"` // of the whole process, in words
	Names    []affectedName  `json:"names"`    // those whose answers differ from what they should be, the worst first
	Targets  []status.Target `json:"targets"`  // those that are down, or forced down or drained
	Changes  []status.Change `json:"changes"`  // the latest ones, the earliest first
	More     struct {
		Names   int `json:"names"`
		Targets int `json:"targets"`
		Changes int `json:"changes"` // earlier ones of the last hour
	} `json:"more"`
	Lost bool `json:"lost"` // there were more changes in the last hour than are kept
}

// affectedName is a name whose answer is not what it should be.
type affectedName struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Outcome string `json:"outcome"`
	Checked bool   `json:"checked"`
	Health  string `json:"health,omitempty"`
	Kept    int    `json:"kept"`
	Total   int    `json:"total"`
	Why     string `json:"why"` // empty if it is the last answer, because the plugins below did not say what it is now
}

// serveIncident answers /v1/incident: what is wrong now, and what changed in the last hour, as JSON or, with format=markdown, as a
// text to paste. The filters of the lists pick what it is about.
func (s *Server) serveIncident(w http.ResponseWriter, r *http.Request) {
	text, err := wantsMarkdown(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	snap, f := s.filteredSnapshot(w, r)
	if snap == nil {
		return
	}
	x := s.newIncident(r.Context(), snap, f)
	if !text {
		writeJSON(w, r, x)
		return
	}
	writeMarkdown(w, r, x.markdown(snap))
}

// newIncident puts together what is wrong.
func (s *Server) newIncident(ctx context.Context, snap *status.Snapshot, f status.Filter) *incident {
	sum := &snap.Summary
	x := &incident{
		Host: sum.Host, Version: sum.Version, Started: sum.Started, Taken: snap.Taken, From: snap.Taken.Add(-lastHour),
		Up: sum.Up, Down: sum.Down, Unknown: sum.Unknown,
		Problems: problems(snap), Names: []affectedName{}, Targets: []status.Target{}, Changes: []status.Change{},
	}
	x.addNames(s, ctx, snap, f)
	var wrong []*status.Target
	for _, t := range snap.FilterTargets(f) {
		if t.State == "down" || t.Forced == "down" || t.Forced == "drain" || t.Drained {
			wrong = append(wrong, t)
		}
	}
	x.More.Targets = max(0, len(wrong)-incidentTargets)
	x.Targets = limitNames(wrong[:min(len(wrong), incidentTargets)])
	x.addChanges(snap, f)
	return x
}

// addNames adds the names that are affected, with their answers as they are now.
func (x *incident) addNames(s *Server, ctx context.Context, snap *status.Snapshot, f status.Filter) {
	worst := worstOutcomes(snap)
	names := slices.DeleteFunc(snap.FilterNames(f), func(n *status.Name) bool { return worst[n.Name] == 0 })
	slices.SortStableFunc(names, func(a, b *status.Name) int { return cmp.Compare(worst[b.Name], worst[a.Name]) })
	listed := min(len(names), incidentNames)
	x.More.Names = len(names) - listed
	for _, row := range s.nameRows(ctx, names[:listed]) {
		if len(row.Now) == 0 && row.Last != nil && !row.Last.DryRun {
			x.Names = append(x.Names, affectedName{Name: row.Name, Type: row.Type, Outcome: row.Last.Outcome, Checked: row.Last.Checked, Health: row.Last.Health, Kept: row.Last.Kept, Total: row.Last.Total})
		}
		for _, e := range row.Now {
			for i := range e.Sets {
				if set := &e.Sets[i]; slices.Contains(affectedOutcomes, classOf(set.Outcome, set.Checked, set.Health, set.DryRun)) {
					x.Names = append(x.Names, affectedName{Name: row.Name, Type: row.Type, Outcome: set.Outcome, Checked: set.Checked, Health: set.Health, Kept: set.Kept, Total: set.Total, Why: set.Why})
				}
			}
		}
	}
}

// affectedOutcomes are those of answers that are not what they should be, the worst one last.
var affectedOutcomes = []string{"thin", "backup", "down", "open", "closed"}

// worstOutcomes ranks names by how bad their last answer was: 0 or absent if it was good. One that has fewer addresses since is affected.
func worstOutcomes(snap *status.Snapshot) map[string]int {
	worst, down := make(map[string]int), namesDown(snap)
	for i := range snap.Names {
		n := &snap.Names[i]
		if hasFewer(n, down) {
			worst[n.Name] = 1
		}
		for _, a := range n.Answers {
			worst[n.Name] = max(worst[n.Name], 1+slices.Index(affectedOutcomes, classOf(a.Outcome, a.Checked, a.Health, a.DryRun)))
		}
	}
	return worst
}

// addChanges adds the changes of the last hour.
func (x *incident) addChanges(snap *status.Snapshot, f status.Filter) {
	all := snap.Changes
	for len(all) > 0 && all[0].At.Before(x.From) {
		all = all[1:]
	}
	// All that are kept are of the last hour, and they are not all that there were.
	x.Lost = len(all) > 0 && len(all) == len(snap.Changes) && all[0].Number > 1
	picked := snap.FilterChanges(f, all)
	x.More.Changes = max(0, len(picked)-incidentChanges)
	x.Changes = append(x.Changes, picked[x.More.Changes:]...)
}

// problems are what is true of the whole process, in sentences without a full stop. Nothing in them is a text of others.
func problems(snap *status.Snapshot) []string {
	sum, all := &snap.Summary, []string{}
	add := func(so bool, what string) {
		if so {
			all = append(all, what)
		}
	}
	add(!sum.Running, "targets are not probed: the server has not started yet, or it is stopping")
	add(!sum.IsolatedSince.IsZero(), "no target answers since "+formatClock(sum.IsolatedSince)+", so the network of this server may have failed")
	add(sum.Fleet != nil && sum.Fleet.Alone, "this member of the fleet is alone")
	add(sum.Full, "the limit of all targets is reached: new addresses are served unchecked")
	add(sum.Forced.Broken > 0 && len(sum.Forced.Errors) == 0, "a force file is invalid, and what was in force before stays in force")
	for _, fault := range sum.Forced.Errors {
		add(true, "a force file is invalid, and what was in force before stays in force: "+code(fault))
	}
	for _, fault := range sum.SitesErrors {
		add(true, "a topology file is invalid, and what was in force before stays in force: "+code(fault))
	}
	add(sum.StateUnread != "", "the state file could not be read at the start: "+code(sum.StateUnread))
	add(sum.StateError != "", "the state file cannot be saved: "+code(sum.StateError))
	for _, s := range sum.Stanzas {
		add(s.Full, "max_targets is reached in the stanza at "+code(s.At))
		add(s.DryRun, "dry run in the stanza at "+code(s.At)+": every address is served")
	}
	return all
}

// markdown is the incident as a text.
func (x *incident) markdown(snap *status.Snapshot) *markdown {
	m := new(markdown)
	m.title("Incident", snap)
	m.printf("- Targets: %d up, %d down, %d unknown", x.Up, x.Down, x.Unknown)
	for _, p := range x.Problems {
		m.printf("- **Note:** %s", p)
	}
	m.heading("Names that are affected", len(x.Names))
	for _, n := range x.Names {
		words := code(n.Why)
		if n.Why == "" {
			words = "as of its last answer"
		}
		m.printf("- %s %s is **%s**, %d of %d served: %s", code(n.Name), code(n.Type), status.OutcomeOf(n.Outcome, n.Checked, n.Health).Label, n.Kept, n.Total, words)
	}
	m.more(x.More.Names, "names")
	m.heading("Targets that are down, or forced", len(x.Targets))
	for i := range x.Targets {
		m.target(snap, &x.Targets[i])
	}
	m.more(x.More.Targets, "targets")
	m.heading("Changes since "+formatClock(x.From), len(x.Changes))
	m.more(x.More.Changes, "earlier changes")
	if x.Lost {
		m.printf("- Earlier changes of this hour are no longer kept")
	}
	for i := range x.Changes {
		m.transition(&x.Changes[i])
	}
	return m
}

// heading begins a part that has so many items.
func (m *markdown) heading(what string, items int) {
	m.printf("")
	m.printf("## %s", what)
	m.printf("")
	if items == 0 {
		m.printf("None.")
	}
}

// more says how many items of a part are left out.
func (m *markdown) more(n int, of string) {
	if n > 0 {
		m.printf("- and %d more %s", n, of)
	}
}
