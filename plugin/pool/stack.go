package pool

// CoreDNS answers each query in a new goroutine. The runtime gives a new goroutine as much stack as the goroutines that it met
// at the last garbage collection had in use on average (Go 1.19, release notes). Nearly all goroutines of CoreDNS rest with
// next to nothing in use, so a query starts with 2 KiB, and its stack grows to 4 and to 8, each time with every frame copied:
// a tenth to a seventh of what the query costs. One goroutine that rests with a deep stack raises the average to what a query
// needs (docs/benchmarks.md). If the runtime changes, a test fails, and nothing but the gain is lost.
const (
	// deepFrames of deepFrame bytes are 320 KiB, which is enough for a process in which up to a hundred goroutines rest. If
	// there are more, queries start with 4 KiB, or with 2 as they do without.
	deepFrames = 5
	deepFrame  = 64 << 10
)

// restDeep rests until done is closed, with so many frames on its stack. Its result has no meaning: it keeps the compiler
// from leaving out the frames.
//
//go:noinline
func restDeep(frames int, done <-chan struct{}) byte {
	var frame [deepFrame]byte
	if frames > 1 {
		return restDeep(frames-1, done) + frame[frames]
	}
	<-done
	return frame[0]
}
