package pool

import (
	"runtime"
	"sync"
	"testing"
)

// New goroutines start with the stack that a query needs while the pool runs, and with a smaller one while it does
// not. The runtime does not guarantee this, so the test shows if a new version of Go works differently.
func TestStackOfQueries(t *testing.T) {
	const enough = 6 << 10 // measured as 8, because sizes are powers of two
	if without := startingStack(); without >= enough {
		t.Fatalf("goroutines start with %d bytes of stack without a pool", without)
	}
	done := make(chan struct{})
	var resting sync.WaitGroup
	resting.Go(func() { restDeep(deepFrames, done) })
	with := startingStack()
	for i := 0; with < enough && i < 100; i++ { // until that goroutine is blocked
		with = startingStack()
	}
	close(done)
	resting.Wait()
	if with < enough {
		t.Errorf("goroutines start with %d bytes of stack", with)
	}
}

// startingStack returns the bytes that a new goroutine takes for its stack, after a garbage collection with a hundred
// blocked goroutines.
func startingStack() int {
	defer crowd(100)()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const many = 1000
	defer crowd(many)()
	runtime.ReadMemStats(&after)
	return int(after.StackInuse-before.StackInuse) / many
}

// crowd starts n goroutines that block until the returned function is called.
func crowd(n int) (disperse func()) {
	done := make(chan struct{})
	var started, all sync.WaitGroup
	started.Add(n)
	for range n {
		all.Go(func() { started.Done(); <-done })
	}
	started.Wait()
	return func() { close(done); all.Wait() }
}
