package pool

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

// A queue gives back what is in it by due time, also after some was taken out of the middle.
func TestQueue(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var q queue
		var all []*monitor
		for range rng.IntN(300) {
			m := new(monitor)
			m.due = clock.Instant(rng.IntN(100))
			q.push(m, m.due)
			all = append(all, m)
		}
		gone := make(map[*monitor]bool)
		for _, m := range all {
			if rng.IntN(3) == 0 {
				q.remove(int(m.position))
				gone[m] = true
			}
		}
		last, n := clock.LongAgo, 0
		for len(q) > 0 {
			for i, x := range q {
				if int(x.position) != i {
					t.Fatalf("the monitor at %d believes that it is at %d", i, x.position)
				}
			}
			m := q.pop()
			if gone[m] || m.due < last {
				t.Fatalf("taken out before: %t; due %d after %d", gone[m], m.due, last)
			}
			last, n = m.due, n+1
		}
		if n != len(all)-len(gone) {
			t.Fatalf("%d came back, want %d", n, len(all)-len(gone))
		}
	}
}

// BenchmarkQueue measures what a probe costs in the queue, which is to be taken out and put back, beside that of
// container/heap.
func BenchmarkQueue(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		rng := rand.New(rand.NewPCG(1, 2))
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			var q queue
			for range n {
				q.push(new(monitor), clock.Instant(rng.IntN(n)))
			}
			for b.Loop() {
				due := q[0].due
				q.push(q.pop(), due+clock.Instant(n-rng.IntN(n/10)))
			}
		})
		b.Run(fmt.Sprintf("container heap/%d", n), func(b *testing.B) {
			var q binaryQueue
			for range n {
				heap.Push(&q, &monitor{due: clock.Instant(rng.IntN(n))})
			}
			for b.Loop() {
				m := heap.Pop(&q).(*monitor)
				m.due += clock.Instant(n - rng.IntN(n/10))
				heap.Push(&q, m)
			}
		})
	}
}

// binaryQueue is the queue with container/heap.
type binaryQueue []*monitor

func (q binaryQueue) Len() int           { return len(q) }
func (q binaryQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q binaryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = int32(i), int32(j)
}

func (q *binaryQueue) Push(x any) {
	m := x.(*monitor)
	m.position = int32(len(*q))
	*q = append(*q, m)
}

func (q *binaryQueue) Pop() any {
	last := len(*q) - 1
	m := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return m
}
