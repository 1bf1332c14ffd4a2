package multivalue

import (
	"strings"
	"testing"
)

// A program without the engines of a fleet refuses the property, names its line, and says which line of plugin.cfg has them.
func TestFleetIsNotLinked(t *testing.T) {
	const want = "Corefile:4 - Error during parsing: fleet is not part of this CoreDNS: build cmd/coredns, or use the other line of plugin.cfg.example"
	for _, fleet := range []string{"192.0.2.1 {\n key keys\n }", "etcd://192.0.2.1:2379"} {
		configs, err := parseCorefile("example.org {\n multivalue {\n check tcp://:80\n fleet " + fleet + "\n }\n}")
		if err != nil {
			t.Fatal(err)
		}
		if err := newProcess().validate(configs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", fleet, err, want)
		}
	}
}
