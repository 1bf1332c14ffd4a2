//go:build linux

package wire

import "container/heap"

// timers is a heap of connections, the first to expire on top.
type timers []*conn

func (t *timers) arm(c *conn) { heap.Push(t, c) }

func (t *timers) disarm(c *conn) {
	if c.timerIndex >= 0 {
		heap.Remove(t, c.timerIndex)
		c.timerIndex = -1
	}
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].deadline.Before(t[j].deadline) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timerIndex, t[j].timerIndex = i, j
}

// Push is for container/heap.
func (t *timers) Push(x any) {
	c := x.(*conn)
	c.timerIndex = len(*t)
	*t = append(*t, c)
}

// Pop is for container/heap.
func (t *timers) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return c
}
