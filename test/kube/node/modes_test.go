//go:build linux

package node

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// way is a mode of running multivalue in a cluster, as it was installed: by kustomize or by the chart.
type way struct {
	*scene
	namespace, deployment, selector string
	upgrade, rollback               func()        // to the second image, and back to the first
	notes                           func() string // what users read
	watches                         bool          // a new CoreDNS knows who is dead before it is asked
}

// Each mode is installed by kustomize and by the chart, and answers right throughout: a Pod that dies leaves the answers
// within the bound. In an upgrade to another image, and on the way back, it is only in the first answers of each new
// CoreDNS, and in none with watch. The status page shows it. No query is lost (B82, B83). The modes that replace the
// cluster's DNS run one after the other, and those beside it at the same time.
func TestModes(t *testing.T) {
	type one struct {
		name    string
		install func(*scene) *way
	}
	for _, group := range []struct {
		name, asker string
		ways        []one
	}{
		{"beside", "another", []one{{"kustomize", besideByKustomize}, {"chart", besideByChart}}},
		{"instead", "client", []one{{"cluster-dns-kustomize", clusterDNSByKustomize}, {"cluster-dns-chart", clusterDNSByChart},
			{"existing-kustomize", existingByKustomize}, {"existing-chart", existingByChart}}},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, way := range group.ways {
				t.Run(way.name, func(t *testing.T) { answersRight(t, group.asker, way.install) })
			}
		})
	}
}

func answersRight(t *testing.T, asker string, install func(*scene) *way) {
	s := newScene(t)
	s.asker = asker
	pods := s.serviceOf(2)
	w := install(s)
	w.load()
	w.loses(pods[0], pods[1])
	defer w.goesOn(pods[0])
	w.showsDown(pods[0], w.notes(), w.namespace, "deployment/"+w.deployment, "9253")
	w.changes("the upgrade", w.upgrade, "test.invalid/coredns:2", pods[0], pods[1])
	w.changes("the rollback", w.rollback, "test.invalid/coredns:1", pods[0], pods[1])
	w.loaded()
	w.comesTo(w.service, addresses(pods[1])...)
	w.goesOn(pods[0])
	w.comesTo(w.service, addresses(pods...)...)
}

// installed waits until a new installation has these answers, and logs how long that took.
func (w *way) installed(began time.Time, want ...string) *way {
	w.Helper()
	w.comesTo(w.service, want...)
	w.Logf("installed after %s", time.Since(began).Round(100*time.Millisecond))
	return w
}

// loses stops a Pod, and requires that it leaves the answers within the bound.
func (w *way) loses(dead, living pod) {
	w.Helper()
	w.answered(true)
	began := time.Now()
	w.hangs(dead)
	_, last := w.without(dead, living)
	took := last.Sub(began)
	w.Logf("a Pod that dies was in answers for %s; the manual promises %s", took.Round(100*time.Millisecond), bound)
	if took > soon {
		w.Errorf("the Pod left the answers after %s", took)
	}
}

// without waits until the answers are without a Pod, whichever CoreDNS gives them, and returns when the first and the
// last queries were sent whose answers had it since the last call.
func (w *way) without(dead, living pod) (first, last time.Time) {
	w.Helper()
	w.eventually(func() bool {
		before := w.answered(false)[living.addresses[0]].count
		w.eventually(func() bool { return w.answered(false)[living.addresses[0]].count > before+200 }, func() string { return "no answer has the Pod that lives" })
		all := w.answered(true)
		for address := range all {
			if !slices.Contains(addresses(dead, living), address) {
				w.Errorf("%s is no Pod of the Service", address)
			}
		}
		it, was := all[dead.addresses[0]]
		if was {
			last = it.last
			if first.IsZero() {
				first = it.first
			}
		}
		return !was
	}, func() string { return "the dead Pod stays in the answers" })
	return first, last
}

// changes replaces all CoreDNS by ones with another image. The dead Pod is in no answer but the first ones of these.
func (w *way) changes(what string, change func(), image string, dead, living pod) {
	w.Helper()
	w.answered(true)
	old, began := w.pods(w.namespace, w.selector), time.Now()
	change()
	w.kubectl("-n", w.namespace, "rollout", "status", "deployment/"+w.deployment, "--timeout=120s")
	took := time.Since(began)
	if got := w.kubectl("-n", w.namespace, "get", "deployment", w.deployment, "-o=jsonpath={.spec.template.spec.containers[*].image}"); got != image {
		w.Errorf("after %s the image is %s", what, got)
	}
	w.eventually(func() bool { return w.gone(w.namespace, old) }, func() string { return "the old Pods do not end" })
	first, last := w.without(dead, living) // whose last answers are of new ones alone
	w.Logf("%s took %s; the dead Pod was in answers for %s of it", what, took.Round(100*time.Millisecond), last.Sub(first).Round(100*time.Millisecond))
	if first.IsZero() {
		return
	}
	if w.watches {
		w.Error("with watch, a new CoreDNS that is ready knows that the Pod is dead")
	}
	ready := w.ready(old)
	if begins := ready[0]; first.Before(begins) {
		w.Errorf("the dead Pod was in an answer %s before a new CoreDNS was ready", begins.Sub(first))
	}
	if ends := ready[len(ready)-1].Add(time.Second); last.After(ends.Add(soon)) { // Kubernetes gives whole seconds
		w.Errorf("the dead Pod was in an answer %s after the last CoreDNS was ready", last.Sub(ends))
	}
}

// ready returns when each CoreDNS that is not one of these became ready, sorted.
func (w *way) ready(old []pod) (all []time.Time) {
	w.Helper()
	out := w.kubectl("-n", w.namespace, "get", "pods", "-l", w.selector,
		`-o=jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].lastTransitionTime}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		name, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.ContainsFunc(old, func(p pod) bool { return p.name == name }) {
			continue
		}
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			w.Fatalf("%s: %v", line, err)
		}
		all = append(all, when)
	}
	if len(all) == 0 {
		w.Fatalf("no CoreDNS was replaced:\n%s", out)
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}
