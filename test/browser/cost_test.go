//go:build scale

package browser

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/css"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

const crowdTargets, crowdNames = 10_000, 4096

const crowd = `
example.org:DNSPORT {
    bind 127.0.0.1
    file zone
    multivalue {
        check http://:BACKENDS/healthz
        interval 10s
        timeout 2s
        within 127.0.0.0/8
        max_targets 20000
        status STATUS
    }
}`

// crowdAddress is the address of a target, by its number.
func crowdAddress(n int) net.IP { return net.IPv4(127, 1, byte(n/250), byte(n%250+1)) }

// newCrowd starts a server with crowdTargets targets, of which half are down for a hundred reasons, and waits until all are known. From
// then on, the backends of ten more targets fail or recover each second, until the test ends.
func newCrowd(t *testing.T) *farm {
	var down [crowdTargets]atomic.Bool
	for n := range down {
		down[n].Store(n%2 == 0)
	}
	port := ports.Free(t)
	l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port)) // for all addresses of loopback
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).IP.To4()
		n := int(at[2])*250 + int(at[3]) - 1
		if at[0] != 127 || n >= crowdTargets || down[n].Load() {
			w.WriteHeader(400 + n/2%100)
		}
	})}
	go func() { _ = backend.Serve(l) }()
	t.Cleanup(func() { backend.Close() })
	var zone strings.Builder
	for i := range crowdNames {
		for k := range 4 {
			fmt.Fprintf(&zone, "service-%04d A %s\n", i, crowdAddress((4*i+k)%crowdTargets))
		}
	}
	f := newFarm(t, strings.ReplaceAll(crowd, "BACKENDS", strconv.Itoa(port)), zone.String())
	for _, part := range []int{4, 2, 1} { // each within the patience of a test: only so many are learned in a minute
		f.eventually(fmt.Sprintf("one of %d is learned", part), func() bool {
			for i := range crowdNames / part {
				f.ask(fmt.Sprintf("service-%04d.example.org", i))
			}
			return f.count("") >= crowdTargets/part
		})
	}
	f.eventually("all are known", func() bool { return f.count("state=up")+f.count("state=down") == crowdTargets })
	go func() {
		for t.Context().Err() == nil {
			for range 10 {
				n := rand.N(crowdTargets)
				down[n].Store(!down[n].Load())
			}
			time.Sleep(time.Second) // the rate is what is asked for
		}
	}()
	return f
}

// processorTime is what a process and all its descendants have used, by their kind (the flag --type of Chromium).
func processorTime(t *testing.T, root int) map[string]time.Duration {
	t.Helper()
	parents, used, kinds := make(map[int]int), make(map[int]time.Duration), make(map[int]string)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil { // it has ended
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		used[pid] = time.Duration(user+system) * 10 * time.Millisecond
		command, _ := os.ReadFile(dir + "/cmdline")
		kinds[pid] = "browser"
		for arg := range strings.FieldsSeq(strings.ReplaceAll(string(command), "\x00", " ")) {
			if kind, ok := strings.CutPrefix(arg, "--type="); ok {
				kinds[pid] = kind
			}
		}
	}
	sums := make(map[string]time.Duration)
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				sums[kinds[pid]] += used[pid]
				sums["all"] += used[pid]
				break
			}
		}
	}
	return sums
}

// metrics are the counters of the renderer.
func (t *tab) metrics() map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	t.do(chromedp.ActionFunc(func(ctx context.Context) error {
		list, err := performance.GetMetrics().Do(ctx)
		for _, m := range list {
			all[m.Name] = m.Value
		}
		return err
	}))
	return all
}

// What an open page of many targets costs the browser and the server, as a whole and in parts. It measures, and takes some four
// minutes:
//
//	test/browser/run -tags scale -run TestCostOfAnOpenPage -v
func TestCostOfAnOpenPage(t *testing.T) {
	const span = 75 * time.Second
	f := newCrowd(t)
	for _, path := range []string{"/", "/?rows=each"} {
		p := f.open(path, emulation.SetDeviceMetricsOverride(1440, 900, 1, false), performance.Enable())
		p.becomes(liveState, "live")
		p.do(network.Disable(), css.Disable(), dom.Disable(), page.Disable()) // what the browser reports to the test costs it something too
		root := chromedp.FromContext(p.ctx).Browser.Process().Pid
		time.Sleep(15 * time.Second) // what loading it costs is over
		p.eval(`performance.clearResourceTimings(); 1`)
		server, before, counters, began := processorTime(t, f.process.Pid), processorTime(t, root), p.metrics(), time.Now()
		time.Sleep(span)
		took := time.Since(began)
		share := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
		after, later := processorTime(t, root), p.metrics()
		t.Logf("%s: the browser takes %.2f %% of a core in %.0f s, with %s refreshes; the server %.2f %% with all it does", path, share(after["all"]-before["all"]), took.Seconds(),
			p.eval(`performance.getEntriesByType("resource").filter((x) => x.initiatorType === "fetch").length`), share(processorTime(t, f.process.Pid)["all"]-server["all"]))
		for kind, d := range after {
			t.Logf("  %s %.2f %%", kind, share(d-before[kind]))
		}
		var names []string
		for name := range later {
			if strings.HasSuffix(name, "Duration") || strings.HasSuffix(name, "Count") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			t.Logf("  %s %.3f", name, later[name]-counters[name])
		}
		t.Logf("  sizes %s", p.eval(`[document.documentElement.outerHTML.length, document.querySelectorAll("*").length, document.querySelectorAll(".time path").length].join(" ")`))
		chromedp.Cancel(p.ctx)
	}
}
