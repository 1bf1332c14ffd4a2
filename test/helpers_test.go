package test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// scene holds the backends and files of one test.
type scene struct {
	testing.TB
	port     string // of all backends
	dir      string
	backends map[int]*backend
}

// newScene starts backends at 127.0.0.N that share a port.
func newScene(t testing.TB, up ...int) *scene {
	t.Helper()
	ports.Need(t, "127.0.0.11") // on Linux and Windows all of 127.0.0.0/8 works; elsewhere only 127.0.0.1
	s := &scene{TB: t, dir: t.TempDir(), backends: make(map[int]*backend)}
	for _, n := range up {
		s.start(n)
	}
	if s.port == "" {
		s.port = freePort(t)
	}
	return s
}

// start brings a backend up, for the first time or again.
func (s *scene) start(octets ...int) {
	s.Helper()
	for _, n := range octets {
		s.backends[n] = s.listen(fmt.Sprintf("127.0.0.%d", n), answerHTTP)
	}
}

// kill closes backends: new connections to them are refused.
func (s *scene) kill(octets ...int) {
	for _, n := range octets {
		s.backends[n].close()
	}
}

// words returns what replaces the placeholders in Corefiles and zones. QUICK makes a stanza that detects a change
// within a second. CALM makes one that has its first verdicts as quickly, and then does not probe again during the
// test.
func (s *scene) words() *strings.Replacer {
	const quick = "interval 600ms 100ms\n timeout 600ms\n within 127.0.0.0/8"
	const calm = "interval 24h 100ms\n timeout 1m\n within 127.0.0.0/8"
	return strings.NewReplacer(
		"QUICK", "check http://:"+s.port+"/\n "+quick,
		"CALM", "check http://:"+s.port+"/\n "+calm,
		"PORT", s.port, "DIR", s.dir)
}

func (s *scene) expand(text string) string { return s.words().Replace(text) }

// file writes a file into the directory that Corefiles call DIR.
func (s *scene) file(name, text string) {
	s.Helper()
	s.verbatim(name, s.expand(text))
}

// verbatim is like file, without replacing placeholders: a key or a signature contains one by chance now and then.
func (s *scene) verbatim(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// zone writes a zone file. The file is named after the zone.
func (s *scene) zone(origin, records string) {
	s.Helper()
	s.file(origin, zoneText(origin, records))
}

// zoneText returns the records, preceded by those that every zone needs.
func zoneText(origin, records string) string {
	const head = "$ORIGIN %s.\n$TTL 300\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 192.0.2.53\n%s\n"
	return fmt.Sprintf(head, origin, records)
}

// backend is a listener that counts its connections.
type backend struct {
	net.Listener
	accepted atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
	served   sync.WaitGroup
}

// listen starts a backend on the scene's port. The first backend chooses that port.
func (s *scene) listen(host string, serve func(net.Conn)) *backend {
	s.Helper()
	if s.port == "" {
		s.port = freePort(s)
	}
	b := &backend{Listener: ports.Listen(s, net.JoinHostPort(host, s.port)), open: make(map[net.Conn]bool)}
	b.served.Go(func() { b.accept(serve) })
	s.Cleanup(b.close)
	return b
}

func (b *backend) accept(serve func(net.Conn)) {
	for {
		conn, err := b.Accept()
		if err != nil {
			return
		}
		b.accepted.Add(1)
		b.mu.Lock()
		b.open[conn] = true
		b.mu.Unlock()
		b.served.Go(func() {
			serve(conn)
			conn.Close()
			b.mu.Lock()
			delete(b.open, conn)
			b.mu.Unlock()
		})
	}
}

func (b *backend) close() {
	b.Listener.Close()
	b.mu.Lock()
	for conn := range b.open {
		conn.Close()
	}
	b.mu.Unlock()
	b.served.Wait()
}

// visitors returns the number of open connections.
func (b *backend) visitors() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// answerHTTP reads one request and answers it.
func answerHTTP(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 4096)); err == nil {
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
	}
}

// hang reads and never answers, until the peer closes the connection.
func hang(conn net.Conn) {
	for {
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// server is a CoreDNS in this process.
type server struct {
	*scene
	instance *caddy.Instance
	addr     string // for UDP
	tcp      string
}

func input(corefile string) caddy.Input {
	return caddy.CaddyfileInput{Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns"}
}

// serve starts a server, and stops it when the test ends.
func (s *scene) serve(corefile string) *server {
	s.Helper()
	i, err := caddy.Start(input(s.expand(corefile)))
	if err != nil {
		s.Fatal(err)
	}
	if err := answersOn(i); err != nil {
		s.Fatal(err)
	}
	first := i.Servers()[0]
	v := &server{scene: s, instance: i, addr: first.LocalAddr().String(), tcp: first.Addr().String()}
	s.Cleanup(v.stop)
	return v
}

// answersOn waits until every server of an instance serves, over UDP and TCP: CoreDNS does not stop one that has not begun to.
func answersOn(i *caddy.Instance) error {
	m := query(". TXT", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	for _, server := range i.Servers() {
		if server.LocalAddr() == nil {
			continue // it does not speak plain DNS
		}
		for network, addr := range map[string]net.Addr{"udp": server.LocalAddr(), "tcp": server.Addr()} {
			client := dns.Client{Net: network, Timeout: patience}
			if _, _, err := client.Exchange(m, addr.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop ends the server in the way that SIGTERM does.
func (v *server) stop() {
	for _, err := range v.instance.ShutdownCallbacks() {
		v.Error(err)
	}
	if err := v.instance.Stop(); err != nil {
		v.Error(err)
	}
}

// reload applies an edited Corefile in the way that SIGUSR1 and the reload plugin do.
func (v *server) reload(corefile string) error {
	next, err := v.instance.Restart(input(v.expand(corefile)))
	v.instance = next
	if err != nil {
		return err
	}
	return answersOn(next)
}

// mustReload is reload for a Corefile that is valid.
func (v *server) mustReload(corefile string) {
	v.Helper()
	if err := v.reload(corefile); err != nil {
		v.Fatal(err)
	}
}

// query is a question such as "www.example.org A", and functions that change it.
func query(question string, edits ...func(*dns.Msg)) *dns.Msg {
	name, qtype, _ := strings.Cut(question, " ")
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	for _, edit := range edits {
		edit(m)
	}
	return m
}

func do(m *dns.Msg) { m.SetEdns0(4096, true) }

func edns(m *dns.Msg) { m.SetEdns0(4096, false) }

// ask sends a query over UDP and returns the reply.
func (v *server) ask(question string, edits ...func(*dns.Msg)) *dns.Msg {
	v.Helper()
	return v.exchange("udp", query(question, edits...))
}

func (v *server) exchange(network string, m *dns.Msg) *dns.Msg {
	v.Helper()
	client := dns.Client{Net: network, Timeout: patience, UDPSize: 4096}
	reply, _, err := client.Exchange(m, map[string]string{"udp": v.addr, "tcp": v.tcp}[network])
	if err != nil {
		v.Fatalf("%s: %v", m.Question[0].String(), err)
	}
	return reply
}

// members lists the backends in an answer by the last number of their address, sorted.
func members(m *dns.Msg) string {
	var all []int
	for _, rr := range m.Answer {
		if addr, ok := addressOf(rr); ok {
			raw := addr.As16()
			all = append(all, int(raw[15]))
		}
	}
	slices.Sort(all)
	return strings.Trim(fmt.Sprint(all), "[]")
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return netip.Addr{}, false
}

// types lists the types of the records in a section, in order.
func types(section []dns.RR) string {
	names := make([]string, len(section))
	for i, rr := range section {
		names[i] = dns.TypeToString[rr.Header().Rrtype]
	}
	return strings.Join(names, " ")
}

// comesTo asks until the answer has exactly these backends, and returns that answer.
func (v *server) comesTo(question, want string, edits ...func(*dns.Msg)) *dns.Msg {
	v.Helper()
	var reply *dns.Msg
	v.eventually(func() bool {
		reply = v.ask(question, edits...)
		return members(reply) == want
	}, func() string { return fmt.Sprintf("%s has %q, want %q", question, members(reply), want) })
	return reply
}

// eventually waits until the condition holds.
func (s *scene) eventually(condition func() bool, complaint func() string) {
	s.Helper()
	if !reached(patience, condition) {
		s.Fatal(complaint())
	}
}

// down waits until n targets are down in the pool.
func (s *scene) down(n int) {
	s.Helper()
	s.eventually(func() bool { return targetsIn("down") == n },
		func() string { return fmt.Sprintf("%d targets are down, want %d", targetsIn("down"), n) })
}

// settled waits until the pool has exactly these numbers of targets up and down, and no others.
func (s *scene) settled(up, down int) {
	s.Helper()
	s.eventually(func() bool { return targetsIn("up") == up && targetsIn("down") == down && targetsIn("unknown") == 0 },
		func() string {
			return fmt.Sprintf("%d up, %d down, %d unknown: want %d, %d, 0",
				targetsIn("up"), targetsIn("down"), targetsIn("unknown"), up, down)
		})
}

func targetsIn(state string) int { return int(metric("coredns_multivalue_targets", "state="+state)) }

// metric adds up the samples of a family that have all the labels, each written as name=value.
func metric(family string, labels ...string) (total float64) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName()+"="+l.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

// freePort returns a port that is free for TCP and UDP.
func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(ports.Free(t))
}
