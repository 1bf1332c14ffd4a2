package test

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // all standard plugins
)

// TestMain puts multivalue in its place in the chain, runs the tests, and wants every goroutine and descriptor back
// that they took (B71).
func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives(multivalue.Directives(dnsserver.Directives)); err != nil {
		log.Fatal(err)
	}
	log.SetOutput(&logs)
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

// warmUp starts and stops a server without multivalue, since CoreDNS starts some things once and for all.
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

// census is what the process holds.
type census struct{ goroutines, descriptors int }

func takeCensus() census {
	open, _ := os.ReadDir("/proc/self/fd")
	return census{runtime.NumGoroutine(), len(open)}
}

// comesBack waits until the process holds no more than it did. Two are allowed for: what net
// and os/exec keep for the next one.
func (c census) comesBack() bool {
	const spare = 2
	return reached(patience, func() bool {
		runtime.GC() // sockets that caddy handed from one instance to the next are closed by their finalizers
		now := takeCensus()
		return now.goroutines <= c.goroutines+spare && now.descriptors <= c.descriptors+spare
	})
}

// patience is how long a test waits for what must come about. It bounds a hang, and measures nothing.
const patience = 30 * time.Second

// reached polls until the condition holds, or the time is over.
func reached(within time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(within); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// logs is what the servers of this process have logged.
var logs logbook

type logbook struct {
	sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(b)
}

// mark is a place in the log, for since.
func (l *logbook) mark() int {
	l.Lock()
	defer l.Unlock()
	return l.text.Len()
}

// since is what was logged after the mark.
func (l *logbook) since(mark int) string {
	l.Lock()
	defer l.Unlock()
	return l.text.String()[mark:]
}
