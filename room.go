package multivalue

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// maxAnnotated is how many different checks the annotations in one stanza may come to. Beyond, what a Service has stays
	// in force, and one that has nothing is judged by the stanza's checks; nothing that is in force makes room.
	maxAnnotated = 256
	// maxOfNamespace is how many of them the Services of one namespace may have, so that its owner leaves some to others.
	maxOfNamespace = maxAnnotated / 2
)

// bid is what a Service has of a stanza's checks by annotation, and what it wants.
type bid struct {
	service, namespace string
	has, wants         *CheckSpec // has is nil for nothing
	refused            string     // why it does not get what it wants
}

// bids lists what the Services want that the stanza judges. After a reload, nobody has what the stanza's table says, which is
// not there yet, but what was in force.
func (a *annotated) bids(known map[string]notice, judged map[string]bool, wrong map[string]string) (bids []*bid) {
	before := *a.table.Load()
	for _, service := range slices.Sorted(maps.Keys(known)) {
		if !a.judges(service) {
			continue
		}
		judged[service] = true
		notice := known[service]
		if notice.wrong != "" {
			wrong[service] = notice.wrong
		}
		if notice.check == nil {
			continue
		}
		b := &bid{service: service, namespace: service[strings.LastIndexByte(service, '.')+1:], wants: a.spec(notice.check)}
		if s := before[service]; s != nil {
			b.has = &s.checks[0]
		} else if before == nil && notice.held != nil {
			b.has = a.spec(notice.held)
		}
		bids = append(bids, b)
	}
	return bids
}

// room is what is taken of the checks that a stanza may have by annotation.
type room struct {
	takers map[verdict.Identity]int // Services that have a check
	shares map[share]int            // the same, of one namespace
	kinds  map[string]int           // different checks, by namespace
}

type share struct {
	namespace string
	check     verdict.Identity
}

func newRoom() *room {
	return &room{make(map[verdict.Identity]int), make(map[share]int), make(map[string]int)}
}

// take gives a Service of a namespace a check, or says why it does not.
func (r *room) take(namespace string, check *CheckSpec) (refused string) {
	of := share{namespace, check.identity}
	switch {
	case r.takers[of.check] == 0 && len(r.takers) == maxAnnotated:
		return fmt.Sprintf("there are %d different checks in annotations already: want one that another Service has", maxAnnotated)
	case r.shares[of] == 0 && r.kinds[namespace] == maxOfNamespace:
		return fmt.Sprintf("there are %d different checks in annotations of this namespace already: want one that another Service in it has", maxOfNamespace)
	case r.shares[of] == 0:
		r.kinds[namespace]++
	}
	r.takers[of.check]++
	r.shares[of]++
	return ""
}

// leave takes back what take gave.
func (r *room) leave(namespace string, check *CheckSpec) {
	of := share{namespace, check.identity}
	if r.shares[of]--; r.shares[of] == 0 {
		delete(r.shares, of)
		r.kinds[namespace]--
	}
	if r.takers[of.check]--; r.takers[of.check] == 0 {
		delete(r.takers, of.check)
	}
}

// grant gives every Service what it wants, as far as there is room. What they have comes first, so that nothing new takes its
// place; then edits, each of which may leave what another waits for; then those that have nothing.
func (r *room) grant(bids []*bid) {
	for _, b := range bids {
		if b.has != nil && r.take(b.namespace, b.has) != "" {
			b.has = nil // a reload has put into one stanza what was in several
		}
	}
	for moved := true; moved; {
		moved = false
		for _, b := range bids {
			moved = b.has != nil && b.has.identity != b.wants.identity && r.move(b) || moved
		}
	}
	for _, b := range bids {
		if b.has == nil {
			if b.refused = r.take(b.namespace, b.wants); b.refused == "" {
				b.has = b.wants
			}
		}
	}
}

// move gives a Service what it wants in the place of what it has, which it keeps if there is no room.
func (r *room) move(b *bid) bool {
	r.leave(b.namespace, b.has)
	if b.refused = r.take(b.namespace, b.wants); b.refused != "" {
		r.take(b.namespace, b.has)
		return false
	}
	b.has = b.wants
	return true
}
