package multivalue

// CoreDNS answers each query in a new goroutine. The runtime gives that as much stack as the goroutines it met at the last
// garbage collection had in use on average (Go 1.19, release notes). Nearly all of those in CoreDNS rest with next to
// nothing in use. So a query starts with 2 KiB, and its stack grows to 4 and to 8, each time with every frame copied: a
// seventh of what the query costs. One goroutine that rests with a deep stack brings the average up to what a query
// needs. See docs/benchmarks.md.
const (
	// deepFrames of deepFrame bytes are 320 KiB: enough for a process in which up to a hundred goroutines rest. Where there
	// are more, queries start with 4 KiB, or with 2, as they do without.
	deepFrames = 5
	deepFrame  = 64 << 10
)

// restDeep rests until done is closed, with so many frames on its stack. What it returns means nothing.
//
//go:noinline
func restDeep(frames int, done <-chan struct{}) byte {
	var room [deepFrame]byte
	if frames > 1 {
		return restDeep(frames-1, done) + room[frames]
	}
	<-done
	return room[0]
}
