//go:build linux

package node

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
)

// docs is the page on Kubernetes.
func (s *scene) docs() string { return s.manifest("../../docs/kubernetes.md") }

// showsDown requires that the status page of a CoreDNS says that a Pod is down. The command that leads there stands in a
// text for users, with a port that is replaced by a free one here.
func (s *scene) showsDown(p pod, text, namespace, workload, port string) {
	s.Helper()
	command := []string{"-n", namespace, "port-forward", workload, port}
	if !strings.Contains(text, "kubectl "+strings.Join(command, " ")) {
		s.Errorf("no kubectl %s in\n%s", strings.Join(command, " "), text)
	}
	command[len(command)-1] = ":" + port
	forward := exec.Command("kubectl", command...)
	output, err := forward.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	first, err := bufio.NewReader(output).ReadString('\n')
	m := regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> ` + port).FindStringSubmatch(first)
	if m == nil {
		s.Fatalf("kubectl %q says %q, %v", command, first, err)
	}
	go func() { _, _ = io.Copy(io.Discard, output) }() // ends with the program
	for path, want := range map[string]string{"/": "<html", "/v1/targets?state=down": `"` + p.addresses[0] + `:8080"`} {
		response, err := http.Get("http://" + m[1] + path)
		if err != nil {
			s.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if !strings.Contains(string(text), want) {
			s.Errorf("%s at %s has no %s:\n%.2000s", path, workload, want, text)
		}
	}
}
