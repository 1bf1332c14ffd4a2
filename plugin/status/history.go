package status

import (
	"encoding/json"
	"time"
)

// HistoryLength is how many probes a History keeps.
const HistoryLength = 32

// History is a ring of the latest probes of one target: how long each took, and whether it failed. It takes 4 bytes a
// probe, since there may be 100,000 targets. The zero value is empty. It is a plain value: a copy is a snapshot.
type History struct {
	ring  [HistoryLength]uint32 // microseconds in the lower 31 bits, failedBit above them
	count uint16                // up to HistoryLength
	next  uint16                // where the next probe goes, in the place of the oldest if the ring is full
}

// failedBit marks a failed probe. What is below it holds 35 minutes, far more than the greatest timeout.
const failedBit = 1 << 31

// Add adds a probe. Durations are cut to whole microseconds.
func (h *History) Add(took time.Duration, failed bool) {
	raw := uint32(min(max(0, took.Microseconds()), failedBit-1))
	if failed {
		raw |= failedBit
	}
	h.ring[h.next] = raw
	h.next = (h.next + 1) % HistoryLength
	h.count = min(h.count+1, HistoryLength)
}

// Probe is one probe of a History.
type Probe struct {
	Seconds float64 `json:"seconds"`
	Failed  bool    `json:"failed"`
}

// Probes returns the probes, the latest last.
func (h *History) Probes() []Probe {
	probes := make([]Probe, 0, h.count)
	for i := range h.count {
		raw := h.ring[(h.next+HistoryLength-h.count+i)%HistoryLength]
		probes = append(probes, Probe{Seconds: float64(raw&^failedBit) / 1e6, Failed: raw&failedBit != 0})
	}
	return probes
}

// Last returns the latest probe, and false if there is none.
func (h *History) Last() (p Probe, ok bool) {
	if h.count == 0 {
		return Probe{}, false
	}
	all := h.Probes()
	return all[len(all)-1], true
}

// MarshalJSON writes the probes as a list, the latest last.
func (h History) MarshalJSON() ([]byte, error) { return json.Marshal(h.Probes()) }
