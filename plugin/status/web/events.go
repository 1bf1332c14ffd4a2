package web

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// tickInterval is the time between two ticks of a stream.
const tickInterval = time.Second

// streamDuration is how long a stream lasts, and streamJitter the greatest random time that is added. Browsers reconnect by
// themselves, and clients that were refused get their turn. The jitter keeps browsers from reconnecting all at once.
const (
	streamDuration = 5 * time.Minute
	streamJitter   = time.Minute
)

// serveEvents answers /events with a stream of server-sent events. Each tickInterval it sends the counts of the summary as a
// tick, and before it one change for each target whose state changed since the tick before, or since the event in the header
// Last-Event-ID. If the source fails there is no tick, so a client without ticks knows that what it shows is old.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default: // refused at once, so that a browser says so and tries again later
		w.Header().Set("Retry-After", "10")
		writeError(w, http.StatusServiceUnavailable, fmt.Sprintf("too many streams: the limit is %d, retry later", maxStreams))
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
	_ = out.SetReadDeadline(time.Time{}) // otherwise readTimeout would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead { // the headers are all
		return
	}
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	over := time.NewTimer(streamDuration + rand.N(streamJitter))
	defer over.Stop()
	// The first tick is sent at once, with what the client has missed.
	for {
		if snap != nil {
			// Each write has its own deadline. A client that stops reading fails the flush, and frees its place.
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if seen = writeEvents(w, snap, seen); out.Flush() != nil {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-s.quit: // a proper end of the response, not a cut connection
			return
		case <-over.C: // the client reconnects, if it still wants to know
			return
		case <-r.Context().Done():
			return
		}
		snap, _ = s.source.Snapshot(r.Context()) // nil if the source fails
	}
}

// lastSeen returns the number of the last change that the client knows. A browser that reconnects sends it; a new client
// gets only changes from now on.
func lastSeen(r *http.Request, snap *status.Snapshot) (uint64, error) {
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		return parseChangeNumber("Last-Event-ID", text)
	}
	return snap.LastChange(), nil
}

// writeEvents writes the changes after the one that was seen last, and a tick. It returns the number of the last change written.
// If some of the changes are no longer kept, it writes how many as the event lost.
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

// writeEvent writes one event, with the number of the last change up to it as id. The data is one line: JSON escapes line breaks.
func writeEvent(w http.ResponseWriter, kind string, id uint64, v any) {
	if data, err := json.Marshal(v); err == nil {
		fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", id, kind, data)
	}
}
