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

// scene is the backends and files of one test.
type scene struct {
	testing.TB
	port     string // of all backends
	dir      string
	backends map[int]*backend
}

// newScene starts backends at 127.0.0.N, which share a port.
func newScene(t testing.TB, up ...int) *scene {
	t.Helper()
	ports.Need(t, "127.0.0.11") // as on Linux and Windows: elsewhere there is 127.0.0.1 alone
	s := &scene{TB: t, dir: t.TempDir(), backends: make(map[int]*backend)}
	for _, n := range up {
		s.start(n)
	}
	if s.port == "" {
		s.port = freePort(t)
	}
	return s
}

// start brings a backend up, again or for the first time.
func (s *scene) start(octets ...int) {
	s.Helper()
	for _, n := range octets {
		s.backends[n] = s.listen(fmt.Sprintf("127.0.0.%d", n), answerHTTP)
	}
}

// kill closes backends: connections to them are refused.
func (s *scene) kill(octets ...int) {
	for _, n := range octets {
		s.backends[n].close()
	}
}

// words are what stands for the particulars of a scene in Corefiles and zones. QUICK makes a stanza that notices within
// a second; CALM one that comes to its first verdicts as quickly, and after that does not ask again while a test lasts.
func (s *scene) words() *strings.Replacer {
	const quick = "interval 600ms 100ms\n timeout 600ms\n within 127.0.0.0/8"
	const calm = "interval 24h 100ms\n timeout 1m\n within 127.0.0.0/8"
	return strings.NewReplacer(
		"QUICK", "check http://:"+s.port+"/\n "+quick,
		"CALM", "check http://:"+s.port+"/\n "+calm,
		"PORT", s.port, "DIR", s.dir)
}

func (s *scene) expand(text string) string { return s.words().Replace(text) }

// file writes a file into the directory that Corefiles know as DIR.
func (s *scene) file(name, text string) {
	s.Helper()
	s.verbatim(name, s.expand(text))
}

// verbatim is file for text that no word may be looked for in: now and then one stands in a key or a signature.
func (s *scene) verbatim(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// zone writes a zone file, which has the zone's name.
func (s *scene) zone(origin, records string) {
	s.Helper()
	s.file(origin, zoneText(origin, records))
}

// zoneText is the records with those that every zone needs in front.
func zoneText(origin, records string) string {
	const head = "$ORIGIN %s.\n$TTL 300\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 192.0.2.53\n%s\n"
	return fmt.Sprintf(head, origin, records)
}

// backend is a listener that counts who comes.
type backend struct {
	net.Listener
	accepted atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
	served   sync.WaitGroup
}

// listen starts a backend on the scene's port, which the first one chooses.
func (s *scene) listen(host string, serve func(net.Conn)) *backend {
	s.Helper()
	if s.port == "" {
		s.port = freePort(s)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, s.port))
	if err != nil {
		s.Fatal(err)
	}
	b := &backend{Listener: l, open: make(map[net.Conn]bool)}
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

// visitors is how many connections are open.
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

// hang reads and never answers, until the peer goes.
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

// answersOn waits until the first server of an instance takes queries: a stop before that would leave it behind.
func answersOn(i *caddy.Instance) error {
	m := query(". TXT", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	first := i.Servers()[0]
	for network, addr := range map[string]net.Addr{"udp": first.LocalAddr(), "tcp": first.Addr()} {
		client := dns.Client{Net: network, Timeout: patience}
		if _, _, err := client.Exchange(m, addr.String()); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the server as SIGTERM does.
func (v *server) stop() {
	for _, err := range v.instance.ShutdownCallbacks() {
		v.Error(err)
	}
	if err := v.instance.Stop(); err != nil {
		v.Error(err)
	}
}

// reload puts an edited Corefile into force, as SIGUSR1 and reload do.
func (v *server) reload(corefile string) error {
	next, err := v.instance.Restart(input(v.expand(corefile)))
	v.instance = next
	return err
}

// mustReload is reload of a Corefile that is in order.
func (v *server) mustReload(corefile string) {
	v.Helper()
	if err := v.reload(corefile); err != nil {
		v.Fatal(err)
	}
}

// query is a question such as "www.example.org A", with the changes to it.
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

// ask asks over UDP, and has waited for the answer when it returns.
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

// members are the backends in an answer, by the last number of their address, in order.
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

// types is the types of the records in a section, in order.
func types(section []dns.RR) string {
	names := make([]string, len(section))
	for i, rr := range section {
		names[i] = dns.TypeToString[rr.Header().Rrtype]
	}
	return strings.Join(names, " ")
}

// comesTo asks until the answer has just these backends, and returns that answer.
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

// down waits until the pool believes n targets to be down.
func (s *scene) down(n int) {
	s.Helper()
	s.eventually(func() bool { return targetsIn("down") == n },
		func() string { return fmt.Sprintf("%d targets are down, want %d", targetsIn("down"), n) })
}

// settled waits until the pool believes so many targets to be up and down, and knows of no others.
func (s *scene) settled(up, down int) {
	s.Helper()
	s.eventually(func() bool { return targetsIn("up") == up && targetsIn("down") == down && targetsIn("unknown") == 0 },
		func() string {
			return fmt.Sprintf("%d up, %d down, %d unknown: want %d, %d, 0",
				targetsIn("up"), targetsIn("down"), targetsIn("unknown"), up, down)
		})
}

func targetsIn(state string) int { return int(metric("coredns_multivalue_targets", "state="+state)) }

// metric adds up the samples of a family that have all of the labels, each written as name=value.
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

// freePort is a port that is free for TCP and UDP.
func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(ports.Free(t))
}
