package status

import (
	"encoding/json"
	"time"
)

// HistoryLength is how many probes a history has.
const HistoryLength = 32

// History is how long the last probes of a target took, and which failed. It takes 4 bytes a probe. Its zero value is empty.
type History struct {
	ring  [HistoryLength]uint32 // microseconds, and whether it failed in the highest bit
	count uint16                // up to HistoryLength
	next  uint16
}

const failedBit = 1 << 31

// Add adds a probe, in the place of the oldest one if there is no more room.
func (h *History) Add(took time.Duration, failed bool) {
	raw := uint32(min(max(0, took.Microseconds()), failedBit-1))
	if failed {
		raw |= failedBit
	}
	h.ring[h.next] = raw
	h.next = (h.next + 1) % HistoryLength
	h.count = min(h.count+1, HistoryLength)
}

// Probe is one of them.
type Probe struct {
	Seconds float64 `json:"seconds"`
	Failed  bool    `json:"failed"`
}

// Probes lists them, the latest last.
func (h *History) Probes() []Probe {
	probes := make([]Probe, 0, h.count)
	for i := range h.count {
		raw := h.ring[(h.next+HistoryLength-h.count+i)%HistoryLength]
		probes = append(probes, Probe{Seconds: float64(raw&^failedBit) / 1e6, Failed: raw&failedBit != 0})
	}
	return probes
}

// Last is the latest one, if there is any.
func (h *History) Last() (p Probe, ok bool) {
	if h.count == 0 {
		return Probe{}, false
	}
	all := h.Probes()
	return all[len(all)-1], true
}

// MarshalJSON writes the list.
func (h History) MarshalJSON() ([]byte, error) { return json.Marshal(h.Probes()) }
