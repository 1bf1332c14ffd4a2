//go:build unix

package etcd

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// While nothing changes nothing is written: the revision of etcd stays. It costs less than two requests a second and member.
func TestRest(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	all := make([]*testMember, 3)
	for i := range all {
		all[i] = open(t, configOf(c))
		all[i].writer.settling = time.Second
		all[i].start(t)
	}
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 1, 1000))
	agree(t, all[0], 1000, all...)
	revision := func() int64 {
		got, err := client.Get(context.Background(), "any")
		if err != nil {
			t.Fatal(err)
		}
		return got.Header.Revision
	}
	settled := func() (n int) { // of the keys of members
		for _, m := range all {
			value, _ := memberKey(t, client, m)
			if f, _ := readFact([]byte(value)); f.uptime >= time.Second && !f.behind {
				n++
			}
		}
		return n
	}
	eventually(t, "all have settled", func() bool { return settled() == len(all) })
	before, requests, said := revision(), requestsMade(t), all[1].count("said", "")
	const period = 10 * time.Second
	for end := time.Now().Add(period); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		all[0].Say(votes(verdict.Up, 1, 1000)) // which is no news
	}
	if after := revision(); after != before {
		t.Errorf("the revision was %d, and is %d", before, after)
	}
	made := requestsMade(t) - requests
	t.Logf("%.2f requests a second and member", made/period.Seconds()/float64(len(all)))
	if made > 2*period.Seconds()*float64(len(all)) {
		t.Errorf("%v requests in %s", made, period)
	}
	if n := all[1].count("said", ""); n != said {
		t.Errorf("%d batches are told", n-said)
	}
	complete(t, all...)
}

// requestsMade counts requests of all kinds.
func requestsMade(t testing.TB) (n float64) {
	t.Helper()
	for _, kind := range []string{"read", "watch", "progress", "lease", "write"} {
		for _, outcome := range []string{"ok", "refused", "failed"} {
			n += testutil.ToFloat64(metrics.Fleet.Requests.WithLabelValues(kind, outcome))
		}
	}
	return n
}

// How long it takes until all of five members have votes that one says at once. Of more than 6,000, what follows is told at the pace
// that the pool takes.
func BenchmarkToAll(b *testing.B) {
	all := startMembers(b, configOf(realetcd.Start(b, realetcd.Options{})), 5)
	for _, m := range all {
		m.recorder.quiet = true
	}
	for i, n := range []int{1, 1000, 4000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			state := verdict.Down
			for b.Loop() {
				b.StopTimer()
				time.Sleep(4 * time.Second) // until as many may be told again
				state = verdict.Up + verdict.Down - state
				before := make([]int, len(all))
				for i, m := range all {
					before[i] = m.saidSoFar()
				}
				b.StartTimer()
				all[0].Say(votes(state, i*20000+1, i*20000+n))
				for i, m := range all[1:] {
					for end := time.Now().Add(deadline); m.saidSoFar() < before[i+1]+n; time.Sleep(200 * time.Microsecond) {
						if time.Now().After(end) {
							b.Fatalf("%d of %d votes; log %s", m.saidSoFar()-before[i+1], n, m.log())
						}
					}
				}
			}
		})
	}
}

func (r *recorder) saidSoFar() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}

// What a member costs at rest, and etcd. A step is a second: use -benchtime 30x.
func BenchmarkAtRest(b *testing.B) {
	for _, members := range []int{5, 50} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			c := realetcd.Start(b, realetcd.Options{})
			p := newProxy(b, c.Servers[0].Address)
			config := configOf(c)
			config.Store.Endpoints = []string{p.address()}
			all := startMembers(b, config, members)
			all[0].Say(votes(verdict.Up, 1, 10000))
			time.Sleep(settledAfter + 5*time.Second)
			requests, bytes, cpu := requestsMade(b), p.bytes.Load(), cpuTime()
			_, server := c.Servers[0].Usage()
			period := time.Duration(b.N) * time.Second
			b.ResetTimer()
			time.Sleep(period) // which is what is measured
			b.StopTimer()
			each := float64(members) * period.Seconds()
			b.ReportMetric((requestsMade(b)-requests)/each, "requests/s")
			b.ReportMetric(float64(p.bytes.Load()-bytes)/each, "bytes/s")
			b.ReportMetric(100*(cpuTime()-cpu).Seconds()/each, "%-of-a-core") // with the proxy
			memory, after := c.Servers[0].Usage()
			b.ReportMetric(100*(after-server).Seconds()/period.Seconds(), "%-of-a-core-of-etcd")
			b.ReportMetric(float64(memory>>20), "MiB-of-etcd")
			runtime.GC()
			var heap runtime.MemStats
			runtime.ReadMemStats(&heap)
			b.ReportMetric(float64(heap.HeapAlloc)/1024/float64(members), "KiB-heap")
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
