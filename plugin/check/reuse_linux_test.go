package check_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// asked has a real server asked again and again. It wants one connection for as many probes as it may
// have; a new one, without a failure, when the server has begun again; and a failure when it hangs or
// is gone.
func (s *server) asked(c *check.Check, begin func()) {
	s.Helper()
	r := newReusing(s, c, s.addr)
	var last string
	if !wait(func() bool { last = reason(r.probe()); return last == "" && r.kept != nil }) { // it may still be starting
		s.Fatalf("%s: %q, kept %t; log:\n%s", c, last, r.kept != nil, s.log.String())
	}
	for range 20 {
		// The last piece of an answer may come too late for a probe that follows at once.
		if !wait(func() bool { last := r.kept; r.good(1); return r.kept == last }) {
			s.Fatalf("%s: another connection each time", c)
		}
	}
	first := r.kept
	if begin == nil {
		return
	}
	s.end()
	begin()
	s.await(c, "")
	r.good(1)
	if r.kept == first || r.kept == nil {
		s.Errorf("%s: the connection has survived its server", c)
	}
	s.signal(syscall.SIGSTOP)
	got := ""
	if !wait(func() bool { got = reason(r.probeFor(brief)); return strings.HasSuffix(got, "timed out") }) {
		s.Errorf("%s: stopped: %q", c, got)
	}
	s.signal(syscall.SIGCONT)
	s.await(c, "")
	s.end()
	if got := reason(r.probe()); got != "connection refused" && got != "no response: connection refused" {
		s.Errorf("%s: ended: %q", c, got)
	}
}

// Real servers from Debian keep the connection, and say all that they say on it (B114).
func TestReuseOfRealPrograms(t *testing.T) {
	ca := newAuthority(t)
	trust := opt("ca", ca.file(t))
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, name, ca)
			for _, lines := range [][][]string{
				{opt("alpn", "h2")}, {opt("alpn", "http/1.1")}, {opt("alpn", "h2"), opt("body", "ok")}, {opt("alpn", "http/1.1"), opt("no_body", "none")},
				{opt("method", "HEAD")}, {opt("hold")},
			} {
				c := mustNew(t, "https://www.example.org/200", append(lines, trust, opt("reuse"))...)
				r.asked(c, nil)
			}
			r.asked(mustNew(t, "https://www.example.org/200", trust, opt("reuse")), r.begin)
			r.begin()
			r.addr = r.open
			r.asked(mustNew(t, "http:///200", opt("reuse")), nil)
		})
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		begin := func() {
			s.start("redis-server", "--bind", "HOST", "--port", "PORT", "--dir", "DIR", "--save", "")
		}
		for _, lines := range [][][]string{nil, {opt("role", "master")}} {
			begin()
			s.asked(mustNew(t, "redis://", append(lines, opt("reuse"))...), begin)
		}
		begin2 := func() {
			s.start("redis-server", "--bind", "HOST", "--port", "PORT", "--dir", "DIR", "--save", "", "--replicaof", "127.0.0.1", "1")
		}
		begin2()
		s.asked(mustNew(t, "redis://", opt("role", "replica"), opt("reuse")), begin2)
	})
	t.Run("bind", func(t *testing.T) {
		t.Parallel()
		lookFor(t, "named")
		s := newServer(t)
		s.directory("data")
		s.certify(ca, template("db.example.org"))
		s.file("good", "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\nwww A 192.0.2.1\n")
		tls := refusing(t)
		words := strings.NewReplacer("DIR", s.dir, "HOST", "127.0.0.1", "PORT", port(s.addr), "TLS", port(tls), "tcp-clients 2", "tcp-clients 9")
		s.file("conf", words.Replace(bindConfig))
		begin := func() { s.start("named", "-g", "-c", "DIR/conf", "-n", "1") }
		begin()
		s.asked(mustNew(t, "dns:///www.example.org", opt("tcp"), opt("reuse")), begin)
		s.addr = tls
		begin()
		s.asked(mustNew(t, "dot://db.example.org/www.example.org", trust, opt("reuse")), begin)
	})
	t.Run("grpc", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.startGRPC()
		s.asked(mustNew(t, "grpc://:1", opt("reuse")), func() { s.startGRPC() })
	})
	t.Run("grpcs", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.directory("data")
		s.certify(ca, template("db.example.org"))
		begin := func() { s.startGRPC(grpcFiles + "=" + s.dir + "/data") }
		begin()
		s.asked(mustNew(t, "grpcs://db.example.org:1", trust, opt("reuse")), begin)
	})
}

// Without a free descriptor a connection that is kept is asked all the same. A new one cannot be
// opened, which proves nothing.
func TestReuseWithoutDescriptors(t *testing.T) {
	p := listen(t, "127.0.0.1", sayAgain(ok))
	r := newReusing(t, mustNew(t, "http://", opt("reuse")), p.addr)
	r.good(1)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	starved := before
	starved.Cur = 3 // every number below is taken
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &starved); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()
	if _, err := os.Open(os.DevNull); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("there is a descriptor left: %v", err)
	}
	r.good(10)
	for _, conn := range p.accepted() {
		conn.Close()
	}
	if err := r.probe(); !errors.Is(err, check.ErrAbstain) {
		t.Errorf("without a descriptor: %v", err)
	}
}
