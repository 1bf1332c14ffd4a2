package multivalue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/pool"
)

func TestDirectives(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"errors cache file", "errors multivalue cache file"},
		{"multivalue errors cache", "errors multivalue cache"},
		{"errors file", "errors file multivalue"},
	} {
		if got := strings.Join(Directives(strings.Fields(tc.list)), " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.list, got, tc.want)
		}
	}
}

// An invalid address of the status page is refused, with its line (B78).
func TestStatusAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"localhost":   `Corefile:4 - Error during parsing: status: "localhost" is not a valid address: use HOST:PORT`,
		"localhost:0": `Corefile:4 - Error during parsing: status: "localhost:0" has no valid port: use one from 1 to 65535`,
		"unix:":       `Corefile:4 - Error during parsing: status: "unix:" is not a socket in the file system`,
	} {
		configs, err := parseCorefile("example.org {\n multivalue {\n  check tcp://:80\n  status " + address + "\n }\n}")
		if err == nil {
			err = newProcess().validate(configs)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("status %s: %v, want %s", address, err, want)
		}
	}
}

// A stanza may have as many targets as the whole pool.
func TestMaxTargetsIsThePools(t *testing.T) {
	for count, ok := range map[int]bool{pool.MaxTargets: true, pool.MaxTargets + 1: false} {
		_, err := parseCorefile(fmt.Sprintf("example.org {\n multivalue {\n  check tcp://:80\n  max_targets %d\n }\n}", count))
		if (err == nil) != ok {
			t.Errorf("max_targets %d: %v", count, err)
		}
	}
}
