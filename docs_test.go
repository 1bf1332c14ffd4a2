package multivalue

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README is a front page: it is short and has the two commands that work in a fresh clone.
func TestReadme(t *testing.T) {
	readme := read(t, "README.md")
	if n := strings.Count(readme, "\n"); n > 150 {
		t.Errorf("the README has %d lines, want at most 150", n)
	}
	for _, command := range []string{"go run ./cmd/demo", "go test ./..."} {
		if !strings.Contains(readme, "\n    "+command+"\n") {
			t.Errorf("the README lacks the command %s", command)
		}
	}
	// Tests start the Corefiles in other fences. test/kube tries the manifests for Kubernetes, as the manual has
	// them.
	manual := read(t, "docs/manual.md")
	for _, m := range regexp.MustCompile("(?ms)^~~~ txt\n.*?^~~~$").FindAllString(readme, -1) {
		if !strings.Contains(manual, m) {
			t.Errorf("the manual does not have this Corefile of the README:\n%s", m)
		}
	}
}

// What users copy names the version that there is.
func TestVersionInTheDocs(t *testing.T) {
	named := regexp.MustCompile(`(?:coredns-multivalue(?:-cluster)?[:_]|\n  tag: |newTag: |\n(?:appVersion|version): |plugin/multivalue: version )([0-9]+\.[0-9]+\.[0-9]+)`)
	for _, path := range []string{"README.md", "docs/kubernetes.md", "docs/releasing.md", "docs/upgrading.md", "deploy/Dockerfile", "deploy/helm/values.yaml", "deploy/helm/multivalue/Chart.yaml",
		"deploy/kubernetes/components/image/kustomization.yaml", "tools/release/image/main.go"} {
		all := named.FindAllStringSubmatch(read(t, path), -1)
		for _, m := range all {
			if m[1] != Version {
				t.Errorf("%s has %q, and the version is %s", path, m[0], Version)
			}
		}
		if len(all) == 0 {
			t.Errorf("%s names no version", path)
		}
	}
}

// Every link in the documents leads to a file that exists, and to a heading of that file.
func TestLinksInTheDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	count := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			count++
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: %s has no heading for #%s", page, target, anchor)
			}
		}
	}
	if count < 40 {
		t.Errorf("only %d links", count)
	}
}

// Each alert names its own place in the page on troubleshooting, and each place there is that of an alert.
func TestRunbooks(t *testing.T) {
	page := read(t, "docs/troubleshooting.md")
	places := anchors(page)
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, "deploy/prometheus/multivalue.rules.yaml"), -1)
	links := regexp.MustCompile(`runbook_url: https://github\.com/coredns-multivalue/multivalue/blob/main/docs/troubleshooting\.md#(\w+)\n`).
		FindAllStringSubmatch(read(t, "deploy/prometheus/multivalue.rules.yaml"), -1)
	if len(alerts) < 20 || len(links) != len(alerts) {
		t.Fatalf("%d alerts, %d links", len(alerts), len(links))
	}
	for i, alert := range alerts {
		if want := strings.ToLower(alert[1]); links[i][1] != want || !places[want] || !strings.Contains(page, "\n### "+alert[1]+"\n") {
			t.Errorf("%s leads to #%s, and the page has that place: %t", alert[1], links[i][1], places[want])
		}
	}
	if n := strings.Count(page, "\n### Multivalue"); n != len(alerts) {
		t.Errorf("the page has %d places for %d alerts", n, len(alerts))
	}
}

// pages lists the documents of the tree.
func pages(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// anchors lists the names of a page's headings in links, by the rule of GitHub.
func anchors(page string) map[string]bool {
	all := make(map[string]bool)
	dropped := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		all[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return all
}
