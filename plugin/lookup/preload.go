package lookup

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/miekg/dns"
)

var log = clog.NewWithPlugin("multivalue")

const (
	// preloadEvery is how often zones are read again, and their addresses shown to the pool; preloadRetry the same while a
	// zone is missing.
	preloadEvery = time.Minute
	preloadRetry = time.Second
	// preloadStep is how many addresses are shown to the pool at a time, preloadPause the pause between.
	preloadStep  = 1024
	preloadPause = 5 * time.Millisecond
)

// Transferer is a plugin that can list a zone: first the start of authority, then all records, on a channel that has to be
// read to its end; only the former, if the serial is the zone's. See the plugin *transfer*.
type Transferer interface {
	Transfer(zone string, serial uint32) (<-chan []dns.RR, error)
}

// Transferers returns the plugins among the handlers that list a zone from memory: *file*, *auto* and *secondary*.
// *kubernetes* could too, but walks the whole cluster.
func Transferers(handlers []plugin.Handler) (sources []Transferer) {
	for _, h := range handlers {
		if source, ok := h.(Transferer); ok && slices.Contains([]string{"file", "auto", "secondary"}, h.Name()) {
			sources = append(sources, source)
		}
	}
	return sources
}

// zoneList is a zone to preload.
type zoneList struct {
	zone    string
	sources []Transferer
	serial  uint32
	answers []*dns.Msg // its sets, as they would be answered
	sets    *zoneSets
	due     time.Time
	wait    time.Duration // after a failure; 0 after none
}

// zoneRead is what readiness needs to know of a zone that was read.
type zoneRead struct {
	zone    string
	unknown []*dns.Msg // sets with an address that has no verdict
}

// Preload has the addresses of all names in the zones learned, from these sources. Readiness may wait for their first verdicts
// for as long as limit. It is called before Start.
func (l *Resolver) Preload(zones []string, sources []Transferer, limit time.Duration) {
	for _, zone := range zones {
		l.awaitFirst(limit).zones[zone] = true
		sets := l.adopted[zone]
		if sets == nil {
			sets = &zoneSets{gone: make(map[Question]time.Time)}
		}
		l.zones = append(l.zones, zoneList{zone: zone, sources: sources, sets: sets})
	}
}

// preload reads the zones again and again, until the resolver is closed.
func (l *Resolver) preload() {
	for {
		for i := range l.zones {
			if x := &l.zones[i]; !time.Now().Before(x.due) {
				x.schedule(l.readZone(x), time.Now())
			}
		}
		select {
		case <-l.quit:
			return
		case <-time.After(preloadRetry):
		}
	}
}

// schedule says when to read a zone again. One that does not exist yet, such as a zone that is being transferred, is tried
// again soon, and then less and less often.
func (x *zoneList) schedule(exists bool, now time.Time) {
	if exists {
		x.wait, x.due = 0, now.Add(preloadEvery)
		return
	}
	if x.wait == 0 {
		log.Warningf("preload: no plugin of the server block lists the zone %s yet", x.zone)
	}
	x.wait = min(max(preloadRetry, 2*x.wait), preloadEvery)
	x.due = now.Add(x.wait)
}

// readZone reads a zone, if that has changed, and shows its addresses to the pool. It reports whether the zone exists.
func (l *Resolver) readZone(x *zoneList) bool {
	defer rescue.Log("preloading " + x.zone)
	records, serial, ok := x.transfer()
	if !ok {
		return false // its addresses are forgotten like any others
	}
	now := time.Now()
	if serial != x.serial || len(records) > 1 {
		x.serial, x.answers = serial, l.host.Sets(x.zone, records)
		x.sets.compare(x.answers, now)
	}
	x.sets.report(l.host, now)
	unknown, whole := l.show(x.answers)
	if whole && l.first.waiting() {
		select {
		case l.listed <- zoneRead{x.zone, unknown}:
		case <-l.quit:
		}
	}
	return true
}

// show shows the addresses of sets to the pool, at its speed. It returns the sets with an address that has no verdict, and
// false if the resolver was closed before all were shown.
func (l *Resolver) show(sets []*dns.Msg) (unknown []*dns.Msg, whole bool) {
	shown := 0
	for _, m := range sets {
		if l.host.Judge(m) > 0 {
			unknown = append(unknown, m)
		}
		if shown += len(m.Answer); shown < preloadStep {
			continue
		}
		if shown = 0; !l.pause() {
			return nil, false
		}
	}
	return unknown, true
}

// pause lets the pool catch up: what finds its inbox full is lost until the next time. It returns false when the resolver
// is closed.
func (l *Resolver) pause() bool {
	for {
		select {
		case <-l.quit:
			return false
		case <-time.After(preloadPause):
		}
		if l.host.Backlog() < preloadStep {
			return true
		}
	}
}

// transfer asks the sources for the zone, or for the one above that holds it.
func (x *zoneList) transfer() (records []dns.RR, serial uint32, ok bool) {
	for _, source := range x.sources {
		for off, end := 0, false; !end; off, end = dns.NextLabel(x.zone, off) {
			channel, err := source.Transfer(x.zone[off:], x.serial)
			if err != nil {
				continue
			}
			records = nil
			for rrs := range channel {
				records = append(records, rrs...)
			}
			if len(records) > 0 {
				if soa, isSOA := records[0].(*dns.SOA); isSOA {
					return records, soa.Serial, true
				}
			}
		}
	}
	return nil, 0, false
}
