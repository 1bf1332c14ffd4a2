package annotation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

const (
	// maxChecks is how many different checks the annotations for one stanza may come to. Beyond it, what a Service has
	// stays in force, and one that has nothing is judged by the stanza's checks; nothing that is in force makes room.
	maxChecks = 256
	// maxOfNamespace is how many of them the Services of one namespace may have, so that its owner leaves some to others.
	maxOfNamespace = maxChecks / 2
)

// claim is which of a stanza's checks a Service has by annotation, and which it wants.
type claim struct {
	service, namespace string
	has, wants         *check.Check // has is nil for none
	refused            string       // why it does not get what it wants
}

// assign returns the checks that the Services of a stanza get. It adds the Services that the stanza judges, and what is
// wrong with some: an annotation that is wrong, or one for which there is no room.
func assign(s Subscriber, all map[string]known, judged map[string]bool, wrong map[string]string) map[string]*check.Check {
	claims := claimsOf(s, all, judged, wrong)
	newQuota().grantAll(claims)
	next := make(map[string]*check.Check)
	for _, c := range claims {
		if c.refused != "" && wrong[c.service] == "" {
			wrong[c.service] = c.refused
		}
		if c.has != nil {
			next[c.service] = c.has
		}
	}
	return next
}

// claimsOf lists what the Services want that the stanza judges. After a reload the stanza has no checks yet: then a Service
// has what was in force of it.
func claimsOf(s Subscriber, all map[string]known, judged map[string]bool, wrong map[string]string) (claims []*claim) {
	before := s.Current()
	for _, service := range slices.Sorted(maps.Keys(all)) {
		if !s.Judges(service) {
			continue
		}
		judged[service] = true
		k := all[service]
		if k.wrong != "" {
			wrong[service] = k.wrong
		}
		if k.check == nil {
			continue
		}
		c := &claim{service: service, namespace: service[strings.LastIndexByte(service, '.')+1:], wants: k.check}
		if before == nil {
			c.has = k.inForce
		} else {
			c.has = before[service]
		}
		claims = append(claims, c)
	}
	return claims
}

// quota is what is taken of the checks that a stanza may have by annotation. Checks are told apart by their texts, since
// an annotation holds no secret.
type quota struct {
	takers map[string]int       // Services that have a check
	uses   map[namespaceUse]int // the same, of one namespace
	checks map[string]int       // different checks, by namespace
}

type namespaceUse struct{ namespace, check string }

func newQuota() *quota {
	return &quota{make(map[string]int), make(map[namespaceUse]int), make(map[string]int)}
}

// take gives a Service of a namespace a check, or says why it does not.
func (r *quota) take(namespace string, c *check.Check) (refused string) {
	use := namespaceUse{namespace, c.String()}
	switch {
	case r.takers[use.check] == 0 && len(r.takers) == maxChecks:
		return fmt.Sprintf("annotations already name %d different checks: use one that another Service has", maxChecks)
	case r.uses[use] == 0 && r.checks[namespace] == maxOfNamespace:
		return fmt.Sprintf("annotations in this namespace already name %d different checks: use one that another Service in it has", maxOfNamespace)
	case r.uses[use] == 0:
		r.checks[namespace]++
	}
	r.takers[use.check]++
	r.uses[use]++
	return ""
}

// giveBack undoes take.
func (r *quota) giveBack(namespace string, c *check.Check) {
	use := namespaceUse{namespace, c.String()}
	if r.uses[use]--; r.uses[use] == 0 {
		delete(r.uses, use)
		r.checks[namespace]--
	}
	if r.takers[use.check]--; r.takers[use.check] == 0 {
		delete(r.takers, use.check)
	}
}

// grantAll gives every Service what it wants, as far as there is room. What they have comes first, so that nothing new
// takes its place; then edits, each of which may leave what another waits for; then those that have nothing.
func (r *quota) grantAll(claims []*claim) {
	for _, c := range claims {
		if c.has != nil && r.take(c.namespace, c.has) != "" {
			c.has = nil // a reload has put into one stanza what was in several
		}
	}
	for moved := true; moved; {
		moved = false
		for _, c := range claims {
			moved = c.has != nil && c.has.String() != c.wants.String() && r.exchange(c) || moved
		}
	}
	for _, c := range claims {
		if c.has == nil {
			if c.refused = r.take(c.namespace, c.wants); c.refused == "" {
				c.has = c.wants
			}
		}
	}
}

// exchange gives a Service what it wants in place of what it has, which it keeps if there is no room.
func (r *quota) exchange(c *claim) bool {
	r.giveBack(c.namespace, c.has)
	if c.refused = r.take(c.namespace, c.wants); c.refused != "" {
		r.take(c.namespace, c.has)
		return false
	}
	c.has = c.wants
	return true
}
