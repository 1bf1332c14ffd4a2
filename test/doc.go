// Package test holds the tests of multivalue in a whole CoreDNS: all plugins in the chain, real sockets, real zone files
// and real backends.
//
// A test sets a scene: backends on loopback addresses that share one port, zone files, a Corefile. It asks over the wire
// and says which backends it wants in the answer. Backends go by the last number of their address, so that "11 13" is
// 127.0.0.11 and 127.0.0.13.
//
// All servers of the process share one pool, as they do in production, so no two of these tests run at once.
package test
