package multivalue

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// These tests hold the tree itself to the rules of the house (CONTRIBUTING.md).

const modulePath = "github.com/coredns-multivalue/multivalue"

// source is a parsed file.
type source struct {
	path  string // below the root
	file  *ast.File
	lines int
}

var fileSet = token.NewFileSet()

// sources parses the Go files of the tree: the tests, or the others.
func sources(t *testing.T, tests bool) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return errorOr(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") != tests {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fileSet, path, text, parser.ParseComments|parser.SkipObjectResolution)
		all = append(all, source{filepath.ToSlash(path), file, strings.Count(string(text), "\n")})
		return err
	})
	if err != nil || len(all) < 15 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func TestLengths(t *testing.T) {
	var lengths []int
	for _, s := range sources(t, false) {
		if s.lines > 400 {
			t.Errorf("%s has %d lines, want at most 400", s.path, s.lines)
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				n := fileSet.Position(f.End()).Line - fileSet.Position(f.Pos()).Line + 1
				lengths = append(lengths, n)
				if n > 60 {
					t.Errorf("%s: %s has %d lines, want at most 60", s.path, f.Name.Name, n)
				}
			}
		}
	}
	slices.Sort(lengths)
	if half, most := lengths[len(lengths)/2], lengths[len(lengths)*9/10]; half > 12 || most > 35 {
		t.Errorf("half of all functions have up to %d lines, and nine in ten up to %d; want 12 and 35", half, most)
	}
}

func TestDocumented(t *testing.T) {
	described := make(map[string]bool)
	for _, s := range sources(t, false) {
		dir := filepath.Dir(s.path)
		described[dir] = described[dir] || s.file.Doc != nil
		if s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for name, doc := range exported(d) {
				if doc == nil {
					t.Errorf("%s: %s is exported, and has no comment", s.path, name)
				}
			}
		}
	}
	for dir, ok := range described {
		if !ok {
			t.Errorf("the package in %s has no comment", dir)
		}
	}
}

// exported lists the exported names that a declaration makes, with what is said of each.
func exported(d ast.Decl) map[string]*ast.CommentGroup {
	names := make(map[string]*ast.CommentGroup)
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && exportedReceiver(d) {
			names[d.Name.Name] = d.Doc
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() {
					names[spec.Name.Name] = either(spec.Doc, d.Doc)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if n.IsExported() {
						names[n.Name] = either(spec.Doc, spec.Comment, d.Doc)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

func either(docs ...*ast.CommentGroup) *ast.CommentGroup {
	for _, d := range docs {
		if d != nil {
			return d
		}
	}
	return nil
}

// Imports point inward: verdict and check import nothing of ours, answer only verdict, and nothing but the commands and
// the tests imports the root.
func TestImports(t *testing.T) {
	allowed := map[string][]string{
		"internal/clock":   {},
		"internal/hash":    {},
		"internal/logonce": {},
		"internal/text":    {},
		"internal/rescue":  {"plugin/metrics"},

		"plugin/metrics":  {},
		"plugin/network":  {},
		"plugin/verdict":  {},
		"plugin/check":    {},
		"plugin/wire":     {},
		"plugin/services": {},
		"plugin/status":   {},

		"plugin/answer":     {"internal/hash", "plugin/verdict"},
		"plugin/pool/table": {"internal/hash", "plugin/verdict"},
		"plugin/status/web": {"plugin/status"},
		"plugin/force":      {"internal/rescue", "internal/text", "plugin/metrics", "plugin/network", "plugin/verdict"},
		"plugin/annotation": {"internal/rescue", "plugin/check", "plugin/metrics"},
		"plugin/lookup":     {"internal/rescue", "plugin/answer"},
		"plugin/seen":       {"internal/hash", "plugin/answer", "plugin/lookup"},
		"plugin/corefile":   {"internal/text", "plugin/answer", "plugin/check", "plugin/network", "plugin/verdict", "plugin/wire"},
		"plugin/pool": {"internal/clock", "internal/hash", "internal/logonce", "internal/rescue", "internal/text", "plugin/check", "plugin/metrics",
			"plugin/pool/table", "plugin/status", "plugin/verdict", "plugin/wire"},
		"plugin/rules": {"internal/logonce", "plugin/annotation", "plugin/answer", "plugin/check", "plugin/force", "plugin/lookup", "plugin/metrics", "plugin/network",
			"plugin/pool", "plugin/verdict"},
		"plugin/inspect": {"internal/clock", "internal/rescue", "internal/text", "plugin/answer", "plugin/force", "plugin/lookup", "plugin/pool", "plugin/rules",
			"plugin/seen", "plugin/status", "plugin/verdict"},

		".": {"internal/clock", "internal/hash", "internal/logonce", "internal/rescue", "internal/text", "plugin/annotation", "plugin/answer", "plugin/check",
			"plugin/corefile", "plugin/force", "plugin/inspect", "plugin/lookup", "plugin/metrics", "plugin/network", "plugin/pool", "plugin/pool/table", "plugin/rules",
			"plugin/seen", "plugin/status", "plugin/status/web", "plugin/verdict", "plugin/wire"},
		// Of Kubernetes, only what links it in depends on the client library.
		"annotated": {".", "plugin/annotation", "plugin/services"},

		"cmd/coredns":   {".", "annotated"},
		"cmd/demo":      {".", "plugin/verdict"},
		"cmd/image":     {},
		"bench/qps":     {"bench/measure"},
		"bench/probe":   {"bench/measure"},
		"bench/measure": {},
		"test":          {},

		// For tests alone.
		"internal/ports":     {},
		"internal/pooltest":  {"plugin/check", "plugin/verdict"},
		"test/kube/node/pod": {},
	}
	for _, s := range sources(t, false) {
		dir := filepath.ToSlash(filepath.Dir(s.path))
		may, known := allowed[dir]
		if !known {
			t.Errorf("%s is in a package that this test does not know", s.path)
		}
		for _, spec := range s.file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			own, ours := strings.CutPrefix(path, modulePath)
			if !ours {
				continue
			}
			own = strings.TrimPrefix(own, "/")
			if own == "" {
				own = "."
			}
			if !slices.Contains(may, own) {
				t.Errorf("%s imports %s", s.path, own)
			}
		}
	}
}

// The pure packages start no goroutine and read no clock.
func TestPurePackages(t *testing.T) {
	for _, s := range sources(t, false) {
		if !strings.HasPrefix(s.path, "plugin/verdict/") && !strings.HasPrefix(s.path, "plugin/answer/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", s.path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "AfterFunc"}, n.Sel.Name) {
					t.Errorf("%s reads the clock: time.%s", s.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// Nothing is scheduled by the wall clock (B58): what takes the monotonic reading off a time stands only in the functions
// that are about the hour of the day.
func TestWallClock(t *testing.T) {
	takesOff := []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Round", "Truncate", "UTC", "Local", "In", "AddDate"}
	allowed := map[string]string{
		"pause":    "health.go",                        // tells queries the hour, for the warm-up
		"Brief":    "plugin/verdict/brief.go",          // says since when, the same
		"validity": "plugin/check/reason.go",           // of a certificate
		"expiry":   "plugin/check/tlscheck.go",         // the same
		"stamp":    "plugin/status/web/api.go",         // shows an instant
		"changed":  "plugin/check/credential_linux.go", // of a file
	}
	for _, s := range sources(t, false) {
		if strings.HasPrefix(s.path, "bench/") || strings.HasPrefix(s.path, "cmd/") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || allowed[f.Name.Name] == s.path {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.SelectorExpr); ok && slices.Contains(takesOff, call.Sel.Name) {
					t.Errorf("%s: %s calls %s, and may go by the wall clock", s.path, f.Name.Name, call.Sel.Name)
				}
				return true
			})
		}
	}
}

// The names and helps of our metrics are as Prometheus and CoreDNS want them, and the manual has each.
func TestMetricNames(t *testing.T) {
	manual := read(t, "docs/manual.md")
	metrics.Answers.WithLabelValues("dns://:53", "example.org.", "", "whole")
	newCheckMetrics("tcp://:80", true)
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var ours []*dto.MetricFamily
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "coredns_multivalue_") {
			ours = append(ours, f)
			if !strings.Contains(manual, "`"+f.GetName()) {
				t.Errorf("the manual does not mention %s", f.GetName())
			}
		}
	}
	if len(ours) != 15 {
		t.Errorf("%d metrics, want 15", len(ours))
	}
	problems, err := promlint.NewWithMetricFamilies(ours).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The manual has the sections that CoreDNS demands, in its order, and every property of a stanza.
func TestManual(t *testing.T) {
	manual := read(t, "docs/manual.md")
	at := 0
	for _, section := range []string{"Name", "Description", "Syntax", "Examples", "Metrics", "Ready", "Bugs", "See Also"} {
		next := strings.Index(manual[at:], "\n## "+section+"\n")
		if next < 0 {
			t.Fatalf("section %s is missing, or out of order", section)
		}
		at += next + 1
	}
	if !strings.Contains(manual, "\n*multivalue* - ") {
		t.Error("the first line under Name is no headline of a manual page")
	}
	for word, p := range properties {
		if !strings.Contains(manual, "\n    "+strings.TrimSpace(word+" "+p.usage)+"\n") {
			t.Errorf("the syntax lacks: %s %s", word, p.usage)
		}
		if !strings.Contains(manual, "\n| `"+word+"` | ") || !strings.Contains(manual, "\n* `"+word+"` ") {
			t.Errorf("%s is not in the table of defaults, or is not described", word)
		}
	}
	if !strings.Contains(read(t, "CHANGELOG.md"), "\n## "+Version+" ") {
		t.Errorf("the changelog has no version %s", Version)
	}
}

// docs/behaviours.md has every behaviour once, in order, and the tests that it names exist.
func TestBehaviours(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range sources(t, true) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				known[f.Name.Name] = true
			}
		}
	}
	var want []string
	for i := 1; i <= 83; i++ {
		want = append(want, fmt.Sprintf("B%d", i))
		if i == 60 {
			want = append(want, "B60a")
		}
	}
	var got []string
	row := regexp.MustCompile(`^\| (B[0-9]+a?) \|[^|]+\| ([^|]+) \|$`)
	for line := range strings.Lines(read(t, "docs/behaviours.md")) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		got = append(got, m[1])
		tests := regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Za-z0-9]+`).FindAllString(m[2], -1)
		if len(tests) == 0 && !strings.HasPrefix(m[2], "planned") {
			t.Errorf("%s names no test, and is not planned: %s", m[1], m[2])
		}
		for _, name := range tests {
			if !known[name] {
				t.Errorf("%s: there is no %s", m[1], name)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("behaviours %v\nwant %v", got, want)
	}
}
