package gossip

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What a member costs at rest, of a fleet that is in one process. A step is a second, the first of which are those after the joins: use
// -benchtime 30x. What the kernel counts is of all programs of the machine, so run it in a network namespace of its own.
func BenchmarkAtRest(b *testing.B) {
	for _, members := range []int{5, 50} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			all := startFleet(b, members, writeKeys(b, newKey()))
			sent := func() (bytes, packets float64) { return testutil.ToFloat64(all[0].t.sent), packetsSent(b) }
			period := time.Duration(b.N) * time.Second
			bytes, packets := sent()
			cpu := cpuTime(b)
			b.ResetTimer()
			time.Sleep(period) // which is what is measured
			b.StopTimer()
			bytesAfter, packetsAfter := sent()
			each := float64(members) * period.Seconds()
			b.ReportMetric((bytesAfter-bytes)/each, "bytes/s") // without the headers of IP and UDP
			b.ReportMetric((packetsAfter-packets)/each, "packets/s")
			b.ReportMetric(100*(cpuTime(b)-cpu).Seconds()/each, "%-of-a-core")
		})
	}
}

// How long it takes until all of 50 members have votes that one says at once.
func BenchmarkToAll(b *testing.B) {
	all := startFleet(b, 50, writeKeys(b, newKey()))
	said := 0
	for _, votes := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprint(votes), func(b *testing.B) {
			for b.Loop() {
				all[0].Say(votesUpTo(1, votes))
				said += votes
				for _, m := range all[1:] {
					eventually(b, "all votes", func() bool { return m.numberOfVotes(all[0].name()) >= said })
				}
			}
		})
	}
}

func (r *recorder) numberOfVotes(name string) (n int) {
	for _, e := range r.events("said", name) {
		n += len(e.ports)
	}
	return n
}

// packetsSent counts those of all programs in this network namespace.
func packetsSent(t testing.TB) float64 {
	text, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	_, udp, _ := strings.Cut(string(text), "Udp: InDatagrams")
	_, udp, _ = strings.Cut(udp, "\nUdp: ")
	n, _ := strconv.ParseFloat(strings.Fields(udp)[3], 64)
	return n
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
