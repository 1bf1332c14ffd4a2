package corefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// An error about a property that an imported file holds names that file and its line, whenever the error is found (B78).
func TestLinesOfImportedFiles(t *testing.T) {
	dir := t.TempDir()
	imported, main := filepath.Join(dir, "extra.conf"), filepath.Join(dir, "Corefile")
	if err := os.WriteFile(imported, []byte("# a comment\n\nstatus localhost:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks, err := caddyfile.Parse(main, strings.NewReader("example.org {\n multivalue {\n  check tcp://:80\n  import extra.conf\n  limit 3\n }\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	configs, err := Parse(&caddy.Controller{Dispenser: caddyfile.NewDispenserTokens(main, blocks[0].Tokens["multivalue"]), ServerBlockKeys: blocks[0].Keys})
	if err != nil {
		t.Fatal(err)
	}
	for property, want := range map[string]string{"status": imported + ":3", "limit": main + ":5", "check": main + ":3", "": main + ":2", "within": main + ":2"} {
		if got := configs[0].Where(property); got != want {
			t.Errorf("%q is at %s, want %s", property, got, want)
		}
	}
}
