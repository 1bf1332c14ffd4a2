package pool

import "github.com/coredns-multivalue/multivalue/internal/clock"

// queue is a heap of monitors, the first due on top. A monitor knows its position, so that it can be taken out.
//
// It is a heap of our own: container/heap, which calls three methods through an interface for each step, was a tenth of what
// a probe costs. Four children share a line of the processor's cache, and their due times stand beside them, so that
// sifting does not touch the monitors that stay.
type queue []slot

// slot is a monitor in a queue.
type slot struct {
	due clock.Instant
	*monitor
}

// children is how many children a node has.
const children = 4

// push adds a monitor.
func (q *queue) push(m *monitor, due clock.Instant) {
	*q = append(*q, slot{due, m})
	q.up(len(*q) - 1)
}

// pop takes the first monitor out.
func (q *queue) pop() *monitor {
	m := (*q)[0].monitor
	q.remove(0)
	return m
}

// remove takes the monitor at a position out.
func (q *queue) remove(i int) {
	last := len(*q) - 1
	moved := (*q)[last]
	(*q)[last] = slot{}
	*q = (*q)[:last]
	if i == last {
		return
	}
	(*q)[i] = moved
	q.up(i)
	q.down(int(moved.position))
}

// up moves a slot towards the top, past all that are due later.
func (q queue) up(i int) {
	x := q[i]
	for i > 0 {
		parent := (i - 1) / children
		if q[parent].due <= x.due {
			break
		}
		q.place(i, q[parent])
		i = parent
	}
	q.place(i, x)
}

// down moves a slot away from the top, past all that are due sooner.
func (q queue) down(i int) {
	x := q[i]
	for {
		from, first := children*i+1, children*i+1
		if from >= len(q) {
			break
		}
		for c := from + 1; c < min(from+children, len(q)); c++ {
			if q[c].due < q[first].due {
				first = c
			}
		}
		if x.due <= q[first].due {
			break
		}
		q.place(i, q[first])
		i = first
	}
	q.place(i, x)
}

func (q queue) place(i int, x slot) {
	q[i] = x
	x.position = int32(i)
}
