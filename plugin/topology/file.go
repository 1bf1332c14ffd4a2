package topology

import (
	"fmt"

	"github.com/coredns-multivalue/multivalue/internal/follow"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

// kind says how files of sites are read. A file that does not exist is a mistake: without one, every client would lose its site,
// so that what was in force stays.
var kind = follow.Kind[Table]{
	Name:     "topology",
	Limit:    MaxSize,
	TooLarge: "use fewer lines, with larger networks",
	Parse:    Parse,
	Say:      (*Table).summary,
	Broken:   metrics.Topology.Broken,
	Stuck:    metrics.Topology.Stuck,
}

// File is a file of sites, as one Corefile has it. All stanzas of the Corefile that name it share it.
type File = follow.File[Table]

// Files are the files of sites that one Corefile names.
type Files = follow.Files[Table]

// Static returns a file that is never read, with this table in force. It is for tests of what asks a File.
func Static(t *Table) *File { return follow.Static(t) }

// Watcher knows the files that running Corefiles name. There is one in the process. Its zero value knows none.
type Watcher struct{ files follow.Watcher[Table] }

// Files returns an empty set, for a new Corefile.
func (w *Watcher) Files() *Files { return w.files.Files(&kind) }

// Totals are what all watched files have in force.
type Totals struct {
	Sites, Networks int
	Broken          int // files whose latest content was refused
}

// Totals counts what is in force, for the status page.
func (w *Watcher) Totals() (t Totals) {
	w.files.All(func(table *Table, fault string) {
		t.Sites, t.Networks = t.Sites+table.Sites(), t.Networks+table.Networks()
		if fault != "" {
			t.Broken++
		}
	})
	return t
}

// Faults are what is wrong with the files whose latest content was refused, with file and line as in the log, by path.
func (w *Watcher) Faults() (all []string) {
	w.files.All(func(_ *Table, fault string) {
		if fault != "" {
			all = append(all, fault)
		}
	})
	return all
}

// summary is what is in force, in words for the log.
func (t *Table) summary() string {
	return fmt.Sprintf("has %s and %s", text.Count(t.Sites(), "site"), text.Count(t.Networks(), "network"))
}
