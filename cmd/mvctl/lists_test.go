package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// A target shows a name that the filter picked it by, how many more there are, and what is forced, without green (B119).
func TestTargetsShowTheNameAskedForAndWhatIsForced(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		respond(w, 200, `{"targets": [
			{"address": "192.0.2.1:80", "check": "c", "state": "up", "name": "a.example.org.", "names": ["a.example.org.", "www.example.org."], "more_names": 3, "forced": "down", "forced_reason": "disk"},
			{"address": "192.0.2.2:80", "check": "c", "state": "up", "name": "www.example.org.", "names": ["www.example.org."]}], "total": 2, "next": ""}`)
	})
	got := mvctl(t, server, nil, "targets", "--name", "WWW")
	for _, want := range []string{
		`(?m)^STATE +ADDRESS +FORCED +FOR +NAME +CHECK +WHY`, `(?m)^· up +192\.0\.2\.1:80 +down \(disk\) +www\.example\.org\. and 4 more +c`, `(?m)^✓ up +192\.0\.2\.2:80 +www\.example\.org\. +c`,
	} {
		if !regexp.MustCompile(want).MatchString(got.out) {
			t.Errorf("no %s in\n%s%s", want, got.out, got.err)
		}
	}
}

// The outcomes of names are those of last answers. Clients of a dry run get all, so it is told as one, and no trouble (B119).
func TestNamesShowLastAnswersAndDryRuns(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		respond(w, 200, `{"names": [{"name": "www.example.org.", "answers": [{"type": "A", "outcome": "open", "checked": true, "kept": 3, "total": 3, "dry_run": true}]}], "total": 1, "next": ""}`)
	})
	got := mvctl(t, server, nil, "names", "--fail")
	if got.code != exitGood || !strings.HasPrefix(got.out, "LAST ANSWER") || !strings.Contains(got.out, "~ fail-open (dry run)") {
		t.Errorf("%+v", got)
	}
}

// Clients that get addresses that are down are trouble, whether the outcome says so or the health, and so is an answer without any.
// What is drained, forced up or left out is none (B119).
func TestFailOfNamesAndExplain(t *testing.T) {
	for _, tc := range []struct {
		outcome, health string
		want            int
	}{
		{"whole", "", exitGood}, {"whole", "down", exitTrouble}, {"whole", "drained", exitGood}, {"whole", "forced", exitGood},
		{"thin", "", exitGood}, {"backup", "", exitGood}, {"open", "", exitTrouble}, {"closed", "", exitTrouble},
	} {
		answer := fmt.Sprintf(`{"name": "www.example.org.", "type": "A", "outcome": %q, "health": %q, "checked": true, "dry_run": false}`, tc.outcome, tc.health)
		server := serving(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/explain" {
				respond(w, 200, `{"explanations": [`+answer+`]}`)
				return
			}
			respond(w, 200, `{"names": [{"name": "www.example.org.", "answers": [`+answer+`]}], "total": 1, "next": ""}`)
		})
		for _, args := range [][]string{{"names", "--fail"}, {"explain", "www.example.org", "--fail"}} {
			if got := mvctl(t, server, nil, args...); got.code != tc.want {
				t.Errorf("%v with %s and %q: %+v, want %d", args, tc.outcome, tc.health, got, tc.want)
			}
		}
		if got := mvctl(t, server, nil, "names"); got.code != exitGood {
			t.Errorf("without --fail: %+v", got)
		}
	}
}

// An explanation shows of a member what the page does: its share, since when it is down and what brings it back (B119).
func TestExplainShowsWhatThePageDoes(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", "Mon, 30 Nov 2026 10:00:00 GMT")
		respond(w, 200, `{"explanations": [{"name": "www.example.org.", "type": "A", "outcome": "thin", "checked": true, "steps": ["one"], "records": [], "sets": [{"owner": "www.example.org.", "type": "A", "outcome": "thin", "checked": true, "why": "so", "members": [
			{"member": "192.0.2.1", "state": "up", "served": true, "share": 0.5, "why": "up"},
			{"member": "192.0.2.2", "state": "down", "served": false, "share": 0, "why": "forced down (\"disk\")", "since": "2026-11-30T09:58:00Z", "recovery": "remove its line"}]}]}]}`)
	})
	got := mvctl(t, server, nil, "explain", "www.example.org")
	for _, want := range []string{`192\.0\.2\.1 +served +50% +up`, `192\.0\.2\.2 +left out +0% +2m\S* +forced down \("disk"\)`, `what brings back 192\.0\.2\.2: remove its line`} {
		if !regexp.MustCompile(want).MatchString(got.out) {
			t.Errorf("no %s in\n%s%s", want, got.out, got.err)
		}
	}
}
