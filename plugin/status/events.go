package status

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// eventEvery is how often a stream looks for what is new.
const eventEvery = time.Second

// streamFor is how long a stream lasts, and streamSpread what is added by chance. Browsers come again, and those who were
// turned away have their turn.
const (
	streamFor    = 5 * time.Minute
	streamSpread = time.Minute
)

// events is a stream of server-sent events: a tick for each look, with the summary's counts, and before it a change for each
// target that went down or came up since the last one. A look that fails has no tick: what is shown then is old.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d others follow what changes, and there is no room for more", maxStreams))
		return
	}
	shot := s.snapshot(w, r)
	if shot == nil {
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // else the end of readWithin would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	seen := latest(shot)
	ticker := time.NewTicker(eventEvery)
	defer ticker.Stop()
	over := time.NewTimer(streamFor + rand.N(streamSpread))
	defer over.Stop()
	for {
		if shot != nil {
			_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
			if seen = tell(w, shot, seen); out.Flush() != nil {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-s.quit:
			return
		case <-over.C:
			return
		case <-r.Context().Done():
			return
		}
		shot, _ = s.source.Snapshot(r.Context()) // nil if the source does not say
	}
}

// latest is the number of the last change.
func latest(shot *Snapshot) uint64 {
	if n := len(shot.Changes); n > 0 {
		return shot.Changes[n-1].Number
	}
	return 0
}

// tell writes what is new, and returns the number of the last change that is told.
func tell(w http.ResponseWriter, shot *Snapshot, seen uint64) uint64 {
	for _, c := range shot.Changes {
		if c.Number > seen {
			event(w, "change", c)
		}
	}
	event(w, "tick", map[string]int{"up": shot.Summary.Up, "down": shot.Summary.Down, "unknown": shot.Summary.Unknown})
	return latest(shot)
}

// event writes one. JSON has no line breaks of its own.
func event(w http.ResponseWriter, kind string, v any) {
	if data, err := json.Marshal(v); err == nil {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, data)
	}
}
