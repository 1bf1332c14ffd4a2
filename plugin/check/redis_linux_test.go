package check_test

import (
	"net"
	"testing"
)

// A real Redis in each of its states.
func TestRealRedis(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	any, master, replica := mustNew(t, "redis://"), mustNew(t, "redis://", opt("role", "master")), mustNew(t, "redis://", opt("role", "replica"))
	begin := func(args ...string) {
		s.end()
		s.start("redis-server", append([]string{"--bind", "HOST", "--port", "PORT", "--dir", "DIR", "--save", ""}, args...)...)
	}
	begin()
	s.await(any, "")
	s.await(master, "")
	s.await(replica, `role is "master", not replica`)
	s.hangs(any, silent)
	s.await(any, "")

	// It has data to load, and is slow at it.
	s.run("redis-cli", "-h", "HOST", "-p", "PORT", "EVAL", "for i=1,5000 do redis.call('set', i, i) end", "0")
	s.run("redis-cli", "-h", "HOST", "-p", "PORT", "SAVE")
	begin("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	s.await(any, `redis error "LOADING Redis is loading the dataset in memory"`)

	begin("--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no")
	s.await(any, `redis error "MASTERDOWN Link with MASTER is down and replica-serve-stale"…`)
	begin("--replicaof", "127.0.0.1", "1")
	s.await(any, "") // stale data is data
	s.await(replica, "")
	s.await(master, `role is "replica", not master`)

	begin("--requirepass", "s3cret")
	s.await(any, "")
	s.await(master, `role unknown, because the server requires a login: "NOAUTH Authentication required."`)

	begin("--maxclients", "1")
	s.await(any, "")
	held := hang(t, s)
	s.await(any, `redis error "ERR max number of clients reached"`)
	held.Close()
	s.await(any, "")

	s.end()
	s.await(any, "connection refused")

	trusted := newAuthority(t)
	s.directory("data")
	s.judgesCertificates(mustNew(t, "rediss://db.example.org", opt("ca", trusted.file(t)), opt("role", "master")), s.addr, trusted, func() {
		begin("--port", "0", "--tls-port", "PORT", "--tls-cert-file", "DIR/data/server.crt", "--tls-key-file", "DIR/data/server.key", "--tls-auth-clients", "no")
	})
}

// hang opens a connection and leaves it open.
func hang(t *testing.T, s *server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
