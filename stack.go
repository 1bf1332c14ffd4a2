package multivalue

// stackAhead is what the rest of a query needs of stack, in bytes, on the way through cache or file.
const stackAhead = 3 << 10

// growStack makes room on the stack for the rest of the query. CoreDNS answers each query in a new goroutine, whose small
// stack doubles where it runs out, and then every frame on it is copied. A plain chain runs out of its 4 KiB deep inside
// cache; up here there is less to copy. See docs/benchmarks.md. What it returns means nothing.
//
//go:noinline
func growStack(i int) byte {
	var room [stackAhead]byte
	return room[i]
}
