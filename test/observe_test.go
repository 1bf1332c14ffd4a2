package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// get fetches a page on a new connection.
func (s *scene) get(url string) (status int, body string) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(page)
}

// A scrape shows the metrics, and the series of a check vanish with the check (B73).
func TestMetricsAreScraped(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.zone("example.net", "www A 127.0.0.13\nwww A 127.0.0.14")
	scrape := freePort(t)
	monitored := strings.Replace(withNet, "bind 127.0.0.1", "bind 127.0.0.1\n prometheus 127.0.0.1:"+scrape, 1)
	v := s.serve(monitored)
	v.comesTo("www.example.org A", "11")
	v.comesTo("www.example.net A", "13")
	v.settled(2, 2)
	_, page := s.get("http://127.0.0.1:" + scrape + "/metrics")
	check := fmt.Sprintf("http://:%s/", s.port)
	for _, want := range []string{
		`coredns_multivalue_targets{state="down"} 2`,
		`coredns_multivalue_probes_total{check="` + check + `",result="success"}`,
		`coredns_multivalue_probes_total{check="` + check + `net",result="failure"}`,
		`coredns_multivalue_probe_duration_seconds_count{check="` + check + `"}`,
		`coredns_multivalue_transitions_total{check="` + check + `",to="down"}`,
		`coredns_multivalue_answers_total{outcome="thin",server="dns://127.0.0.1:0",view="",zone="example.org."}`,
		"coredns_multivalue_probes_in_flight", "coredns_multivalue_probe_lag_seconds_count", "coredns_multivalue_skipped_total",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the scrape lacks %s:\n%s", want, ours(page))
		}
	}
	v.mustReload(strings.Replace(classic, "bind 127.0.0.1", "bind 127.0.0.1\n prometheus 127.0.0.1:"+scrape, 1))
	_, page = s.get("http://127.0.0.1:" + scrape + "/metrics")
	if strings.Contains(page, check+`net"`) || !strings.Contains(page, `check="`+check+`"`) {
		t.Errorf("after the reload, want only the series of the check that stayed:\n%s", ours(page))
	}
}

// ours returns the lines of a scrape that are multivalue's.
func ours(page string) string {
	return strings.Join(regexp.MustCompile(`(?m)^coredns_multivalue.*$`).FindAllString(page, -1), "\n")
}

// The log plugin prints the outcome of an answer, from the metadata (B77).
func TestLogPrintsMetadata(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nwww TXT text")
	v := s.serve(`
example.org:0 {
    bind 127.0.0.1
    metadata
    log . "{type} became {/multivalue/outcome}, {/multivalue/kept} of {/multivalue/total}."
    file DIR/example.org
    multivalue {
        CALM
    }
}`)
	v.comesTo("www.example.org A", "11 13")
	v.settled(2, 1)
	for question, want := range map[string]string{
		"www.example.org A":     "A became thin, 2 of 3.",
		"www.example.org TXT":   "TXT became -, - of -.",
		"nowhere.example.org A": "A became none, 0 of 0.",
	} {
		mark := logs.Mark()
		v.ask(question)
		s.eventually(func() bool { return strings.Contains(logs.Since(mark), want) },
			func() string { return fmt.Sprintf("the log lacks %q: %s", want, logs.Since(mark)) })
	}
}

// The trace plugin shows the outcome in the span of multivalue (B77). It runs in a separate process, because trace
// never ends the goroutines of its reporter.
func TestTraceShowsTheOutcome(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nwww TXT text")
	type span struct {
		Name string
		Tags map[string]string
	}
	var mu sync.Mutex
	var spans []span
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { // the form that Zipkin uses
		var some []span
		if err := json.NewDecoder(r.Body).Decode(&some); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		spans = append(spans, some...)
	}))
	t.Cleanup(collector.Close)
	p := s.run(t, replace(classic, "example.org:0", "example.org:LISTEN", "bind", "trace zipkin "+collector.Listener.Addr().String()+" {\n every 1\n zipkin_max_batch_interval 100ms\n }\n bind"), 0)
	p.comesTo("www.example.org A", "11 13")
	s.eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(spans, func(s span) bool {
			return s.Name == "multivalue" && s.Tags["multivalue/outcome"] == "thin" && s.Tags["multivalue/kept"] == "2" && s.Tags["multivalue/total"] == "3"
		})
	}, func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprintf("the spans are %+v", spans) })
}

// The ready plugin reports ready even if every backend is dead (T40, B68).
func TestReadyWithDeadBackends(t *testing.T) {
	s := newScene(t)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	port := freePort(t)
	v := s.serve(strings.Replace(classic, "QUICK", "QUICK\n }\n ready 127.0.0.1:"+port+" {\n monitor continuously", 1))
	url := "http://127.0.0.1:" + port + "/ready"
	isReady := func() bool { status, _ := s.get(url); return status == http.StatusOK }
	s.eventually(isReady, func() string { return "the server does not become ready" })
	v.ask("www.example.org A")
	s.down(2)
	if status, body := s.get(url); status != http.StatusOK {
		t.Errorf("with all backends dead, ready says %d %s", status, body)
	}
	v.mustReload(strings.Replace(classic, "QUICK", "QUICK\n limit 3\n }\n ready 127.0.0.1:"+port+" {\n monitor continuously", 1))
	s.eventually(isReady, func() string { return "the server does not become ready again after a reload" })
}

// A transition is one line in the log, with the reason. Probes are not logged (B74).
func TestOneLogLineATransition(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	mark := logs.Mark()
	v := s.serve(classic)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	s.kill(12)
	v.settled(1, 1)
	probes := s.backends[11].accepted.Load()
	s.eventually(func() bool { return s.backends[11].accepted.Load() > probes+5 }, func() string { return "probing has stopped" })
	s.start(12)
	v.settled(2, 0)
	address := "127.0.0.12:" + s.port
	check := "http://:" + s.port + "/"
	want := []string{
		address + " is down after 3 failures of " + check + ": connection refused",
		address + " is up after 2 successes of " + check,
	}
	var lines []string
	s.eventually(func() bool { lines = ourLines(mark); return len(lines) >= len(want) },
		func() string { return fmt.Sprintf("the log has\n%q, want\n%q", lines, want) })
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("the log has\n%q, want\n%q", lines, want)
	}
}

// ourLines returns what multivalue has logged since the mark.
func ourLines(mark int) (lines []string) {
	for line := range strings.Lines(logs.Since(mark)) {
		if _, text, ok := strings.Cut(line, "plugin/multivalue: "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return lines
}

// If too few targets are up and all are served, the log says that once (B76).
func TestFailOpenIsLogged(t *testing.T) {
	s := newScene(t)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	mark := logs.Mark()
	v := s.serve(strings.Replace(classic, "QUICK", "CALM", 1))
	v.ask("www.example.org A")
	v.settled(0, 2)
	count := func() int { return strings.Count(logs.Since(mark), "2 of 2 addresses are down") }
	s.eventually(func() bool { v.ask("www.example.org A"); return count() > 0 }, func() string { return "the log does not say that unhealthy addresses are served" })
	for range 20 {
		v.ask("www.example.org A")
	}
	if n := count(); n != 1 {
		t.Errorf("the log says that %d times, want once", n)
	}
}
