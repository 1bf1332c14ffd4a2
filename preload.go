package multivalue

import (
	"fmt"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

const (
	// preloadEvery is how often zones are read again, and their addresses asked for; preloadRetry while one is missing.
	preloadEvery = time.Minute
	preloadRetry = time.Second
	// preloadStep is how many addresses are handed to the pool at a time, preloadRest the pause between.
	preloadStep = maxRequests / 4
	preloadRest = 5 * time.Millisecond
)

// lister is a plugin that can list a zone: after the start of authority come all records, on a channel that has to be
// read to its end; just the former, if the serial is the zone's. See the plugin transfer.
type lister interface {
	Transfer(zone string, serial uint32) (<-chan []dns.RR, error)
}

// listers are the plugins that list a zone from memory. kubernetes could too, but walks the whole cluster.
var listers = []string{"file", "auto", "secondary"}

// list is a zone of a stanza to preload.
type list struct {
	zone    string
	stanza  *stanza
	sources []lister
	serial  uint32
	answers []*dns.Msg // its sets, as they would be answered
	due     time.Time
	wait    time.Duration // after a failure; 0 after none
}

// listsFor are the zones of a stanza that wants to be preloaded.
func listsFor(s *parsedStanza, handlers []plugin.Handler) ([]list, error) {
	var sources []lister
	for _, h := range handlers {
		if source, ok := h.(lister); ok && slices.Contains(listers, h.Name()) {
			sources = append(sources, source)
		}
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("%s - preload needs a plugin in the server block that can list its zone: want file, auto or secondary, or watch with the names", s.at)
	}
	var lists []list
	for _, zone := range s.zones {
		lists = append(lists, list{zone: zone, stanza: &s.stanza, sources: sources})
	}
	return lists, nil
}

// list finds the zones to preload. It is called before the learner starts.
func (l *learner) list(stanzas []*parsedStanza, handlers []plugin.Handler) error {
	for _, s := range stanzas {
		if !s.preload {
			continue
		}
		lists, err := listsFor(s, handlers)
		if err != nil {
			return err
		}
		l.lists = append(l.lists, lists...)
	}
	return nil
}

// preload reads the zones again and again, until the learner is closed.
func (l *learner) preload() {
	for {
		for i := range l.lists {
			if x := &l.lists[i]; !time.Now().Before(x.due) {
				x.plan(l.refresh(x), time.Now())
			}
		}
		select {
		case <-l.quit:
			return
		case <-time.After(preloadRetry):
		}
	}
}

// plan says when to read a zone again. One that is not there yet, such as a zone that is being transferred, is tried
// again soon, and then less and less often.
func (x *list) plan(there bool, now time.Time) {
	if there {
		x.wait, x.due = 0, now.Add(preloadEvery)
		return
	}
	if x.wait == 0 {
		log.Warningf("preload: no plugin of the server block lists the zone %s yet", x.zone)
	}
	x.wait = min(max(preloadRetry, 2*x.wait), preloadEvery)
	x.due = now.Add(x.wait)
}

// refresh reads a zone, if that has changed, and hands its addresses to the pool. It reports whether the zone is there.
func (l *learner) refresh(x *list) bool {
	defer rescue.Log("preloading " + x.zone)
	records, serial, ok := x.read()
	if !ok {
		return false // what is gone from here is forgotten like any other
	}
	if serial != x.serial || len(records) > 1 {
		x.serial, x.answers = serial, x.sets(l.block, records)
	}
	handed := 0
	for _, m := range x.answers {
		l.teach(m)
		if handed += len(m.Answer); handed < preloadStep {
			continue
		}
		if handed = 0; !x.rest(l.quit) {
			break
		}
	}
	return true
}

// rest lets the pool catch up: what finds its inbox full is lost until the next time. It returns false on the learner's end.
func (x *list) rest(quit <-chan struct{}) bool {
	for {
		select {
		case <-quit:
			return false
		case <-time.After(preloadRest):
		}
		if len(x.stanza.pool.requests) < preloadStep {
			return true
		}
	}
}

// read asks the sources for the zone, or for the one above that holds it.
func (x *list) read() (records []dns.RR, serial uint32, ok bool) {
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

// sets makes an answer of each set that the stanza judges. What lies below a zone cut is not the zone's to answer with, and
// a set that a signature covers stays whole whatever its health is: neither is worth a probe.
func (x *list) sets(b *block, records []dns.RR) []*dns.Msg {
	byQuestion := make(map[question]*dns.Msg)
	cuts, signed := landmarks(records)
	var answers []*dns.Msg
	for _, rr := range records {
		h := rr.Header()
		if z := b.zones.find(h.Name); !x.stanza.rule.Types.Has(h.Rrtype) || z == nil || z.stanza != x.stanza {
			continue
		}
		q := question{h.Name, h.Rrtype}
		if signed[q] || belowCut(h.Name, cuts) {
			continue
		}
		m := byQuestion[q]
		if m == nil {
			m = new(dns.Msg)
			m.SetQuestion(q.name, q.qtype)
			byQuestion[q] = m
			answers = append(answers, m)
		}
		m.Answer = append(m.Answer, rr)
	}
	return answers
}

// landmarks finds the zone cuts in a zone, and the sets in it that signatures cover.
func landmarks(records []dns.RR) (cuts map[string]bool, signed map[question]bool) {
	cuts, signed = make(map[string]bool), make(map[question]bool)
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.NS:
			cuts[rr.Hdr.Name] = rr.Hdr.Name != records[0].Header().Name
		case *dns.RRSIG:
			signed[question{rr.Hdr.Name, rr.TypeCovered}] = true
		}
	}
	return cuts, signed
}

func belowCut(name string, cuts map[string]bool) bool {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if cuts[name[off:]] {
			return true
		}
	}
	return false
}
