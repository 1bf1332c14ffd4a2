package history

import (
	"math/bits"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

const (
	// A quarter of an hour has a histogram of its own: what is older than four of them is dropped.
	quarters   = 4
	quarterFor = 15 * time.Minute
	// buckets is how many buckets a histogram has: two for each doubling, from 64 microseconds to some 8 seconds.
	buckets   = 36
	firstBits = 7 // of 64, the lower end of the second bucket in microseconds
)

// latencies has how long successful probes took in the last hour, roughly. The zero value is empty.
type latencies struct {
	quarter int32 // the latest one that there is a probe of
	counts  [quarters][buckets]uint8
}

// Took adds a successful probe. It may be called for nil.
func (l *Line) Took(d time.Duration, now clock.Instant) {
	if l == nil {
		return
	}
	h := &l.took
	h.dropOld(stepOf(now, quarterFor))
	counts := &h.counts[place(h.quarter, quarters)]
	i := bucketOf(d)
	if counts[i] == 255 { // shares are what matters; a bucket with one keeps it, so that what is rare is not lost
		for j := range counts {
			counts[j] = counts[j]/2 + counts[j]%2
		}
	}
	counts[i]++
}

// dropOld drops what is too old, before a quarter is used.
func (h *latencies) dropOld(quarter int32) {
	if quarter-h.quarter >= quarters || quarter < h.quarter {
		h.counts = [quarters][buckets]uint8{}
		h.quarter = quarter
	}
	for h.quarter < quarter {
		h.quarter++
		h.counts[place(h.quarter, quarters)] = [buckets]uint8{}
	}
}

// bucketOf is the bucket of a duration.
func bucketOf(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	n := bits.Len64(us)
	if n < firstBits {
		return 0
	}
	half := int(us >> (n - 2) & 1)
	return min(1+2*(n-firstBits)+half, buckets-1)
}

// bucketFrom is where a bucket begins, in microseconds.
func bucketFrom(i int) float64 {
	if i == 0 {
		return 0
	}
	octave, half := (i-1)/2, (i-1)%2
	return float64(uint64(1)<<(firstBits-1+octave)) * (1 + float64(half)/2)
}

// Latency is how long successful probes took in the last hour, in seconds: right to a quarter or better. Both are 0 if there was
// none.
type Latency struct {
	Median float64 `json:"median_seconds"`
	P99    float64 `json:"p99_seconds"` // 99 of 100 took less
}

// LatencyOf is the latency of some lines, which are copies, as if they were one. Nil lines count as empty.
func LatencyOf(now clock.Instant, lines ...*Line) Latency {
	var sum [buckets]uint64
	for _, l := range lines {
		if l == nil {
			continue
		}
		l.took.dropOld(stepOf(now, quarterFor))
		for _, counts := range l.took.counts {
			for i, n := range counts {
				sum[i] += uint64(n)
			}
		}
	}
	return Latency{quantile(&sum, 0.5), quantile(&sum, 0.99)}
}

// quantile is the duration in seconds that a share of the probes did not exceed. Within a bucket they are taken to be spread evenly.
func quantile(sum *[buckets]uint64, share float64) float64 {
	all := uint64(0)
	for _, n := range sum {
		all += n
	}
	rank := share * float64(all)
	for i, n := range sum {
		if n > 0 && rank <= float64(n) {
			from, to := bucketFrom(i), bucketFrom(i+1)
			return (from + (to-from)*rank/float64(n)) / 1e6
		}
		rank -= float64(n)
	}
	return 0
}
