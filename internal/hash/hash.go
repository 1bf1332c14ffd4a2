// Package hash has the hash functions of the process, one of each kind: of names, of addresses, and of values.
//
// All are keyed with a seed that differs from process to process, so that no client can choose names or addresses
// that collide. None of them allocates: queries call them. What has to be the same in every process, such as the choice
// of a client's addresses, must not use this package.
package hash

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
)

var seed = maphash.MakeSeed()

// Name hashes a domain name without regard to the case of ASCII letters, as names compare (RFC 4343).
func Name(name string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var buffer [64]byte
	for len(name) > 0 {
		n := copy(buffer[:], name)
		for i, b := range buffer[:n] {
			buffer[i] = Lower(b)
		}
		h.Write(buffer[:n])
		name = name[n:]
	}
	return h.Sum64()
}

// Lower is an ASCII letter in lower case, and any other octet as it is.
func Lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b | 0x20
	}
	return b
}

// Of hashes a comparable value.
func Of[T comparable](v T) uint64 { return maphash.Comparable(seed, v) }

// AddrPort hashes an address with its port. The key must not be known outside the process: it is what Of or Name
// returns, or has been mixed with such a value.
func AddrPort(key uint64, addr netip.Addr, port uint16) uint64 {
	raw := addr.As16()
	h := key ^ binary.BigEndian.Uint64(raw[:8])
	h = h*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(raw[8:]) ^ uint64(port)<<48
	return fold(h^key, 0xd6e8feb86659fd93)
}

// Mix adds a value to a hash. The order of what is added counts.
func Mix(h, x uint64) uint64 { return fold(h^x^0x9e3779b97f4a7c15, 0xff51afd7ed558ccd) }

// fold multiplies to 128 bits, and folds the halves into one another: each bit of x moves each bit of the result.
func fold(x, odd uint64) uint64 {
	high, low := bits.Mul64(x, odd)
	return high ^ low
}
