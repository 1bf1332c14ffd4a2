// Package freeport finds ports for servers of the demo and of the benchmarks, which are started a moment later. Its function is Find.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports are below those that the system takes for outgoing connections and for listeners on port 0 (from 32768 on with Linux, from
// 49152 on with RFC 6335): of these, one that is free now may be the end of a probe a moment later. Tests have the ports above.
const (
	lowest  = 10000
	highest = 11999
)

// Find returns n different ports of 127.0.0.1 that are free for both TCP and UDP. They are free when it returns, and not reserved.
func Find(n int) (found []int, err error) { return find(n, lowest, highest) }

func find(n, lowest, highest int) (found []int, err error) {
	for _, i := range rand.Perm(highest - lowest + 1) {
		at := fmt.Sprintf("127.0.0.1:%d", lowest+i)
		l, failed := net.Listen("tcp", at)
		if failed != nil {
			err = failed
			continue
		}
		conn, failed := net.ListenPacket("udp", at)
		l.Close()
		if failed != nil {
			err = failed
			continue
		}
		conn.Close()
		if found = append(found, lowest+i); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("no %d ports from %d to %d of 127.0.0.1 are free: %w", n, lowest, highest, err)
}
