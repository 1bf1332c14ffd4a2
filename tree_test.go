package multivalue

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// These tests check that the tree follows the rules of the house (CONTRIBUTING.md).

const modulePath = "github.com/coredns-multivalue/multivalue"

// source is a parsed file.
type source struct {
	path  string // below the root
	file  *ast.File
	lines int
}

var fileSet = token.NewFileSet()

// sources parses the Go files of the tree: the tests, or all other files.
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

// A package of more than 300 lines has comments on at least 15 of 100 lines (the models have 20 to 33). It begins
// with a comment of 3 to 10 lines that says what the package is for.
func TestComments(t *testing.T) {
	type count struct{ lines, comments, intro int }
	packages := make(map[string]*count)
	for _, s := range sources(t, false) {
		dir := filepath.ToSlash(filepath.Dir(s.path))
		c := packages[dir]
		if c == nil {
			c = new(count)
			packages[dir] = c
		}
		c.lines += s.lines
		commented := make(map[int]bool)
		for _, group := range s.file.Comments {
			for line := fileSet.Position(group.Pos()).Line; line <= fileSet.Position(group.End()).Line; line++ {
				commented[line] = true
			}
		}
		c.comments += len(commented)
		if s.file.Doc != nil {
			c.intro = max(c.intro, fileSet.Position(s.file.Doc.End()).Line-fileSet.Position(s.file.Doc.Pos()).Line+1)
		}
	}
	for dir, c := range packages {
		if c.lines > 300 && c.comments*100 < c.lines*15 {
			t.Errorf("%s: %d of %d lines have comments, want 15 of 100", dir, c.comments, c.lines)
		}
		if (dir == "." || strings.HasPrefix(dir, "plugin/")) && (c.intro < 3 || c.intro > 14) {
			t.Errorf("%s: its package comment has %d lines, want 3 to 10", dir, c.intro)
		}
	}
}

// The root package is the plugin and nothing else.
func TestRootIsSmall(t *testing.T) {
	files, lines := 0, 0
	for _, s := range sources(t, false) {
		if !strings.Contains(s.path, "/") {
			files, lines = files+1, lines+s.lines
		}
	}
	if files > 10 || lines > 1200 {
		t.Errorf("%d files and %d lines in the root, want at most 10 and 1200", files, lines)
	}
}

// A package has at most 33 names that other packages use.
func TestFewExportedNames(t *testing.T) {
	used := make(map[string]map[string]bool)
	for _, s := range sources(t, false) {
		ours := make(map[string]string) // by the name in the file
		for _, spec := range s.file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(path, modulePath+"/"); ok {
				name := own[strings.LastIndexByte(own, '/')+1:]
				if spec.Name != nil {
					name = spec.Name.Name
				}
				ours[name] = own
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && ours[x.Name] != "" {
					own := ours[x.Name]
					if used[own] == nil {
						used[own] = make(map[string]bool)
					}
					used[own][sel.Sel.Name] = true
				}
			}
			return true
		})
	}
	for own, names := range used {
		if len(names) > 33 {
			t.Errorf("%d names of %s are used from outside, want at most 33", len(names), own)
		}
	}
}

// One word has one meaning: at most three types have a method of the same name, unless it belongs to an interface
// that they implement.
func TestMethodNames(t *testing.T) {
	shared := []string{ // of interfaces: Go's and CoreDNS's own, then ours
		"String", "Error", "Unwrap", "Read", "Write", "Close", "Len", "Less", "Swap", "Push", "Pop", "WriteMsg", "LocalAddr", "RemoteAddr",
		"Probe", "probe", "ask", "Open", "Look", "Rule", "SOA", "Absent", "Follow", "Addresses",
		"Announce", "Check", "Say", "Answer", "Ask", "Call", "Turn", "Leave", "Self", "Start", "Update", "Contacts",
	}
	types := make(map[string]map[string]bool)
	for _, s := range sources(t, false) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || slices.Contains(shared, f.Name.Name) {
				continue
			}
			receiver := f.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if types[f.Name.Name] == nil {
				types[f.Name.Name] = make(map[string]bool)
			}
			types[f.Name.Name][filepath.Dir(s.path)+"."+fmt.Sprint(receiver)] = true
		}
	}
	for name, on := range types {
		if len(on) > 3 {
			t.Errorf("the method name %s is on %d types: %v", name, len(on), slices.Sorted(maps.Keys(on)))
		}
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
					t.Errorf("%s: %s is exported and has no comment", s.path, name)
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

// exported lists the exported names of a declaration, each with its comment.
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
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
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

// Imports point inward: each package imports only the packages in its row, and only full, the commands and the tests
// import the root package. docs/design.md has the table in words.
func TestImports(t *testing.T) {
	allowed := map[string][]string{
		"internal/clock":     {},
		"internal/hash":      {},
		"internal/idn":       {},
		"internal/logonce":   {},
		"internal/kube":      {},
		"internal/text":      {},
		"internal/freeport":  {},
		"internal/watchfile": {},
		"internal/rescue":    {"plugin/metrics"},
		"internal/follow":    {"internal/rescue", "internal/watchfile"},

		"plugin/metrics":  {},
		"plugin/network":  {},
		"plugin/report":   {},
		"plugin/verdict":  {"plugin/report"},
		"plugin/check":    {"internal/idn", "internal/watchfile", "plugin/report"},
		"plugin/wire":     {},
		"plugin/services": {"internal/kube"},
		"plugin/status":   {},
		"plugin/history":  {"internal/clock"},
		"plugin/acting":   {},

		"plugin/status/config": {},

		"plugin/answer":       {"internal/hash", "plugin/verdict"},
		"plugin/pool/table":   {"internal/hash", "plugin/verdict"},
		"plugin/fleet":        {"plugin/answer", "plugin/report", "plugin/verdict"},
		"plugin/fleet/gossip": {"internal/logonce", "internal/rescue", "internal/watchfile", "plugin/fleet", "plugin/membership", "plugin/metrics"},
		"plugin/fleet/etcd":   {"internal/rescue", "internal/watchfile", "plugin/fleet", "plugin/membership", "plugin/metrics", "plugin/verdict"},
		"plugin/status/web":   {"internal/watchfile", "plugin/acting", "plugin/history", "plugin/metrics", "plugin/status", "plugin/status/config"},
		"plugin/state":        {"internal/watchfile", "plugin/report", "plugin/verdict"},
		"plugin/force":        {"internal/follow", "internal/text", "internal/watchfile", "plugin/metrics", "plugin/network", "plugin/acting", "plugin/verdict"},
		"plugin/topology":     {"internal/follow", "internal/rescue", "internal/text", "plugin/metrics", "plugin/network"},
		"plugin/zones":        {"internal/kube", "plugin/topology"},
		"plugin/annotation":   {"internal/rescue", "plugin/check", "plugin/metrics"},
		"plugin/lookup":       {"internal/rescue", "plugin/answer"},
		"plugin/seen":         {"internal/hash", "plugin/answer", "plugin/lookup"},
		"plugin/corefile":     {"internal/idn", "internal/text", "plugin/answer", "plugin/check", "plugin/fleet", "plugin/membership", "plugin/network", "plugin/status/web", "plugin/verdict", "plugin/wire"},
		"plugin/pool": {"internal/clock", "internal/hash", "internal/logonce", "internal/rescue", "internal/text", "plugin/check", "plugin/fleet", "plugin/history", "plugin/membership", "plugin/metrics",
			"plugin/pool/table", "plugin/report", "plugin/state", "plugin/status", "plugin/verdict", "plugin/wire"},
		"plugin/membership": {"plugin/fleet"},
		"plugin/rules": {"internal/logonce", "plugin/answer", "plugin/check", "plugin/corefile", "plugin/fleet", "plugin/force", "plugin/lookup", "plugin/metrics", "plugin/network",
			"plugin/pool", "plugin/status", "plugin/status/config", "plugin/topology", "plugin/verdict"},
		"plugin/inspect": {"internal/clock", "internal/rescue", "internal/text", "plugin/answer", "plugin/force", "plugin/history", "plugin/lookup", "plugin/metrics", "plugin/pool", "plugin/rules",
			"plugin/seen", "plugin/state", "plugin/status", "plugin/status/config", "plugin/topology", "plugin/verdict"},

		".": {"internal/follow", "internal/rescue", "plugin/annotation", "plugin/answer", "plugin/corefile", "plugin/force", "plugin/inspect", "plugin/lookup", "plugin/membership", "plugin/metrics", "plugin/pool",
			"plugin/rules", "plugin/seen", "plugin/state", "plugin/status/web", "plugin/topology"},
		// Of the packages for Kubernetes, only the one that links them in depends on the client library.
		"full": {".", "plugin/annotation", "plugin/fleet/etcd", "plugin/fleet/gossip", "plugin/membership", "plugin/services", "plugin/topology", "plugin/zones"},

		"cmd/coredns":         {".", "full"},
		"cmd/demo":            {".", "internal/freeport", "plugin/fleet/gossip", "plugin/verdict"},
		"cmd/coredns-cluster": {".", "full"},
		"cmd/mvctl":           {},
		"bench/qps":           {"bench/measure"},
		"bench/gslb":          {},
		"bench/probe":         {"bench/measure"},
		"bench/fleet":         {"bench/measure"},
		"bench/measure":       {"internal/freeport"},
		"test":                {},
		"tools/release":       {"tools/release/oci"},
		"tools/release/image": {"tools/release/oci"},
		"tools/release/oci":   {},
		"tools/release/man":   {},

		// These are for tests only.
		"internal/ports":      {},
		"internal/logbook":    {},
		"internal/signals":    {},
		"internal/namespaces": {},
		"internal/realetcd":   {"internal/logbook", "internal/ports"},
		"internal/pooltest":   {"plugin/check", "plugin/fleet", "plugin/membership", "plugin/report", "plugin/verdict"},
		"test/kube/node/pod":  {},
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
	pure := []string{"plugin/history", "plugin/report", "plugin/verdict", "plugin/answer", "plugin/fleet"}
	for _, s := range sources(t, false) {
		if !slices.Contains(pure, filepath.ToSlash(filepath.Dir(s.path))) {
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

// Nothing is scheduled by the wall clock (B58): only the functions that work with the time of day drop the monotonic
// reading of a time.
func TestWallClock(t *testing.T) {
	takesOff := []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Round", "Truncate", "UTC", "Local", "In", "AddDate"}
	allowed := map[string]string{
		"setClock":      "plugin/pool/pool.go",              // tells queries the time
		"sinceOf":       "plugin/pool/member.go",            // what setClock compares with
		"stateRecord":   "plugin/pool/restore.go",           // tells another process the time
		"unwatched":     "plugin/pool/restore.go",           // compares the time with that of another process
		"seconds":       "plugin/pool/idle.go",              // the same time, to compare with what they noted
		"Brief":         "plugin/verdict/brief.go",          // the same, for the start of a state
		"validityFault": "plugin/check/reason.go",           // the dates of a certificate
		"expiresSoon":   "plugin/check/tlscheck.go",         // the same
		"stamp":         "plugin/status/web/api.go",         // shows an instant
		"endOf":         "plugin/force/edit.go",             // writes one into a file
		"because":       "plugin/inspect/explain.go",        // the same
		"instant":       "plugin/inspect/recovery.go",       // the same
		"sinceDown":     "plugin/inspect/recovery.go",       // reads what Brief has packed
		"changeTime":    "plugin/check/credential_linux.go", // of a file
		"Edit":          "internal/pooltest/helpers.go",     // the same
		"put":           "plugin/state/encode.go",           // the wall clock is what two processes have in common
		"timeOf":        "plugin/state/state.go",            // the same
	}
	for _, s := range sources(t, false) {
		if strings.HasPrefix(s.path, "bench/") || strings.HasPrefix(s.path, "cmd/") || strings.HasPrefix(s.path, "tools/") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || allowed[f.Name.Name] == s.path {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.SelectorExpr); ok && slices.Contains(takesOff, call.Sel.Name) {
					t.Errorf("%s: %s calls %s, and may depend on the wall clock", s.path, f.Name.Name, call.Sel.Name)
				}
				return true
			})
		}
	}
}

// The names and help texts of our metrics follow the rules of Prometheus and CoreDNS, and the manual has each of
// them.
func TestMetricNames(t *testing.T) {
	manual := read(t, "docs/manual.md")
	metrics.Answers.WithLabelValues("dns://:53", "example.org.", "", "whole")
	for _, vec := range []*prometheus.CounterVec{metrics.Probes, metrics.Transitions} {
		vec.WithLabelValues("tcp://:80", "success")
	}
	for _, vec := range []*prometheus.CounterVec{metrics.Fleet.Votes, metrics.Fleet.Bytes, metrics.Fleet.Drops, metrics.Fleet.StoreBytes} {
		vec.WithLabelValues("sent")
	}
	metrics.Fleet.Requests.WithLabelValues("write", "ok")
	metrics.Force.Requests.WithLabelValues("changed")
	metrics.ProbeDuration.WithLabelValues("tcp://:80")
	metrics.CountBackups(answer.MaxRank) // the highest one that there is
	metrics.CountNearest("own")
	metrics.Held.Alarms.WithLabelValues("tcp://:80")
	metrics.ReportedWeight.WithLabelValues("tcp://:80", "sum")
	for _, vec := range []*prometheus.GaugeVec{metrics.Targets, metrics.Forced, metrics.Annotations, metrics.Fleet.Members, metrics.Fleet.Targets} {
		vec.WithLabelValues("up")
	}
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
	if len(ours) != 41 {
		t.Errorf("%d metrics, want 41", len(ours))
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

// The manual has the sections that CoreDNS requires, in its order, and every property of a stanza.
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
		t.Error("the first line under Name is not the heading of a manual page")
	}
	for word, syntax := range corefile.Syntax() {
		if !strings.Contains(manual, "\n    "+syntax+"\n") {
			t.Errorf("the syntax lacks: %s", syntax)
		}
		if !strings.Contains(manual, "\n| `"+word+"` | ") || !strings.Contains(manual, "\n* `"+word+"` ") {
			t.Errorf("%s is not in the table of defaults, or is not described", word)
		}
	}
	if !strings.Contains(read(t, "CHANGELOG.md"), "\n## "+Version+" ") {
		t.Errorf("the changelog has no version %s", Version)
	}
}

// docs/behaviours.md lists every behaviour once, in order, and the tests that it names exist.
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
	for i := 1; i <= 115; i++ { // of those that follow, only some are built
		want = append(want, fmt.Sprintf("B%d", i))
		if i == 60 {
			want = append(want, "B60a")
		}
	}
	want = append(want, "B117", "B118", "B119")
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
			t.Errorf("%s names no test and is not marked as planned: %s", m[1], m[2])
		}
		for _, name := range tests {
			if !known[name] {
				t.Errorf("%s: test %s not found", m[1], name)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("behaviours %v\nwant %v", got, want)
	}
}
