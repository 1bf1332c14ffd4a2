//go:build dist

// These tests try the files of a release as users would: in the directory that -dist names. .ci/release and .ci/run call them.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var dist = flag.String("dist", "", "the directory of the release")

func TestMain(m *testing.M) {
	flag.Parse()
	path, err := filepath.Abs(*dist)
	if err != nil {
		panic(err)
	}
	*dist = path
	os.Exit(m.Run())
}

// file returns the only file of the release with such a name.
func file(t *testing.T, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(*dist, pattern))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d files %s in -dist %q: %v", len(all), pattern, *dist, err)
	}
	return all[0]
}

// The checksums are right, and each file has one.
func TestChecksums(t *testing.T) {
	if all := checksums(t, *dist); len(all) < 10 {
		t.Errorf("only %d files", len(all))
	}
}

// emulators are the programs of QEMU that run those of another architecture, by the names of Go.
var emulators = map[string]string{
	"amd64": "qemu-x86_64-static",
	"arm64": "qemu-aarch64-static", "arm": "qemu-arm-static", "riscv64": "qemu-riscv64-static", "s390x": "qemu-s390x-static", "ppc64le": "qemu-ppc64le-static",
}

// Each program for Linux that is in the release answers, by the README's first Corefile, with the addresses that are healthy: under
// QEMU if it is for another machine.
func TestEachProgramAnswers(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join(*dist, "*_linux_*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".tar.gz"), func(t *testing.T) {
			dir := t.TempDir()
			run(t, dir, "tar", "xzf", path, "--strip-components=1")
			command := []string{filepath.Join(dir, "coredns")}
			if arch := strings.TrimSuffix(path[strings.LastIndex(path, "_")+1:], ".tar.gz"); arch != runtime.GOARCH {
				emulator, err := exec.LookPath(emulators[arch])
				if err != nil {
					lacking(t, "program to run those for "+arch+": "+err.Error())
				}
				command = slices.Insert(command, 0, emulator)
			}
			filters(t, command)
		})
	}
}

// filters starts CoreDNS with the README's first Corefile, at a free port, and two web servers. Both are in its answers, one of them
// when the other has ended, and both when that is back.
func filters(t *testing.T, command []string) {
	t.Helper()
	port, web := freePort(t), freePort(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, corefile, _ := strings.Cut(string(readme), "~~~ corefile\n")
	corefile, _, _ = strings.Cut(corefile, "~~~\n")
	corefile = strings.NewReplacer(":1053 {", ":"+port+" {", ":8080/", ":"+web+"/").Replace(corefile)
	if strings.Count(corefile, port) < 1 || strings.Count(corefile, web) < 1 {
		t.Fatalf("not the Corefile that is meant:\n%s", corefile)
	}
	path := filepath.Join(t.TempDir(), "Corefile")
	// A user of its own has to reach it.
	if err := os.WriteFile(path, []byte(corefile), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} { // both are of this test
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(host string) *http.Server {
		l, err := net.Listen("tcp", net.JoinHostPort(host, web))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{}
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		return s
	}
	serve("127.0.0.2")
	second := serve("127.0.0.3")
	cmd := exec.Command(command[0], append(command[1:], "-conf", path)...)
	var log safeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	comesTo := func(want string) {
		t.Helper()
		var got string
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if got = answer(port); got == want {
				return
			}
		}
		t.Fatalf("the answer is %q, want %q:\n%s", got, want, log.String())
	}
	comesTo("127.0.0.2 127.0.0.3")
	second.Close()
	comesTo("127.0.0.2")
	serve("127.0.0.3")
	comesTo("127.0.0.2 127.0.0.3")
	if !strings.Contains(log.String(), "127.0.0.3:"+web+" is down after 3 failures") {
		t.Errorf("the log does not say so:\n%s", log.String())
	}
}

// answer asks the server for the addresses of the README's name, and returns them sorted.
func answer(port string) string {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:"+port)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := r.LookupHost(ctx, "www.example.org.")
	if err != nil {
		return err.Error()
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// freePort is a port that was free on all addresses a moment ago. It is below those that the system gives to connections.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(2000))
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no port is free")
	return ""
}

// safeBuffer is a buffer that a process may write to while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The Debian package is installed and started by nothing. Its program runs as its unit says: as its user, with the one right that
// opens port 53. An edited Corefile stays over an upgrade, and nothing but it and the user over a removal. It changes the
// machine, so it runs in CI alone.
func TestDebianPackage(t *testing.T) {
	if os.Getenv("CI") != "true" || os.Getuid() != 0 {
		t.Skip("installs a package: set CI=true, as root")
	}
	deb := file(t, "coredns-multivalue_*_"+runtime.GOARCH+".deb")
	install := []string{"DEBIAN_FRONTEND=noninteractive"}
	apt := func(args ...string) string {
		t.Helper()
		out, err := outputWith(".", install, "apt-get", append([]string{"-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Cleanup(func() { _ = exec.Command("apt-get", "-qq", "-y", "purge", "coredns-multivalue").Run() })
	if out := apt("install", deb); !strings.Contains(out, "systemctl enable --now coredns-multivalue") {
		t.Errorf("it does not say how to start it:\n%s", out)
	}
	if links, err := filepath.Glob("/etc/systemd/system/*.wants/coredns-multivalue.service"); err != nil || len(links) > 0 {
		t.Errorf("it would be started with the machine: %q, %v", links, err)
	}
	started, err := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range started {
		if program, _ := os.Readlink(link); program == "/usr/bin/coredns-multivalue" {
			t.Errorf("it is started: %s", link)
		}
	}
	if err != nil || len(started) == 0 {
		t.Errorf("no processes: %v", err)
	}
	const unit = "/usr/lib/systemd/system/coredns-multivalue.service"
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the unit: %v: %s", err, out)
	}
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return string(m[1])
	}
	start := strings.Fields(value("ExecStart"))
	user := strings.TrimSpace(run(t, ".", "id", "-u", value("User")))
	if user == "0" {
		t.Error("the user is root")
	}
	const corefile = "/etc/coredns-multivalue/Corefile"
	if !slices.Equal(start[1:], []string{"-conf", corefile}) {
		t.Errorf("%q", start)
	}
	as := []string{"setpriv", "--reuid", value("User"), "--regid", value("Group"), "--clear-groups", "--bounding-set", "-all,+net_bind_service",
		"--inh-caps", "-all,+net_bind_service", "--ambient-caps", "-all,+net_bind_service", "--no-new-privs"}
	filters(t, append(as, start[0]))
	opensPort53(t, as, start)

	edited := "# edited\n" + read(t, corefile)
	if err := os.WriteFile(corefile, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	apt("install", "--reinstall", deb)
	if read(t, corefile) != edited {
		t.Error("an upgrade replaced the edited Corefile")
	}
	if err := os.MkdirAll("/var/lib/coredns-multivalue", 0o700); err != nil { // as systemd does for the unit
		t.Fatal(err)
	}
	apt("remove", "coredns-multivalue")
	if read(t, corefile) != edited {
		t.Error("a removal took the edited Corefile")
	}
	apt("purge", "coredns-multivalue")
	for _, path := range []string{unit, corefile, start[0], "/var/lib/coredns-multivalue", "/etc/coredns-multivalue"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

// opensPort53 runs the program with the Corefile that it came with, but for the address, which is free in a network of its own.
func opensPort53(t *testing.T, as, start []string) {
	t.Helper()
	cmd := exec.Command(as[0], append(as[1:], start...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	var log safeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	// In that network loopback is down, which does not matter: the address can be bound.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.After(time.Minute)
	for !strings.Contains(log.String(), "CoreDNS-") {
		select {
		case err := <-ended:
			t.Fatalf("%v:\n%s", err, log.String())
		case <-limit:
			t.Fatalf("it does not start:\n%s", log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	<-ended
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The RPM packages have the same files as the Debian ones, and unpack. No test installs one: that needs another machine.
func TestRPMPackages(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		lacking(t, "rpm")
	}
	all, err := filepath.Glob(filepath.Join(*dist, "*.rpm"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no packages: %v", err)
	}
	debs, _ := filepath.Glob(filepath.Join(*dist, "*.deb"))
	if len(debs) != len(all) {
		t.Errorf("%d RPM packages, and %d of Debian", len(all), len(debs))
	}
	want := regexp.MustCompile(`(?m) \./((?:usr|etc)/.*[^/])$`)
	var files []string
	for _, m := range want.FindAllStringSubmatch(run(t, ".", "dpkg-deb", "--contents", debs[0]), -1) {
		files = append(files, "/"+m[1])
	}
	slices.Sort(files)
	for _, path := range all {
		run(t, ".", "rpm", "--checksig", "--nosignature", path)
		listed := strings.Fields(run(t, ".", "rpm", "--query", "--package", "--list", path))
		got := slices.DeleteFunc(slices.Clone(listed), func(dir string) bool { // directories, of which Debian has more
			return slices.ContainsFunc(listed, func(f string) bool { return strings.HasPrefix(f, dir+"/") })
		})
		slices.Sort(got)
		if !slices.Equal(got, files) {
			t.Errorf("%s has %q, want %q", path, got, files)
		}
		if scripts := run(t, ".", "rpm", "--query", "--package", "--scripts", path); !strings.Contains(scripts, "systemctl enable --now coredns-multivalue") {
			t.Errorf("%s:\n%s", path, scripts)
		}
	}
}

// The archives of images can be read by other programs than ours: skopeo shows and copies each, for each architecture.
func TestImagesElsewhere(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		lacking(t, "skopeo")
	}
	for _, e := range editions {
		path := file(t, e.name+"_[0-9]*_image.tar")
		out := run(t, ".", "skopeo", "inspect", "--raw", "oci-archive:"+path)
		for _, arch := range []string{"amd64", "arm64"} {
			if !strings.Contains(out, `"architecture":"`+arch+`"`) {
				t.Errorf("%s has no image for %s:\n%s", path, arch, out)
				continue
			}
			to := filepath.Join(t.TempDir(), "copy")
			run(t, ".", "skopeo", "--override-arch", arch, "--override-os", "linux", "copy", "oci-archive:"+path, "dir:"+to)
			if _, err := os.Stat(filepath.Join(to, "manifest.json")); err != nil {
				t.Error(err)
			}
		}
	}
}

// minors are the versions of CoreDNS that are supported: the newest of the newest three minor versions (docs/upgrading.md).
var minors = []string{"v1.15.0", "v1.14.7", "v1.13.2"}

// The module is built into a checkout of each supported version of CoreDNS, by the line in plugin.cfg, from the release's proxy alone.
// The result answers as the README says.
func TestMinors(t *testing.T) {
	const build = "    go get " + modulePath + "@latest\n    go generate coredns.go\n    go build -mod=mod\n"
	if releasing := read(t, "../../docs/releasing.md"); !strings.Contains(releasing, build) {
		t.Errorf("docs/releasing.md does not have the commands that are tried here:\n%s", build)
	}
	if upgrading := read(t, "../../docs/upgrading.md"); !strings.Contains(upgrading, strings.ReplaceAll(strings.Join(minors, ", "), "v", "")) {
		t.Errorf("docs/upgrading.md does not name %q", minors)
	}
	if mod := read(t, "../../go.mod"); !strings.Contains(mod, "\tgithub.com/coredns/coredns "+minors[0]+"\n") {
		t.Errorf("go.mod does not name %s", minors[0])
	}
	proxy := filepath.Join(*dist, "goproxy")
	others := run(t, ".", "go", "env", "GOPROXY")
	env := []string{"GOPROXY=file://" + proxy + "," + others, "GONOSUMDB=" + modulePath, "GOFLAGS=-modcacherw", "GOMODCACHE=" + modules(t)}
	for _, version := range minors {
		t.Run(version, func(t *testing.T) {
			began := time.Now()
			dir := filepath.Join(t.TempDir(), "coredns")
			source := strings.TrimSpace(run(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns@"+version))
			if source == "" {
				got, err := outputWith(".", nil, "go", "mod", "download", "-json", "github.com/coredns/coredns@"+version)
				m := regexp.MustCompile(`"Dir": "(.*)"`).FindStringSubmatch(got)
				if err != nil || m == nil {
					t.Fatalf("%v: %s", err, got)
				}
				source = m[1]
			}
			run(t, ".", "cp", "-r", source, dir)
			run(t, ".", "chmod", "-R", "u+w", dir)
			cfg := filepath.Join(dir, "plugin.cfg")
			line := "multivalue:" + modulePath + "/full\ncache:cache\n" // which has the module's root, and what needs Kubernetes's client
			if err := os.WriteFile(cfg, []byte(strings.Replace(read(t, cfg), "cache:cache\n", line, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"go get " + modulePath + "@latest", "go generate coredns.go", "go build -mod=mod"} {
				words := strings.Fields(command)
				if _, err := outputWith(dir, env, words[0], words[1:]...); err != nil {
					t.Fatal(err)
				}
			}
			if got := run(t, dir, "./coredns", "-version"); !strings.Contains(got, "CoreDNS-"+version[1:]) {
				t.Error(got)
			}
			t.Logf("built in %s", time.Since(began).Round(time.Second))
			filters(t, []string{filepath.Join(dir, "coredns")})
		})
	}
}

// modules is the cache of modules, in which the version that is not published yet would stay: what is there of it from an earlier
// release is removed before and after.
func modules(t *testing.T) string {
	t.Helper()
	cache := run(t, ".", "go", "env", "GOMODCACHE")
	forget := func() {
		for _, pattern := range []string{modulePath + "@*", "cache/download/" + modulePath + "/@v"} {
			all, _ := filepath.Glob(filepath.Join(cache, filepath.FromSlash(pattern)))
			for _, dir := range all {
				_ = exec.Command("chmod", "-R", "u+w", dir).Run()
				_ = os.RemoveAll(dir)
			}
		}
	}
	forget()
	t.Cleanup(forget)
	return cache
}
