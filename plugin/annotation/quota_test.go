package annotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// stanza is a subscriber that judges the Services of some namespaces.
type stanza struct {
	namespaces []string
	current    map[string]*check.Check
}

func (s *stanza) Judges(service string) bool {
	_, namespace, _ := strings.Cut(service, ".")
	return slices.Contains(s.namespaces, namespace)
}

func (s *stanza) Current() map[string]*check.Check { return s.current }

func (s *stanza) Apply(checks map[string]*check.Check) bool {
	changed := fmt.Sprint(texts(s.current)) != fmt.Sprint(texts(checks))
	s.current = checks
	return changed
}

// texts maps Services to the texts of their checks.
func texts(checks map[string]*check.Check) map[string]string {
	all := make(map[string]string, len(checks))
	for service, c := range checks {
		all[service] = c.String()
	}
	return all
}

// saying returns annotations: words are Services and their texts in turn.
func saying(before map[string]known, words ...string) map[string]known {
	all := make(map[string]known)
	for i := 0; i < len(words); i += 2 {
		all[words[i]] = before[words[i]].update(words[i+1])
	}
	return all
}

// Only Services that the stanza judges get a check and are counted.
func TestAssignLeavesOthersOut(t *testing.T) {
	judged, wrong := make(map[string]bool), make(map[string]string)
	s := &stanza{namespaces: []string{"other"}}
	table := assign(s, saying(nil, "cart.shop", "tcp://:1", "cart.other", "tcp://:1", "till.shop", "x"), judged, wrong)
	if len(table) != 1 || table["cart.other"] == nil || len(judged) != 1 || len(wrong) > 0 {
		t.Errorf("a table of %d, with %v judged, %q wrong", len(table), judged, wrong)
	}
}

// Before a stanza has anything in force, a Service has the check that was in force in the previous Corefile.
// Afterwards it has only the stanza's own.
func TestAssignAfterAReload(t *testing.T) {
	full := make(map[string]known)
	var words []string
	for i := range maxChecks {
		words = append(words, fmt.Sprintf("s%03d.%s", i, []string{"shop", "other"}[i%2]), fmt.Sprintf("tcp://:%d", 1000+i))
	}
	for service, k := range saying(nil, words...) {
		full[service] = k.keep([]*check.Check{k.check})
	}
	z := known{}.update("tcp://:1000")
	full["z.third"] = z.keep([]*check.Check{z.check}).update("tcp://:1") // an edit beyond the limit
	s := &stanza{namespaces: []string{"shop", "other", "third"}}
	for _, want := range []string{"tcp://:1000", "none"} {
		wrong := make(map[string]string)
		got := "none"
		if c := assign(s, full, make(map[string]bool), wrong)["z.third"]; c != nil {
			got = c.String()
		}
		if got != want || len(wrong) != 1 || !strings.Contains(wrong["z.third"], "256 different checks") {
			t.Errorf("%s, want %s; %q is wrong", got, want, wrong)
		}
		s.current = make(map[string]*check.Check)
		for service, k := range full {
			if service != "z.third" {
				s.current[service] = k.check
			}
		}
	}
}

// The quota is unused again when all checks are returned.
func TestQuotaIsGivenBack(t *testing.T) {
	r := newQuota()
	var taken []*claim
	for i := range 3 * maxChecks {
		c, err := check.New(fmt.Sprintf("tcp://:%d", 1000+i))
		if err != nil {
			t.Fatal(err)
		}
		x := &claim{namespace: fmt.Sprint(i % 3), has: c}
		if r.take(x.namespace, c) == "" {
			taken = append(taken, x)
		}
	}
	if len(r.takers) != maxChecks || len(r.checks) != 3 {
		t.Errorf("%d checks are taken by %d namespaces", len(r.takers), len(r.checks))
	}
	for _, x := range taken {
		r.giveBack(x.namespace, x.has)
	}
	if len(r.takers) != 0 || len(r.uses) != 0 || r.checks["0"]+r.checks["1"]+r.checks["2"] != 0 {
		t.Errorf("%d checks, %d uses and %v are left", len(r.takers), len(r.uses), r.checks)
	}
}
