package test

import (
	"path/filepath"
	"strings"
	"testing"
)

// configShown is the response of /v1/config.
type configShown struct {
	ReloadFailed bool `json:"reload_failed"`
	Stanzas      []struct {
		At, Block, Zones, Text string
		Properties             []struct {
			Name, Value, At string
			Default         bool
		}
	}
}

// value is how a property of the first stanza is shown: its value and where it was set.
func (c *configShown) value(name string) string {
	for _, p := range c.Stanzas[0].Properties {
		if p.Name == name {
			if p.Default {
				return p.Value + " by default"
			}
			return p.Value + " at " + p.At
		}
	}
	return "not shown"
}

// /v1/config has the values in effect of a whole server, with the lines of an imported file, and without secrets. A reload that
// fails leaves the old ones and says so; one that works replaces them (B119).
func TestConfigInForce(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11")
	s.file("more.conf", "# imported\nlimit 3\n")
	corefile := strings.Replace(showing, "QUICK", "CALM\n import DIR/more.conf\n check http://:PORT/b header X-Token hunter2", 1)
	v, base := s.shown(corefile)
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
	corefile = strings.ReplaceAll(corefile, "STATUS", port)
	var c configShown
	s.json(base+"/v1/config", &c)
	if len(c.Stanzas) != 1 || !strings.HasPrefix(c.Stanzas[0].At, "Corefile:") || c.Stanzas[0].Zones != "example.org." || c.ReloadFailed {
		t.Fatalf("%+v", c)
	}
	for name, want := range map[string]string{
		"limit": "3 at " + filepath.Join(s.dir, "more.conf") + ":2", "interval": "24h 100ms at Corefile:9", "rise": "2 by default", "max_targets": "65536 by default",
		"types": "A AAAA HTTPS SVCB by default", "within": "127.0.0.0/8 at Corefile:11", "force": " by default", "status": "127.0.0.1:" + port + " at Corefile:14",
	} {
		if got := c.value(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, url := range []string{"/v1/config", "/config"} {
		_, text := s.get(base + url)
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "header X-Token …") {
			t.Errorf("%s shows a secret, or not the check:\n%s", url, text)
		}
	}
	if err := v.reload(strings.Replace(corefile, "import", "limt 4\n import", 1)); err == nil {
		t.Fatal("a Corefile with a mistake runs")
	}
	c = configShown{}
	if s.json(base+"/v1/config", &c); !c.ReloadFailed || !strings.HasPrefix(c.value("limit"), "3 ") {
		t.Errorf("after a reload that failed: %t, limit %s", c.ReloadFailed, c.value("limit"))
	}
	if _, text := s.get(base + "/config"); !strings.Contains(text, "The last reload failed") {
		t.Error("the page does not say that the reload failed")
	}
	s.file("more.conf", "limit 5\n")
	v.mustReload(corefile)
	c = configShown{}
	if s.json(base+"/v1/config", &c); c.ReloadFailed || !strings.HasPrefix(c.value("limit"), "5 ") {
		t.Errorf("after a reload that worked: %t, limit %s", c.ReloadFailed, c.value("limit"))
	}
}
