package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/namespaces"
)

// fences returns the blocks of shell commands in a document. What is between "~~~ console" and "~~~" is for readers alone, because
// it needs what a test has not, such as a registry.
func fences(t *testing.T, doc string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^~~~ sh\n(.*?)^~~~$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has no commands", doc)
	}
	return all
}

// alone runs a test in a network of its own, where every port is free, and returns a directory with the program in it.
func alone(t *testing.T) (dir string, goOn bool) {
	t.Helper()
	for _, name := range []string{"ip", "bash", "dig", "curl", "jq", "python3"} {
		needsProgram(t, name)
	}
	const variable = "MULTIVALUE_TEST_PROGRAM" // built here, so that the process with the network does not build it again
	if !namespaces.Inside() {
		t.Setenv(variable, program(t))
	}
	// And in a process namespace, so that what the commands start ends with the test.
	if !namespaces.Rerun(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWPID) {
		return "", false
	}
	dir = t.TempDir()
	for _, name := range []string{"coredns", "mvctl"} { // which are built into the same directory
		if err := os.Symlink(filepath.Join(filepath.Dir(os.Getenv(variable)), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, true
}

// shell runs a script in a directory, and returns what it prints.
func shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.SysProcAttr, cmd.WaitDelay = dir, &syscall.SysProcAttr{Setpgid: true}, 5*time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The commands of the README's first scene work as they are written, in an empty directory: both addresses, and one of them after
// its server has ended. They wait here for what the README waits some seconds for.
func TestCommandsOfTheReadme(t *testing.T) {
	dir, goOn := alone(t)
	if !goOn {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(corefilesOf(t, "../README.md")[0]), 0o644); err != nil {
		t.Fatal(err)
	}
	script := "set -m\nset -o pipefail\ntrap 'kill $(jobs -p)' EXIT\n"
	expected := regexp.MustCompile(`^(dig .*?)\s+# (.*)$`)
	checked := 0
	for line := range strings.Lines(strings.Join(fences(t, "../README.md")[:2], "")) {
		line = strings.TrimSpace(line)
		switch m := expected.FindStringSubmatch(line); {
		case line == "go build ./cmd/coredns": // the program is there
		case m != nil:
			checked++
			want := strings.ReplaceAll(m[2], " and ", " ")
			script += fmt.Sprintf("until got=$(%s | sort | xargs); [ \"$got\" = %q ]; do sleep 0.1; done; echo \"$got\"\n", m[1], want)
		default:
			script += line + "\n"
		}
	}
	out, err := shell(t, dir, script)
	if both := regexp.MustCompile(`(?s)\n127\.0\.0\.2 127\.0\.0\.3\n.*\n127\.0\.0\.2\n`); err != nil || checked != 2 || !both.MatchString("\n"+out) {
		t.Errorf("%d answers, %v:\n%s\nof\n%s", checked, err, out, script)
	}
}

// pageScene is a server as the commands of the documents expect it: at port 1053, with the status page at its default address, and a
// name with two healthy addresses and a dead one.
const pageScene = `
example.org:1053 {
    bind 127.0.0.1
    multivalue {
        check http://:8080/
        interval 2s 100ms
        timeout 2s
        within 127.0.0.0/8
        weight 3 127.0.0.2
        force forced
        status
    }
    hosts {
        127.0.0.2 www.example.org
        127.0.0.3 www.example.org
        127.0.0.4 www.example.org
    }
}
`

// The commands in the documents run as they are written, and each of them prints something.
func TestCommandsOfTheDocs(t *testing.T) {
	dir, goOn := alone(t)
	if !goOn {
		return
	}
	for name, text := range map[string]string{"Corefile": pageScene, "broken": strings.Replace(pageScene, "check", "chekc", 1), "forced": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := exec.Command("bash", "-c", "for i in 2 3; do python3 -m http.server --bind 127.0.0.$i 8080 & echo $! > pid$i; done; ./coredns & wait")
	log := new(logbook.Book)
	start.Dir, start.Stdout, start.Stderr, start.SysProcAttr = dir, log, log, &syscall.SysProcAttr{Setpgid: true}
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-start.Process.Pid, syscall.SIGKILL)
		_ = start.Wait()
	}()
	const ready = `until dig +short +tries=1 @127.0.0.1 -p 1053 www.example.org && [ "$(curl -s localhost:9253/v1/summary | jq -c '[.up, .down]')" = '[2,1]' ]; do sleep 0.1; done`
	if out, err := shell(t, dir, ready); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, log.Since(0))
	}
	for _, doc := range []string{"troubleshooting", "recipes", "status", "mvctl"} {
		for _, block := range fences(t, "../docs/"+doc+".md") {
			for line := range strings.Lines(block) {
				runs(t, dir, strings.TrimSpace(line))
			}
		}
	}
}

// prints is what the output of each command has to match, by a part of the command. Nothing is expected of an empty one.
var prints = []struct{ part, want string }{
	// The scene is in no fleet. TestFleetPage, in test/browser, has one for those of status.md.
	{"mvctl targets --state down -o json", `^127\.0\.0\.4:8080$`},
	{"mvctl targets --state down", `^STATE .*\n✗ down\s+127\.0\.0\.4:8080 .*connection refused$`},
	{"mvctl explain", `(?s)www\.example\.org\. A.*filtered.*127\.0\.0\.4\s+left out.*1\. `},
	{"mvctl config --set", `(?s)^Corefile:4 .*\n\s+interval\s+2s 100ms\s+Corefile:6\n`},
	{"mvctl config -o json", `^Corefile:4: 2s 100ms$`},
	{"mvctl changes -o json", `(?m)^127\.0\.0\.4:8080$`},
	{"mvctl names", `- filtered\s+www\.example\.org\.\s+A\s+2 of 3$`},
	{"/v1/config", `^Corefile:4: 8, default$`},
	{"/v1/history", `^\d+ transitions, \d+(\.\d+)? s$`},
	{"jq .fleet", `^null$`},
	{"/v1/members", `^$`},
	{"/v1/incident", "(?s)^# Incident.*`127\\.0\\.0\\.4:8080` by `http://:8080/` is \\*\\*down\\*\\*"},
	{"/v1/targets?format", "(?s)^# Targets.*`127\\.0\\.0\\.2:8080`"},
	{"/v1/explain?format", "(?s)^# How `www.example.org.` `A` is answered.*left out"},
	{".votes[", `^$`},
	{"{up, down, unknown}", `"down": 1,`},
	{".steps[], (", `(?s)2 of 3 are up.*127\.0\.0\.4: connection refused`},
	{"state=down", `^127\.0\.0\.4:8080 since \S+: connection refused$`},
	{"served \\(.served): ", `127\.0\.0\.4 served false: connection refused`},
	{"/v1/targets?name=", `127\.0\.0\.4:8080 down connection refused`},
	{"for i in 1 2", `[0-9]+ 127\.0\.0\.[23]`},
	{"dig +short", `^127\.0\.0\.[23]\n127\.0\.0\.[23]$`},
	{"| grep -E 'IN", `\s[0-9]+\s+IN\s+A\s+127\.0\.0\.2`},
	{"grep -i -E 'weight", "their order is drawn by weight"},
	{"%{http_code}", `^200$`},
	{"./coredns -conf", `broken:5 - Error during parsing: unknown property "chekc": did you mean "check"\?`},
	{"/v1/checks", `^3 targets of http://:8080/, every 2 s$`},
	{"echo 'drain", ""},
	{"select(.served | not).member", `^127\.0\.0\.2\n127\.0\.0\.4$`},
	{"echo > new", ""},
	{".explanations[].steps[]", "2 of 3 are up"},
	{"select(.served).member", `^127\.0\.0\.[23]\n127\.0\.0\.[23]$`},
	{"jq -e", "^true$"},
	{"/v1/changes", `127\.0\.0\.4:8080 unknown -> down connection refused`},
	{"/events", `event: change\ndata: .*127\.0\.0\.3:8080`},
}

// runs runs a line of a document.
func runs(t *testing.T, dir, line string) {
	t.Helper()
	if strings.HasPrefix(line, "#") {
		return
	}
	i := slices.IndexFunc(prints, func(p struct{ part, want string }) bool { return strings.Contains(line, p.part) })
	if i < 0 {
		t.Errorf("this test does not know what to expect of\n%s", line)
		return
	}
	script := strings.ReplaceAll(line, "192.0.2.1", "127.0.0.2") // an address of the documents, in the scene's network
	switch {
	case strings.Contains(line, "/events"): // a stream that goes on, and shows that a server ends and comes back meanwhile
		script = script + ` > changes &
			down() { until [ "$(curl -s localhost:9253/v1/summary | jq .down)" = $1 ]; do sleep 0.1; done; }
			until grep -q '^data:.*127\.0\.0\.3' changes; do
				kill $(cat pid3); down 2
				python3 -m http.server --bind 127.0.0.3 8080 > /dev/null 2>&1 & echo $! > pid3; down 1
			done
			kill $(jobs -p); cat changes`
	case strings.HasPrefix(line, "./coredns"):
		script = "! " + strings.Replace(script, "Corefile", "broken", 1)
	case strings.Contains(line, "forced"): // the document waits for some seconds
		before, _, _ := strings.Cut(script, ";")
		count := "0"
		if strings.Contains(line, "drain") {
			count = "1"
		}
		script = before + "\nuntil [ $(curl -s localhost:9253/v1/summary | jq .forced.drain) = " + count + " ]; do sleep 0.1; done"
	}
	out, err := shell(t, dir, "set -o pipefail\nPATH=.:$PATH\n"+script)
	if err != nil || !regexp.MustCompile(prints[i].want).MatchString(strings.TrimSpace(out)) {
		t.Errorf("%s\n%v: %s\nwant %s", line, err, out, prints[i].want)
	}
}
