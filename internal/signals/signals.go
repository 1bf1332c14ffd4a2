// Package signals tells tests when a CoreDNS that they have started is ready for signals.
//
// CoreDNS asks for its signals in two goroutines that it does not wait for. A signal that comes before that is lost, or ends
// the program at once in place of stopping it. On a busy machine this can be after the program has begun to answer queries.
package signals
