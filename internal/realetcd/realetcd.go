//go:build unix

package realetcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/ports"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// startTime is far more than a server takes to answer, on a machine that is busy with other tests. It bounds a hang, and no test
// measures by it.
const startTime = 2 * time.Minute

// Options say what is special about a cluster. The zero value is one server without TLS.
type Options struct {
	Servers int        // 1 if it is 0
	TLS     *Authority // that its certificate is of; clients need one of it, too
	Args    []string   // more flags, such as --quota-backend-bytes=16777216
}

// Cluster is one etcd.
type Cluster struct {
	Servers []*Server
	tls     *Authority // that the certificates are of; nil for none
}

// Server is one server of a cluster. Its fields are set when it is made, and what changes with each start is not safe for concurrent
// use: a test starts and stops a server from one goroutine.
type Server struct {
	Address string // host and port for clients
	Dir     string // with its data
	program string
	args    []string      // the same ones at each start
	cmd     *exec.Cmd     // nil if it does not run
	ended   chan struct{} // closed when it has ended
	log     logbook.Book  // what it prints
}

// Start starts a cluster, and waits until it answers. It is killed at the end of the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	// All addresses are drawn before the first server starts, since each has to know the others.
	program := find(t)
	c := &Cluster{tls: o.TLS}
	var peers []string
	for i := range max(1, o.Servers) {
		s := &Server{Address: fmt.Sprint("127.0.0.1:", ports.Free(t)), Dir: filepath.Join(t.TempDir(), "data"), program: program}
		name, peer, scheme := fmt.Sprint("s", i), fmt.Sprint("http://127.0.0.1:", ports.Free(t)), "http://"
		if o.TLS != nil {
			scheme = "https://"
			// Only what clients ask is sealed: the servers talk to each other over loopback.
			cert, key := o.TLS.Issue(t, "server")
			s.args = append(s.args, "--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+o.TLS.CA, "--client-cert-auth")
		}
		peers = append(peers, name+"="+peer)
		s.args = append(s.args, "--name="+name, "--data-dir="+s.Dir, "--log-level=error", "--unsafe-no-fsync",
			"--listen-client-urls="+scheme+s.Address, "--advertise-client-urls="+scheme+s.Address,
			"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer)
		c.Servers = append(c.Servers, s)
	}
	for _, s := range c.Servers {
		s.args = append(s.args, "--initial-cluster="+strings.Join(peers, ","))
		s.args = append(s.args, o.Args...)
		s.launch(t)
		t.Cleanup(s.Kill)
	}
	c.Wait(t)
	return c
}

// Endpoints are the addresses of all servers.
func (c *Cluster) Endpoints() (all []string) {
	for _, s := range c.Servers {
		all = append(all, s.Address)
	}
	return all
}

// Client returns a client of all servers, as a user with a password if one is named. It is closed at the end of the test.
func (c *Cluster) Client(t testing.TB, userAndPassword ...string) *clientv3.Client {
	t.Helper()
	// It waits for a server that starts, and logs nothing of its own.
	config := clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop(), DialTimeout: startTime}
	// Without authentication, etcd does not look at them.
	if len(userAndPassword) == 2 {
		config.Username, config.Password = userAndPassword[0], userAndPassword[1]
	}
	if c.tls != nil {
		cert, key := c.tls.Issue(t, "client")
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: c.tls.pool()}
	}
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Wait waits until the cluster answers.
func (c *Cluster) Wait(t testing.TB) {
	t.Helper()
	client := c.Client(t)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		// The requests of a server that has just restarted may hang until it knows its leader, so each has a time of its own.
		one, cancelOne := context.WithTimeout(ctx, 5*time.Second)
		_, err := client.Get(one, "answers")
		cancelOne()
		// With authentication, a refusal is an answer.
		if err == nil || errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrPermissionDenied) {
			return
		}
		if ctx.Err() != nil {
			for _, s := range c.Servers {
				t.Logf("%s: %s", s.Address, s.log.String())
			}
			t.Fatalf("etcd does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// EnableAuth makes a user root with a password, and switches authentication on.
func (c *Cluster) EnableAuth(t testing.TB, password string) {
	t.Helper()
	// Etcd demands that there is a user root with the role of that name.
	client, ctx := c.Client(t), context.Background()
	_, errUser := client.UserAdd(ctx, "root", password)
	_, errRole := client.UserGrantRole(ctx, "root", "root")
	_, err := client.AuthEnable(ctx)
	if err := errors.Join(errUser, errRole, err); err != nil {
		t.Fatal(err)
	}
}

// Stop stops the process, as SIGSTOP does, until Cont. Where that can be told, it waits until all of its threads have stopped.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	for end := time.Now().Add(startTime); time.Now().Before(end) && s.runs(); {
		time.Sleep(time.Millisecond)
	}
}

// runs reports whether a thread of the process is not stopped.
func (s *Server) runs() bool {
	// The signal comes to the threads one after the other, and one that still runs may answer. Without /proc there is none to see.
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	for _, path := range threads {
		text, _ := os.ReadFile(path)
		if _, after, ok := strings.Cut(string(text), ") "); ok && !strings.HasPrefix(after, "T") {
			return true
		}
	}
	return false
}

// Cont has a stopped process go on.
func (s *Server) Cont(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the process as SIGKILL does. Its data stays.
func (s *Server) Kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill() // also one that is stopped
		<-s.ended
		s.cmd = nil
	}
}

// Restart starts a killed server with the data that it has.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	s.launch(t)
}

// Usage is the memory in bytes and the processor time that the process has taken so far. It is 0 where that cannot be told.
func (s *Server) Usage() (memory int, cpu time.Duration) {
	// The memory is in pages, and the time in hundredths of a second, behind a name that may have spaces in it.
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if fields := strings.Fields(string(status)); len(fields) > 1 {
		pages, _ := strconv.Atoi(fields[1])
		memory = pages * os.Getpagesize()
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	if fields := strings.Fields(after); len(fields) > 12 {
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		cpu = time.Duration(user+system) * time.Second / 100
	}
	return memory, cpu
}

// SaveData copies the data of a server that does not run to a directory of the test, and returns that.
func (s *Server) SaveData(t testing.TB) string {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(s.Dir)); err != nil {
		t.Fatal(err)
	}
	return saved
}

// LoadData puts saved data in the place of what a server has that does not run.
func (s *Server) LoadData(t testing.TB, saved string) {
	t.Helper()
	// Nothing of what the server has now may be left.
	if err := errors.Join(os.RemoveAll(s.Dir), os.CopyFS(s.Dir, os.DirFS(saved))); err != nil {
		t.Fatal(err)
	}
}

// Exchange restarts all servers with certificates of another authority.
func (c *Cluster) Exchange(t testing.TB, a *Authority) {
	t.Helper()
	for _, s := range c.Servers {
		s.Kill()
		// Of a flag that comes twice, the last one counts.
		cert, key := a.Issue(t, "server")
		s.args = append(s.args, "--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+a.CA)
		s.launch(t)
	}
	c.tls = a
	c.Wait(t)
}

// launch starts the process.
func (s *Server) launch(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	// A server takes no more than two processors from the tests that run beside it.
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Who kills it waits for its end, so that its ports are free and its data is complete.
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() { defer close(ended); cmd.Wait() }()
}

// find returns the program, and builds it if it is not there. Without it the test is skipped, and fails in CI.
func find(t testing.TB) string {
	t.Helper()
	program, err := build()
	if err == nil {
		return program
	}
	if os.Getenv("CI") == "true" {
		// A test that is left out there would be missed by no one.
		t.Fatalf("etcd cannot be built: %v", err)
	}
	t.Skipf("etcd cannot be built, which the test needs: %v", err)
	return ""
}

// build returns the path of the program. Where that is and how it is locked is that of test/kube/tools.
func build() (string, error) {
	// Tests run in the directory of their package, so the module says where test/kube is.
	root, err := goEnv("GOMOD")
	if err != nil {
		return "", err
	}
	kube := filepath.Join(filepath.Dir(root), "test", "kube")
	mod, err := os.ReadFile(filepath.Join(kube, "go.mod"))
	if err != nil {
		return "", err
	}
	// The version is part of the path, so a new one is built beside the old one.
	_, after, found := strings.Cut(string(mod), "go.etcd.io/etcd/server/v3 v")
	if !found {
		return "", fmt.Errorf("%s/go.mod does not name it", kube)
	}
	version := "v" + strings.Fields(after)[0]
	cache := os.Getenv("MULTIVALUE_KUBE_CACHE")
	if cache == "" {
		own, err := goEnv("GOCACHE")
		if err != nil {
			return "", err
		}
		cache = filepath.Join(filepath.Dir(own), "multivalue-kube")
	}
	// The tests with Kubernetes may have built it already, together with their other programs.
	if all, _ := filepath.Glob(filepath.Join(cache, "kubernetes-*-etcd-"+version+"-"+runtime.GOARCH, "etcd")); len(all) > 0 {
		return all[0], nil
	}
	return buildInto(kube, cache, filepath.Join(cache, "etcd-"+version+"-"+runtime.GOARCH))
}

// buildInto builds the program, unless it is there.
func buildInto(kube, cache, program string) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// The tests of several packages run at the same time, and one of them builds for all.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	// A build that is cut off leaves nothing that looks like a program.
	// It is the one that test/kube/tools builds, without cgo and without symbols.
	cmd := exec.Command("go", "build", "-C", kube, "-trimpath", "-ldflags=-s -w", "-o", program+".new", "go.etcd.io/etcd/server/v3")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return program, os.Rename(program+".new", program)
}

// goEnv asks the Go tool.
func goEnv(name string) (string, error) {
	out, err := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out)), err
}
