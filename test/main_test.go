package test

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/internal/logbook"
	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/etcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // all standard plugins
)

// TestMain puts multivalue in its place in the chain, runs the tests, and checks that every goroutine and descriptor
// that they took is released (B71).
func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	multivalue.LinkFleet(func(c membership.Config, host membership.Host) (membership.Engine, error) { // as package full does
		if c.UsesStore() {
			return etcd.Open(c, host)
		}
		return gossip.Open(c, host)
	})
	if err := dnsserver.SetDirectives(multivalue.Directives(dnsserver.Directives)); err != nil {
		log.Fatal(err)
	}
	log.SetOutput(&logs)
	if namespaces.Inside() { // the network is new, and its loopback is down
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			log.Fatalf("%v: %s", err, out)
		}
	}
	warmUp()
	before := takeCensus()
	code := m.Run()
	os.RemoveAll(built.dir)
	if !before.comesBack() && code == 0 {
		fmt.Fprintf(os.Stderr, "left behind: %v before the tests, %v after\n", before, takeCensus())
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		code = 1
	}
	os.Exit(code)
}

// warmUp starts and stops a server without multivalue, because CoreDNS starts some things only once per process.
func warmUp() {
	i, err := caddy.Start(input("example.org:0 {\n bind 127.0.0.1\n erratic\n}\n"))
	if err != nil {
		log.Fatal(err)
	}
	if err := answersOn(i); err != nil {
		log.Fatal(err)
	}
	i.ShutdownCallbacks()
	_ = i.Stop()
}

// census counts what the process holds.
type census struct{ goroutines, descriptors int }

func takeCensus() census {
	open, _ := os.ReadDir("/proc/self/fd")
	return census{runtime.NumGoroutine(), len(open)}
}

// comesBack waits until the process holds no more than before. Two descriptors more are allowed: net and os/exec keep
// those for later use.
func (c census) comesBack() bool {
	const spare = 2
	return reached(patience, func() bool {
		runtime.GC() // finalizers close sockets that caddy passed from one instance to the next
		now := takeCensus()
		return now.goroutines <= c.goroutines+spare && now.descriptors <= c.descriptors+spare
	})
}

// patience is how long a test waits for an expected event. It only bounds a hang and measures nothing.
const patience = 30 * time.Second

// reached polls until the condition holds or the time is over.
func reached(within time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(within); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// logs holds what the servers of this process have logged.
var logs logbook.Book
