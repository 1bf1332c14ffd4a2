package etcd

import (
	"bytes"
	"encoding/binary"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// maxNotes bounds the notes of one write, in bytes, maxWaiting those that wait to be written.
	maxNotes   = 64 << 10
	maxWaiting = 4 << 20
	// maxNames is to how many members a note can be.
	maxNames = 64
)

// notes are what is said beside votes: wants and last calls, and answers that are no votes. The value of one write is
//
//	format count name... note...     each name with its length
//	note: count index... length batch
//
// where the indexes are places of names, and none of them means all members. A note may be lost.
type notes struct {
	names []string
	all   []note
	size  int // of batches and names
}

// note is a batch for some members, or for all.
type note struct {
	to    []int // places in names
	batch fleet.Batch
}

// batchFor returns the batch that is open for these members, or a new one. It is nil if there is no room.
func (n *notes) batchFor(to []string) *fleet.Batch {
	if n.size > maxNotes-1024 || len(to) > maxNames {
		return nil
	}
	// Many targets have the same vantage points in small fleets, and few in large ones, so names are written once for all notes.
	places := make([]int, 0, len(to))
	for _, name := range to {
		places = append(places, n.place(name))
	}
	for i := range n.all {
		if equalPlaces(n.all[i].to, places) {
			return &n.all[i].batch
		}
	}
	n.size += 8 + len(places)
	n.all = append(n.all, note{places, fleet.Batch{Max: maxNotes}})
	return &n.all[len(n.all)-1].batch
}

func equalPlaces(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// place is where a name is in the list.
func (n *notes) place(name string) int {
	for i, known := range n.names {
		if known == name {
			return i
		}
	}
	n.size += len(name) + 1
	n.names = append(n.names, name)
	return len(n.names) - 1
}

// addTo has a function add to the batch for these members. It reports false if there is no room.
func (n *notes) addTo(to []string, entry func(b *fleet.Batch) bool) bool {
	b := n.batchFor(to)
	if b == nil {
		return false
	}
	before := len(b.Bytes())
	if !entry(b) {
		return false
	}
	n.size += len(b.Bytes()) - before
	return true
}

// encode writes the notes.
func (n *notes) encode() []byte {
	out := binary.AppendUvarint([]byte{format}, uint64(len(n.names)))
	for _, name := range n.names {
		out = append(binary.AppendUvarint(out, uint64(len(name))), name...)
	}
	for i := range n.all {
		out = binary.AppendUvarint(out, uint64(len(n.all[i].to)))
		for _, place := range n.all[i].to {
			out = binary.AppendUvarint(out, uint64(place))
		}
		batch := n.all[i].batch.Bytes()
		out = append(binary.AppendUvarint(out, uint64(len(batch))), batch...)
	}
	return out
}

// readNotes calls tell with each batch that is for a member. It reports whether the value makes sense; what comes before a fault in it
// counts.
func readNotes(data []byte, self string, tell func(batch []byte)) bool {
	if len(data) == 0 || data[0] != format {
		return false
	}
	count, size := binary.Uvarint(data[1:])
	if size <= 0 || count > uint64(len(data)) {
		return false
	}
	data = data[1+size:]
	// Only the place of this member matters: the others are skipped, however many a liar names.
	own := -1
	for i := range int(count) {
		name, rest, ok := cutBytes(data)
		if !ok {
			return false
		}
		if bytes.Equal(name, []byte(self)) {
			own = i
		}
		data = rest
	}
	for len(data) > 0 {
		to, size := binary.Uvarint(data)
		if size <= 0 || to > maxNames {
			return false
		}
		data = data[size:]
		forUs := to == 0
		for range to {
			place, size := binary.Uvarint(data)
			if size <= 0 {
				return false
			}
			data = data[size:]
			forUs = forUs || own >= 0 && place == uint64(own)
		}
		batch, rest, ok := cutBytes(data)
		if !ok {
			return false
		}
		data = rest
		if forUs && len(batch) > 0 {
			tell(batch)
		}
	}
	return true
}
