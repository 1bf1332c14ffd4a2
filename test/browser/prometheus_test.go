package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/ports"
)

const (
	rules     = "../../deploy/prometheus/multivalue.rules.yaml"
	ruleTests = "../../deploy/prometheus/multivalue.rules.test.yaml"
	dashboard = "../../deploy/grafana/multivalue.json"
)

// The alerts pass their tests, and each alert has a test (B76).
func TestRules(t *testing.T) {
	need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", ruleTests}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	text, err := os.ReadFile(ruleTests)
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range alerts(t) {
		if n := strings.Count(string(text), "alertname: "+alert); n < 2 {
			t.Errorf("%s is tested %d times, want it to fire and not to fire", alert, n)
		}
	}
}

func alerts(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 5 {
		t.Fatalf("%d alerts", len(names))
	}
	return names
}

const watched = `
example.org:DNSPORT {
    bind 127.0.0.1
    prometheus METRICS
    file zone
    multivalue {
        FARM
        status STATUS
    }
    multivalue held.example.org {
        check http://:BACKENDS/healthz hold
        within 127.0.0.0/8
    }
    multivalue weighed.example.org {
        check http://:BACKENDS/healthz weight_header X-Weight
        within 127.0.0.0/8
        fleet FLEET {
            key fleet.key
            listen FLEET
        }
    }
}`

// A real Prometheus scrapes a real server: every query of the dashboard has a result, the numbers match the page, and
// the alert fires when all addresses of a name die (B73, B76).
func TestPrometheus(t *testing.T) {
	need(t, "prometheus")
	f := newFarm(t, watched, "www A 127.0.0.11\nwww A 127.0.0.12\nheld A 127.0.0.13\nheld A 127.0.0.14\nweighed A 127.0.0.13\nweighed A 127.0.0.14\n", 11, 12, 13, 14)
	p := f.prometheus()
	ask := func() { f.ask("www.example.org"); f.ask("held.example.org"); f.ask("weighed.example.org") }
	f.eventually("Prometheus has what the page has", func() bool {
		ask()
		up := p.value(`sum(coredns_multivalue_targets{state="up"})`)
		return up == "6" && f.count("state=up") == 6
	})
	for title, exprs := range queries(t) {
		for _, expr := range exprs {
			var got string
			f.eventually(title+" has an answer: "+expr, func() bool { ask(); got = p.value(expr); return got != "" && got != "NaN" })
			if strings.HasPrefix(got, "error") {
				t.Errorf("%s: %s: %s", title, expr, got)
			}
		}
	}
	f.kill(11, 12)
	f.eventually("the alert fires", func() bool {
		ask()
		return p.value(`ALERTS{alertname="MultivalueServesUnhealthy", alertstate="firing", zone="example.org."}`) == "1"
	})
}

// The alerts about the server itself fire in a real Prometheus: one that probes nothing, here because its interval is longer than the
// time in the rule, and one that has refused a Corefile (B76).
func TestPrometheusSeesTheServer(t *testing.T) {
	need(t, "prometheus")
	f := newFarm(t, `
example.org:DNSPORT {
    bind 127.0.0.1
    prometheus METRICS
    file zone
    multivalue {
        check http://:BACKENDS/healthz
        interval 10m
        within 127.0.0.0/8
    }
}`, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11, 12)
	p := f.prometheus()
	fires := func(alert string) bool { return p.value(`ALERTS{alertname="`+alert+`", alertstate="firing"}`) == "1" }
	f.eventually("a server that probes nothing is seen", func() bool {
		f.ask("www.example.org")
		return p.value(`sum(coredns_multivalue_targets{state="up"})`) == "2" && fires("MultivalueProbesStopped")
	})
	if fires("MultivalueConfigStale") {
		t.Error("the Corefile is taken for an old one")
	}
	good, err := os.ReadFile(filepath.Join(f.dir, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	reload := func(corefile string) {
		f.write("Corefile", corefile)
		if err := f.process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	reload(strings.Replace(string(good), "interval 10m", "interval soon", 1))
	f.eventually("an old Corefile is seen", func() bool { return fires("MultivalueConfigStale") })
	reload(string(good))
	f.eventually("a new Corefile is seen", func() bool {
		return p.value("coredns_multivalue_reload_failed") == "0" && !fires("MultivalueConfigStale")
	})
}

// watcher is a Prometheus.
type watcher struct {
	*farm
	address string
}

// prometheus starts a Prometheus that scrapes the farm's server, with alerts that fire within seconds, not minutes.
func (f *farm) prometheus() *watcher {
	f.Helper()
	text, err := os.ReadFile(rules)
	if err != nil {
		f.Fatal(err)
	}
	f.write("rules.yaml", strings.NewReplacer("for: 1m", "for: 1s", "for: 5m", "for: 1s", "[5m]", "[30s]", "[15m]", "[5s]", "offset 15m", "offset 5s").Replace(string(text)))
	f.write("prometheus.yaml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: coredns
    static_configs: [{targets: [%q]}]
`, f.metrics))
	p := &watcher{f, local(ports.Free(f.T))}
	var output logbook.Book
	c := exec.Command("prometheus", "--config.file="+filepath.Join(f.dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(f.dir, "data"),
		"--web.listen-address="+p.address, "--log.level=warn")
	c.Stdout, c.Stderr = &output, &output
	if err := c.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if f.Failed() {
			f.Log(output.String())
		}
	})
	return p
}

// value returns the first value of a query, empty if there is none, and the error of a wrong query.
func (p *watcher) value(expr string) string {
	r, err := http.Get("http://" + p.address + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if json.NewDecoder(r.Body).Decode(&answer) != nil {
		return ""
	}
	if answer.Status != "success" {
		return "error: " + answer.Error
	}
	if len(answer.Data.Result) == 0 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// queries returns the queries of the dashboard, by the title of their panel.
func queries(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			all[p.Title] = append(all[p.Title], strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*").Replace(q.Expr))
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d panels", len(all))
	}
	return all
}

// The dashboard shows every metric.
func TestDashboardIsComplete(t *testing.T) {
	manual, err := os.ReadFile("../../docs/manual.md")
	if err != nil {
		t.Fatal(err)
	}
	board, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	metrics := regexp.MustCompile("(?m)^\\* `(coredns_multivalue_\\w+)").FindAllStringSubmatch(string(manual), -1)
	if len(metrics) < 14 {
		t.Fatalf("%d metrics in the manual", len(metrics))
	}
	for _, m := range metrics {
		if !strings.Contains(string(board), m[1]) {
			t.Errorf("the dashboard does not show %s", m[1])
		}
	}
}
