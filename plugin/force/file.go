package force

import (
	"fmt"
	"path/filepath"

	"github.com/coredns-multivalue/multivalue/internal/follow"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges are the numbers of forced networks and addresses by state, resolved once.
var gauges = [...]prometheus.Gauge{
	Up:    metrics.Forced.WithLabelValues(Up.String()),
	Down:  metrics.Forced.WithLabelValues(Down.String()),
	Drain: metrics.Forced.WithLabelValues(Drain.String()),
}

// maxSize is the largest size of a file in bytes: some hundred thousand addresses.
const maxSize = 4 << 20

// kind says how files of forced states are read. A file that does not exist forces nothing: deleting it ends all of it, and an
// optional ConfigMap may be missing.
var kind = follow.Kind[States]{
	Name:     "force",
	Limit:    maxSize,
	TooLarge: "use fewer lines, with networks instead of addresses",
	Missing:  "so it forces nothing",
	Parse:    Parse,
	Say:      (*States).summary,
	At:       (*States).at,
	Tell:     tellEnds,
	Count:    (*States).addToMetrics,
	Broken:   metrics.Force.Broken,
	Stuck:    metrics.Force.Stuck,
}

// File is a file of forced states, as one Corefile has it. All stanzas of the Corefile that name it share it.
type File = follow.File[States]

// Files are the files of forced states that one Corefile names.
type Files = follow.Files[States]

// Static returns a file that is never read, with these states in force. It is for tests of what asks a File, and time changes
// nothing about it.
func Static(s *States) *File { return follow.Static(s) }

// Watcher knows the files that running Corefiles name. There is one in the process. Its zero value knows none.
type Watcher struct {
	files   follow.Watcher[States]
	editors editors
}

// OnChange has a function called when what a file has in force changes, with its path and what it has now. The function must not
// wait. It is set before a Corefile is read.
func (w *Watcher) OnChange(tell func(path, what string)) { w.files.OnChange = tell }

// Files returns an empty set, for a new Corefile.
func (w *Watcher) Files() *Files { return w.files.Files(&kind) }

// Totals are what all watched files have in force.
type Totals struct {
	Up, Down, Drain int // networks and addresses
	Broken          int // files whose latest content was refused
}

// Totals counts what is in force, for the status page.
func (w *Watcher) Totals() (t Totals) {
	w.files.All(func(o *States, fault string) {
		t.Up, t.Down, t.Drain = t.Up+o.count[Up], t.Down+o.count[Down], t.Drain+o.count[Drain]
		if fault != "" {
			t.Broken++
		}
	})
	return t
}

// Faults are what is wrong with the files whose latest content was refused, with file and line as in the log, by path.
func (w *Watcher) Faults() (all []string) {
	w.files.All(func(_ *States, fault string) {
		if fault != "" {
			all = append(all, fault)
		}
	})
	return all
}

// summary is what counts, in words for the log.
func (o *States) summary() string {
	over := ""
	if o.ended > 0 {
		over = fmt.Sprintf("; the time of %s is over", text.Count(o.ended, "line"))
	}
	return fmt.Sprintf("has %d up, %d down, %d drain%s", o.count[Up], o.count[Down], o.count[Drain], over)
}

// addToMetrics adds what counts to the metrics, times the sign.
func (o *States) addToMetrics(sign float64) {
	for state, gauge := range gauges {
		if gauge != nil {
			gauge.Add(sign * float64(o.count[state]))
		}
	}
}

// Path is the path of a file that a Corefile names: a relative one is below the directory of the plugin *root*, as for the
// plugin *file*.
func Path(root, path string) string {
	if !filepath.IsAbs(path) && root != "" {
		path = filepath.Join(root, path)
	}
	return filepath.Clean(path)
}
