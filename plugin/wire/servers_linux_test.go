package wire_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// servers are real ones from Debian: how to start each, and its configuration. Each answers /200,
// /404 and /503.
var servers = map[string]struct {
	args   []string
	config string
}{
	"nginx": {[]string{"-p", "DIR", "-c", "DIR/config"}, `
daemon off; error_log stderr; pid DIR/pid; worker_processes 2;
events { }
http {
    access_log off;
    client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
    server {
        listen ADDR;
        location /200 { return 200 ok; }
        location /404 { return 404; }
        location /503 { return 503; }
    }
}`},
	"haproxy": {[]string{"-db", "-f", "DIR/config"}, `
defaults
    mode http
    timeout client 1m
    timeout connect 1m
    timeout server 1m
frontend all
    bind ADDR
    http-request return status 200 content-type text/plain string ok if { path /200 }
    http-request return status 404 if { path /404 }
    http-request return status 503
`},
	"apache2": {[]string{"-DFOREGROUND", "-f", "DIR/config"}, `
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
Listen ADDR
ServerName localhost
User nobody
Group nogroup
DefaultRuntimeDir DIR
PidFile DIR/pid
ErrorLog DIR/errors
KeepAlive On
KeepAliveTimeout 60
DocumentRoot DIR/files
Redirect 404 /404
Redirect 503 /503
`},
}

// program is a running server, in its own process group.
type program struct {
	*testing.T
	addr netip.AddrPort
	cmd  *exec.Cmd
}

// serve starts a server, and waits until it answers.
func serve(t *testing.T, name string) *program {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	p := &program{T: t, addr: refusing(t)}
	words := strings.NewReplacer("DIR", dir, "ADDR", p.addr.String())
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // workers are of another user
		t.Fatal(err)
	}
	_ = os.Mkdir(filepath.Join(dir, "files"), 0o755)
	for file, text := range map[string]string{"config": words.Replace(servers[name].config), "files/200": "ok"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range servers[name].args {
		args = append(args, words.Replace(a))
	}
	var output strings.Builder
	p.cmd = exec.Command(path, args...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = &output, &output
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if !reached(func() bool { return p.probe("/200", time.Second) == nil }) {
		p.kill()
		t.Fatalf("%s does not answer: %s", name, output.String())
	}
	return p
}

// signal sends a signal to the first process and all its children.
func (p *program) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *program) kill() {
	p.signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

func (p *program) check(path string, options ...check.Option) *check.Check {
	p.Helper()
	c, err := check.New(fmt.Sprintf("http://:%d%s", p.addr.Port(), path), options...)
	if err != nil {
		p.Fatal(err)
	}
	return c
}

func (p *program) probe(path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return p.check(path).Probe(ctx, p.addr)
}

// Real servers give the same result to a probe and to a talk; and however they end, the loss of
// held connections is reported.
func TestRealServers(t *testing.T) {
	for name := range servers {
		for how, end := range map[string]func(p *program){
			"stop":   func(p *program) { _ = p.cmd.Process.Signal(syscall.SIGTERM) },
			"kill":   func(p *program) { p.signal(syscall.SIGKILL) },
			"reload": func(p *program) { _ = p.cmd.Process.Signal(syscall.SIGHUP) },
		} {
			if how == "reload" && name != "nginx" {
				continue
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				p := serve(t, name)
				d := newRecorder(t)
				for path, want := range map[string]string{"/200": "<nil>", "/404": "status 404", "/503": "status 503"} {
					byProbe := fmt.Sprint(p.probe(path, patience))
					byTalk := fmt.Sprint(d.askOne(p.addr, p.check(path).Talk(), patience, false).Err)
					if byProbe != want || byTalk != want {
						t.Errorf("%s: %s, and by a talk %s, want %s", path, byProbe, byTalk, want)
					}
				}
				tag, held := d.askHold(p.addr, p.check("/200", check.Option{Name: "hold"}).Talk())
				d.runTurn(p.addr)
				d.await(tag, 1)
				end(p)
				if a := d.await(tag, 2); !a.Lost || a.Held != held {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}

// The kernel of a server that hangs accepts connections, and the server sends nothing. A held
// connection to it is not lost.
func TestStoppedServer(t *testing.T) {
	p := serve(t, "nginx")
	d := newRecorder(t)
	tag, _ := d.askHold(p.addr, p.check("/200", check.Option{Name: "hold"}).Talk())
	p.signal(syscall.SIGSTOP)
	const want = "no response: timed out"
	var byTalk, byProbe string
	for limit := brief; limit < patience && (byTalk != want || byProbe != want); limit *= 2 { // a busy machine may take long to connect
		byTalk, byProbe = fmt.Sprint(d.askOne(p.addr, p.check("/200").Talk(), limit, false).Err), fmt.Sprint(p.probe("/200", limit))
	}
	if byTalk != want || byProbe != want {
		t.Errorf("%s, by Probe %s, want %s", byTalk, byProbe, want)
	}
	d.await(tag, 1)
	p.signal(syscall.SIGCONT)
	if a := d.askOne(p.addr, p.check("/200").Talk(), patience, false); a.Err != nil {
		t.Errorf("afterwards: %v", a.Err)
	}
}
