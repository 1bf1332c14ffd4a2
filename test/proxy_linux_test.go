package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// behind is a Corefile whose page is asked by a name.
var behind = strings.Replace(showing, "status 127.0.0.1:STATUS", "status 127.0.0.1:STATUS {\n host dns1.example.org\n }", 1)

// proxyConfigs are complete configurations around the part that docs/status.md has for each program.
var proxyConfigs = map[string]struct{ args, config string }{
	"nginx": {"-p DIR -c DIR/proxy.conf", "daemon off;\npid DIR/pid;\nerror_log DIR/proxy.log;\nevents { }\nhttp {\naccess_log off;\n" +
		"client_body_temp_path DIR;\nproxy_temp_path DIR;\nfastcgi_temp_path DIR;\nuwsgi_temp_path DIR;\nscgi_temp_path DIR;\nserver {\nlisten 127.0.0.1:LISTEN;\nPART\n}\n}\n"},
	"haproxy": {"-f DIR/proxy.conf", "defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\nfrontend f\n    bind 127.0.0.1:LISTEN\n    default_backend status\nPART\n"},
}

// fromDocs is the part of docs/status.md that is for a program.
func fromDocs(t *testing.T, program string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n~~~ "+program+"\n")
	part, _, found := strings.Cut(part, "\n~~~\n")
	if !found {
		t.Fatalf("docs/status.md has nothing for %s", program)
	}
	return part
}

// What the documentation says a proxy has to send works with real ones: the page is there by the name of the proxy. A proxy that keeps
// the client's host works with the names that host has, and no others.
func TestBehindAProxy(t *testing.T) {
	for program, c := range proxyConfigs {
		t.Run(program, func(t *testing.T) {
			path := ""
			for _, place := range []string{program, "/usr/sbin/" + program} {
				if found, err := exec.LookPath(place); err == nil {
					path = found
				}
			}
			if path == "" {
				if os.Getenv("CI") == "true" {
					t.Fatalf("there is no %s", program)
				}
				t.Skipf("there is no %s", program)
			}
			s := newScene(t, 11)
			s.zone("example.org", "www A 127.0.0.11")
			_, base := s.shown(behind)
			port := strings.TrimPrefix(base, "http://127.0.0.1:")
			part := strings.ReplaceAll(fromDocs(t, program), "127.0.0.1:9253", "127.0.0.1:"+port)
			keeps := map[string]string{"nginx": "proxy_set_header Host $host;", "haproxy": ""}[program]
			documented := map[string]string{"nginx": "proxy_set_header Host localhost:9253;", "haproxy": "http-request set-header Host localhost:9253"}[program]
			sends := s.proxy(path, c.args, strings.ReplaceAll(c.config, "PART", part))
			kept := s.proxy(path, c.args, strings.ReplaceAll(c.config, "PART", strings.Replace(part, documented, keeps, 1)))
			for _, x := range []struct {
				proxy, host string
				want        int
			}{
				{sends, "status.example.net", http.StatusOK}, {sends, "dns1.example.org", http.StatusOK},
				{kept, "dns1.example.org", http.StatusOK}, {kept, "evil.example", http.StatusMisdirectedRequest},
			} {
				for _, url := range []string{"/", "/v1/summary", "/status.css"} {
					if reply := s.fetch(x.proxy, url, func(r *http.Request) { r.Host = x.host }); reply.StatusCode != x.want {
						t.Errorf("%s by %s: %s, want %d", url, x.host, reply.Status, x.want)
					}
				}
			}
		})
	}
}

// proxy runs a proxy until the test ends, and returns where it listens.
func (s *scene) proxy(path, args, config string) string {
	s.Helper()
	listen, dir := freePort(s), s.TempDir()
	words := strings.NewReplacer("DIR", dir, "LISTEN", listen)
	if err := os.WriteFile(filepath.Join(dir, "proxy.conf"), []byte(words.Replace(config)), 0o644); err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(path, strings.Fields(words.Replace(args))...)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	base := "http://127.0.0.1:" + listen
	s.eventually(func() bool {
		r, err := http.Get(base + "/v1/summary")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	}, func() string { return fmt.Sprint(path, " does not listen") })
	return base
}
