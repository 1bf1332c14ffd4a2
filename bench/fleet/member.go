package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// A member is cmd/coredns as it is, with a Corefile of its own. All that differs between members are addresses, so each has the same
// ports as the others, as it would on hosts of their own.

const (
	// maxMembers is how many addresses there are for members.
	maxMembers = 250
	// The ports of a member. Each has an address of its own, in a namespace of its own, so they are free.
	dnsPort, metricsPort, profilePort, fleetPort = 1053, 9153, 6053, 9254
	// The pace of the stanza: a death is noticed within 13 seconds.
	interval, fast, timeout = 10 * time.Second, time.Second, time.Second
	// vantage is how many members probe a target: the default.
	vantage = 3
)

// workload is what the members of a run have to do.
type workload struct {
	members, names int
	shared         bool // with the property fleet
	dir            string
	etcd           string // the program, for a fleet over etcd; else empty
	store          *store // the running one; nil for none
	backend        *backend
}

// targets is how many there are: each name has perName.
func (w workload) targets() int { return w.names * perName }

// word is what a run is called.
func (w workload) word() string {
	if w.shared {
		return "fleet"
	}
	return "alone"
}

// member is a CoreDNS.
type member struct {
	address string
	process *exec.Cmd
	ended   chan struct{}
}

// on is one of its ports, with its address.
func (m *member) on(port int) string { return net.JoinHostPort(m.address, strconv.Itoa(port)) }

// startMembers starts all members, and returns when they answer. On an error it returns those that were started, for the caller to stop.
func (w workload) startMembers() (all []*member, err error) {
	if err := os.WriteFile(filepath.Join(w.dir, "db.example.org"), []byte(w.zone()), 0o600); err != nil {
		return nil, err
	}
	// Both runs have the same files, and only one uses the key.
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	if err := os.WriteFile(filepath.Join(w.dir, "fleet.key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return nil, err
	}
	for i := range w.members {
		m := &member{address: memberAddress(i), ended: make(chan struct{})}
		corefile := filepath.Join(w.dir, "Corefile."+m.address)
		if err := os.WriteFile(corefile, []byte(w.corefile(m.address)), 0o600); err != nil {
			return all, err
		}
		m.process = exec.Command(*binary, "-quiet", "-conf", corefile)
		m.process.SysProcAttr = withUs()
		// Its log is thrown away with the folder: with a thousand deaths it is long, and a terminal would be slow.
		log, err := os.Create(filepath.Join(w.dir, "log."+m.address))
		if err != nil {
			return all, err
		}
		m.process.Stdout, m.process.Stderr = log, log
		err = m.process.Start()
		_ = log.Close()
		if err != nil {
			return all, err
		}
		go func() {
			defer close(m.ended)
			_ = m.process.Wait()
		}()
		all = append(all, m)
	}
	// All of them start at the same time, as after a power failure.
	for _, m := range all {
		if err := m.awaitReady(); err != nil {
			return all, err
		}
	}
	return all, nil
}

// memberAddress is the address of a member.
func memberAddress(i int) string { return fmt.Sprintf("127.8.0.%d", i+1) }

// zone returns the zone file, the same for all members.
func (w workload) zone() string {
	var b strings.Builder
	b.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\nexample.org. 300 IN NS ns.example.org.\n")
	for i := range w.targets() {
		fmt.Fprintf(&b, "%s 60 IN A %s\n", nameOf(i/perName), targetAddress(i))
	}
	return b.String()
}

// nameOf is the name of eight targets.
func nameOf(i int) string { return fmt.Sprintf("www%d.example.org.", i) }

// corefile returns the Corefile of a member. With preload it knows the targets without queries, whose number a minute is bounded.
func (w workload) corefile(address string) string {
	fleet := ""
	switch {
	case w.store != nil:
		fleet = fmt.Sprintf("  fleet etcd://%s {\n   vantage %d\n  }\n", storeAddress, vantage)
	case w.shared:
		fleet = fmt.Sprintf("  fleet %s %s {\n   key %s/fleet.key\n   listen %s:%d\n   vantage %d\n  }\n", memberAddress(0), memberAddress(1), w.dir, address, fleetPort, vantage)
	}
	return fmt.Sprintf("example.org:%d {\n bind %s\n prometheus %s:%d\n pprof %s:%d\n errors\n multivalue {\n  check tcp://:%d\n  interval %s %s\n  timeout %s\n"+
		"  within 127.0.0.0/8\n  max_targets %d\n  preload\n%s }\n file %s/db.example.org\n}\n",
		dnsPort, address, address, metricsPort, address, profilePort, backendPort, interval, fast, timeout, w.targets(), fleet, w.dir)
}

// awaitReady returns when the member answers.
func (m *member) awaitReady() error {
	for range 600 {
		if conn, err := net.DialTimeout("tcp", m.on(dnsPort), time.Second); err == nil {
			return conn.Close()
		}
		select {
		case <-m.ended:
			return fmt.Errorf("the member %s has ended: is -coredns a CoreDNS with this version of multivalue?", m.address)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("the member %s does not answer", m.address)
}

// stopAll ends all members, and waits until they have ended.
func stopAll(all []*member) {
	for _, m := range all {
		_ = m.process.Process.Signal(syscall.SIGTERM)
	}
	for _, m := range all {
		select {
		case <-m.ended:
		case <-time.After(20 * time.Second):
			_ = m.process.Process.Kill()
			<-m.ended
		}
	}
}

// get asks over a connection of its own: one that has been idle may be closed by the server just then.
func get(url string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Close = true
	return http.DefaultClient.Do(r)
}

// metrics reads the figures that the member says of itself, without the name space and the prefix of the plugin.
func (m *member) metrics() (map[string]float64, error) {
	resp, err := get("http://" + m.on(metricsPort) + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	values := make(map[string]float64)
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		series, value, _ := strings.Cut(in.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			values[strings.TrimPrefix(series, "coredns_multivalue_")] = n
		}
	}
	return values, in(values, "targets{state=\"up\"}", m.address)
}

// in is an error if a figure is missing.
func in(values map[string]float64, series, address string) error {
	if _, ok := values[series]; !ok {
		return fmt.Errorf("the metrics of %s lack %s", address, series)
	}
	return nil
}

// heap has the member collect garbage. It returns how many bytes of the heap are in use after a garbage collection.
func (m *member) heap() (float64, error) {
	resp, err := get("http://" + m.on(profilePort) + "/debug/pprof/heap?gc=1")
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	values, err := m.metrics()
	return values["go_memstats_heap_alloc_bytes"], err
}

// saveProfile writes a processor profile of some seconds into the folder of -profile.
func (m *member) saveProfile(name string, d time.Duration) error {
	resp, err := get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", m.on(profilePort), int(d.Seconds())))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := os.Create(filepath.Join(*profile, name+".pprof"))
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}

// The processor time of a member has whatever it does in it: its probes, the fleet, the scheduler and garbage collection of its
// runtime. What a fleet adds is seen beside the run in which each member is alone, which has more probes and nothing else.

// usage is what all members have used so far, and what they have told the fleet.
type usage struct {
	at             time.Time
	cpu            float64 // seconds of processor time
	sent, received float64 // bytes of the fleet
	packets        float64 // UDP packets that were sent in this namespace
	probes, least  int     // that have arrived
	server         serverUsage
}

// takeUsage takes the usage of all members.
func (w workload) takeUsage(all []*member) (u usage, err error) {
	// First what other members could add to while this function works.
	u.packets, err = datagrams()
	if err != nil {
		return u, err
	}
	u.probes, u.least = w.backend.sum(w.targets())
	u.at = time.Now()
	for _, m := range all {
		ns, err := measure.CPU(m.process.Process.Pid)
		if err != nil {
			return u, err
		}
		u.cpu += float64(ns) / 1e9
	}
	if w.store != nil {
		u.server, err = w.store.usage()
		u.sent, u.received = u.server.received, u.server.sent
		return u, err
	}
	for _, m := range all { // after the others, because this costs processor time
		values, err := m.metrics()
		if err != nil {
			return u, err
		}
		u.sent += values[`fleet_bytes_total{way="sent"}`]
		u.received += values[`fleet_bytes_total{way="received"}`]
	}
	return u, nil
}

// The namespace has no traffic but that of members and of this program, so the kernel's own counters tell how many packets there
// were. A packet of another program would be in another namespace.

// datagrams is how many UDP packets were sent in this namespace.
func datagrams() (float64, error) {
	text, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		// There are two such lines: the names of the counters, and then their values.
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "OutDatagrams" {
				return strconv.ParseFloat(fields[i], 64)
			}
		}
	}
	return 0, fmt.Errorf("no OutDatagrams in /proc/net/snmp")
}
