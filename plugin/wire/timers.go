//go:build linux

package wire

import "container/heap"

// timers is a heap of connections by deadline, with the first to expire on top. Each connection
// knows its index, so it can be removed in logarithmic time.
type timers []*conn

// arm adds the timer of a connection. It must not be in the heap yet.
func (t *timers) arm(c *conn) { heap.Push(t, c) }

// disarm removes the timer of a connection, if it has one.
func (t *timers) disarm(c *conn) {
	if c.timerIndex >= 0 {
		heap.Remove(t, c.timerIndex)
		c.timerIndex = -1
	}
}

// Len, Less and Swap implement [sort.Interface] for container/heap.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].deadline.Before(t[j].deadline) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timerIndex, t[j].timerIndex = i, j
}

// Push is called by container/heap only; use arm.
func (t *timers) Push(x any) {
	c := x.(*conn)
	c.timerIndex = len(*t)
	*t = append(*t, c)
}

// Pop is called by container/heap only; use disarm.
func (t *timers) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil // for the garbage collector
	*t = (*t)[:last]
	return c
}
