//go:build linux

package kube

import (
	"regexp"
	"strings"
	"testing"
)

// The Pods of the chart are a fleet: they find each other by the headless Service, which only *kubernetes* in their own Corefile
// knows.
func TestChartFleet(t *testing.T) {
	s := newScene(t)
	text := readFile(t, golden+"fleet.yaml")
	s.applyOnly(text, "ClusterRole")
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: dns")
	members := []string{"192.0.2.91", "192.0.2.92"}
	cluster.apply(t, "dns", headless("multivalue-fleet")+"\n---\n"+slice("multivalue-fleet", "fleet-1", members...))

	corefile := strings.NewReplacer("    ready\n", "    ready {$POD_IP}:8181\n", "prometheus :9153", "prometheus {$POD_IP}:9153",
		"advertise {$POD_IP}", "listen {$POD_IP}:9254", // and not on all addresses of this machine
	).Replace(at(find(t, objects(t, text), "ConfigMap", "multivalue"), "data", "Corefile").(string))
	path := s.here(corefile, "dns:multivalue")
	s.file("Corefile", strings.Replace(readFile(t, path), "bind 127.0.0.1", "bind {$POD_IP}", 1))
	for _, member := range members {
		t.Setenv("POD_IP", member)
		s.program(path)
	}
	for _, member := range members {
		s.eventually(2*patience, func() bool {
			return regexp.MustCompile(`fleet_members\{state="alive"\} 1\n`).MatchString(s.page(member + ":9153/metrics"))
		}, func() string {
			return member + " does not find the other member:\n" + strings.Join(regexp.MustCompile("(?m)^coredns_multivalue_(fleet|targets).*").FindAllString(s.page(member+":9153/metrics"), -1), "\n")
		})
	}
}

// applyOnly applies the objects in a text whose kind begins like this.
func (s *scene) applyOnly(text, kind string) {
	s.Helper()
	for part := range strings.SplitSeq(text, "\n---\n") {
		if strings.Contains(part, "\nkind: "+kind) {
			cluster.apply(s, "", part)
		}
	}
}
