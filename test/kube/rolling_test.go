//go:build linux

package kube

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

// The five hundred endpoints of a Service, in slices of fifty, are replaced slice by slice while clients ask. Some of
// them are dead throughout. No query is lost, and no answer is empty, has an address that is known to be dead, or has
// an address that is not an endpoint at that time (B79).
func TestRolling(t *testing.T) {
	s := newScene(t)
	r := &rollout{scene: s, since: make(map[string]time.Time), until: make(map[string]time.Time), seen: make(map[string]bool)}
	s.apply(headless("fleet"))
	for part := range parts {
		r.replace(part, 1)
	}
	s.start("")
	s.settled("fleet", parts*(each-1), parts)

	l := s.load(3, "fleet", r.judge)
	l.goesOn(300)
	for part := range parts {
		r.replace(part, 2)
		l.goesOn(100)
	}
	r.complete(l)
	l.ends()
}

// The endpoints are in this number of slices, with this number in each.
const parts, each = 10, 50

// slack is the time from a change in the API to the answers, on a busy machine.
const slack = 5 * time.Second

// rollout records from when and until when an address was an endpoint, and which addresses were in answers recently.
type rollout struct {
	*scene
	mu           sync.Mutex
	since, until map[string]time.Time
	seen         map[string]bool
}

// member returns an address of a version of a part. The first address of each part is dead.
func member(version, part, i int) string { return fmt.Sprintf("198.18.%d.%d", 100*version+part, i+1) }

// replace replaces a version of a part with the next one, as a Deployment does: the new backends run before they are
// endpoints, and the old ones until they no longer are.
func (r *rollout) replace(part, version int) {
	r.Helper()
	var fresh, old []string
	for i := range each {
		fresh = append(fresh, member(version, part, i))
		if version > 1 {
			old = append(old, member(version-1, part, i))
		}
	}
	r.serve(fresh[1:]...) // the first address is dead
	r.note(r.since, fresh)
	r.apply(slice("fleet", fmt.Sprintf("fleet-%d", part), fresh...))
	r.note(r.until, old)
	if old != nil {
		r.stop(old[1:]...)
	}
}

func (r *rollout) note(times map[string]time.Time, addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range addresses {
		times[address] = time.Now()
	}
}

// judge requires that all addresses are endpoints, or were until recently, and are not known to be dead.
func (r *rollout) judge(sent time.Time, data []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(data) != 8 {
		return fmt.Errorf("%d addresses, want the limit", len(data))
	}
	for _, address := range data {
		since, known := r.since[address]
		until, left := r.until[address]
		switch {
		case !known:
			return fmt.Errorf("%s was never an endpoint", address)
		case left && sent.After(until.Add(slack)):
			return fmt.Errorf("%s has not been an endpoint for %s", address, sent.Sub(until))
		case dead(address) && sent.After(since.Add(slack+soon)):
			return fmt.Errorf("%s has been dead for %s", address, sent.Sub(since))
		}
		r.seen[address] = true
	}
	return nil
}

func dead(address string) bool { return strings.HasSuffix(address, ".1") }

// window returns the addresses in the next answers, which are so many that few are missing by chance.
func (r *rollout) window(l *load) map[string]bool {
	r.mu.Lock()
	r.seen = make(map[string]bool)
	r.mu.Unlock()
	l.goesOn(400)
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

// complete waits until the answers have only healthy endpoints of the second version, and then for each of these.
func (r *rollout) complete(l *load) {
	r.Helper()
	missing := make(map[string]bool)
	for part := range parts {
		for i := range each - 1 {
			missing[member(2, part, i+1)] = true
		}
	}
	began, living := time.Now(), maps.Clone(missing)
	only := func(seen map[string]bool) bool {
		for address := range seen {
			if !living[address] {
				return false
			}
			delete(missing, address)
		}
		return true
	}
	r.eventually(slack+soon, func() bool { return only(r.window(l)) }, func() string { return "old or dead addresses do not leave" })
	r.Logf("the answers have only new endpoints %s after the last change", time.Since(began).Round(time.Millisecond))
	r.eventually(2*patience, func() bool {
		if !only(r.window(l)) {
			r.Fatal("old or dead addresses are back")
		}
		return len(missing) == 0
	}, func() string { return fmt.Sprintf("%d endpoints are in no answer", len(missing)) })
}
