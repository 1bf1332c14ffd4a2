package web

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
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
// target that went down or came up since the last one, or since the one that Last-Event-ID has. A look that fails has no tick: what is shown then is old.
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
	seen, err := resumed(r, shot)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // else the end of readWithin would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
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

// resumed is the number of the last change that whoever asks has seen: a browser that comes again says it.
func resumed(r *http.Request, shot *status.Snapshot) (uint64, error) {
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		return numberOf("Last-Event-ID", text)
	}
	return shot.LastChange(), nil
}

// tell writes what is new, and returns the number of the last change that is told. Of changes that are kept no longer it tells
// how many there were.
func tell(w http.ResponseWriter, shot *status.Snapshot, seen uint64) uint64 {
	news, lost := shot.ChangesAfter(seen)
	if lost > 0 {
		event(w, "lost", shot.LastChange()-uint64(len(news)), map[string]uint64{"lost": lost})
	}
	for _, c := range news {
		event(w, "change", c.Number, c)
	}
	event(w, "tick", shot.LastChange(), map[string]int{"up": shot.Summary.Up, "down": shot.Summary.Down, "unknown": shot.Summary.Unknown})
	return shot.LastChange()
}

// event writes one, with the number of the last change that is told by then. JSON has no line breaks of its own.
func event(w http.ResponseWriter, kind string, id uint64, v any) {
	if data, err := json.Marshal(v); err == nil {
		fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", id, kind, data)
	}
}
