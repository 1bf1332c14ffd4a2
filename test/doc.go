// Package test holds the tests of multivalue in a complete CoreDNS: all plugins in the chain, real sockets, real zone
// files and real backends.
//
// A test sets up a scene: backends on loopback addresses that share one port, zone files and a Corefile. It sends
// queries over the network and states which backends it wants in the answer. A backend is named by the last number of
// its address, so "11 13" is 127.0.0.11 and 127.0.0.13.
//
// All servers of the process share one pool, as in production, so no two of these tests run at the same time.
package test
