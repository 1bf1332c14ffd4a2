package web

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// tickInterval is how often a stream looks for what is new.
const tickInterval = time.Second

// streamDuration is how long a stream lasts, and streamSpread what is added by chance. Browsers come again, and those who were
// turned away have their turn.
const (
	streamDuration = 5 * time.Minute
	streamJitter   = time.Minute
)

// serveEvents is a stream of server-sent events: a tick for each look, with the summary's counts, and before it a change for each
// target that went down or came up since the last one, or since the one that Last-Event-ID has. A look that fails has no tick: what is shown then is old.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		writeError(w, http.StatusServiceUnavailable, fmt.Sprintf("%d others follow what changes, and there is no room for more", maxStreams))
		return
	}
	snap := s.loadSnapshot(w, r)
	if snap == nil {
		return
	}
	seen, err := lastSeen(r, snap)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // else the end of readWithin would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	over := time.NewTimer(streamDuration + rand.N(streamJitter))
	defer over.Stop()
	for {
		if snap != nil {
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if seen = writeEvents(w, snap, seen); out.Flush() != nil {
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
		snap, _ = s.source.Snapshot(r.Context()) // nil if the source does not say
	}
}

// lastSeen is the number of the last change that whoever asks has seen: a browser that comes again says it.
func lastSeen(r *http.Request, snap *status.Snapshot) (uint64, error) {
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		return parseChangeNumber("Last-Event-ID", text)
	}
	return snap.LastChange(), nil
}

// writeEvents writes what is new, and returns the number of the last change that is told. Of changes that are kept no longer it tells
// how many there were.
func writeEvents(w http.ResponseWriter, snap *status.Snapshot, seen uint64) uint64 {
	news, lost := snap.ChangesAfter(seen)
	if lost > 0 {
		writeEvent(w, "lost", snap.LastChange()-uint64(len(news)), map[string]uint64{"lost": lost})
	}
	for _, c := range news {
		writeEvent(w, "change", c.Number, c)
	}
	writeEvent(w, "tick", snap.LastChange(), map[string]int{"up": snap.Summary.Up, "down": snap.Summary.Down, "unknown": snap.Summary.Unknown})
	return snap.LastChange()
}

// writeEvent writes one, with the number of the last change that is told by then. JSON has no line breaks of its own.
func writeEvent(w http.ResponseWriter, kind string, id uint64, v any) {
	if data, err := json.Marshal(v); err == nil {
		fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", id, kind, data)
	}
}
