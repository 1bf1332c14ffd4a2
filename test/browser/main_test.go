// Package browser holds the tests of the status page in a real browser, against the complete program and real
// backends, all on loopback. The script run in this directory builds and installs what they need.
package browser

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/ports"

	"github.com/miekg/dns"
)

// program is the complete program.
var program = os.Getenv("MULTIVALUE_BROWSER_PROGRAM")

// patience is how long a test waits for an expected event. It only bounds a hang and measures nothing.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if program == "" {
		fmt.Fprintln(os.Stderr, "these tests are run by the script test/browser/run")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// need skips the test if a program is missing, or fails it where that is an error.
func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("*** SKIPPED: %s is missing ***", name)
}

// farm is the program with its backends.
type farm struct {
	*testing.T
	dir      string
	port     int // of all backends
	dns      string
	status   string // its address
	metrics  string
	fleet    string // where it hears the other members of its fleet
	backends map[int]*http.Server
	instead  sync.Map // what a backend sends in place of HTTP, by its number
	process  *os.Process
	log      logbook.Book
}

// newFarm starts backends at 127.0.0.N, and a server with the records. In the Corefile, FARM is replaced by the
// properties that every stanza needs.
func newFarm(t *testing.T, corefile, zone string, up ...int) *farm {
	f := &farm{T: t, dir: t.TempDir(), port: ports.Free(t), backends: make(map[int]*http.Server)}
	f.dns, f.status, f.metrics, f.fleet = local(ports.Free(t)), local(ports.Free(t)), local(ports.Free(t)), local(ports.Free(t))
	f.start(up...)
	t.Cleanup(func() {
		for _, b := range f.backends {
			b.Close()
		}
	})
	f.write("zone", "$ORIGIN example.org.\n$TTL 300\n@ SOA ns hostmaster 1 7200 900 1209600 3600\n@ NS ns\nns A 192.0.2.53\n"+zone)
	f.write("Corefile", f.expand(corefile))
	f.write("fleet.key", base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n") // each farm is a fleet of its own
	f.run()
	return f
}

func (f *farm) expand(text string) string {
	_, port, _ := net.SplitHostPort(f.dns)
	backends := strconv.Itoa(f.port)
	return strings.NewReplacer(
		"FARM", "check http://:"+backends+"/healthz\n interval 1s 200ms\n timeout 1s\n within 127.0.0.0/8",
		"DNSPORT", port, "FLEET", f.fleet, "STATUS", f.status, "METRICS", f.metrics, "DIR", f.dir, "BACKENDS", backends,
	).Replace(text)
}

func (f *farm) write(name, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// run starts the program, which ends with the test.
func (f *farm) run() {
	f.Helper()
	c := exec.Command(program, "-conf", "Corefile")
	c.Dir, c.Stdout, c.Stderr = f.dir, &f.log, &f.log
	if err := c.Start(); err != nil {
		f.Fatal(err)
	}
	f.process = c.Process
	f.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if f.Failed() {
			f.Log(f.log.String())
		}
	})
	f.eventually("the server answers", func() bool { return f.ask("ns.example.org") != "" })
}

// start brings backends up, and kill takes them down.
func (f *farm) start(octets ...int) {
	f.Helper()
	for _, n := range octets {
		l := ports.Listen(f, fmt.Sprintf("127.0.0.%d:%d", n, f.port))
		b := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if text, ok := f.instead.Load(n); ok {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = io.WriteString(conn, text.(string))
					conn.Close()
				}
				return
			}
			time.Sleep(700 * time.Microsecond * time.Duration(n%7)) // so that a plot has data
		})}
		f.backends[n] = b
		go func() { _ = b.Serve(l) }()
	}
}

func (f *farm) kill(octets ...int) {
	for _, n := range octets {
		_ = f.backends[n].Close()
	}
}

// ask returns the addresses of a name, or nothing.
func (f *farm) ask(name string) string {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeA)
	reply, _, err := new(dns.Client).Exchange(m, f.dns)
	if err != nil {
		return ""
	}
	var words []string
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			words = append(words, a.A.String())
		}
	}
	return strings.Join(words, " ")
}

func (f *farm) eventually(what string, condition func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("timeout while waiting for: %s", what)
		}
	}
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// decode reads JSON.
func decode(t *testing.T, from io.Reader, into any) {
	t.Helper()
	if err := json.NewDecoder(from).Decode(into); err != nil {
		t.Fatal(err)
	}
}
