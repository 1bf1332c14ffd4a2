package gossip

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// A beat sent to one member and received by it, with the system calls of both.
func BenchmarkBeat(b *testing.B) {
	key := writeKeys(b, newKey())
	from, to := open(b, membership.Config{Listen: anyPort(b, "127.0.0.1"), Key: key}), open(b, membership.Config{Listen: anyPort(b, "127.0.0.2"), Key: key})
	defer from.Leave()
	defer to.Leave()
	to.t.receive()
	plain := beat{last: 1000, first: 1, uptime: time.Hour}.appendTo(from.as.header(nil, kindBeat))
	b.ReportAllocs()
	for b.Loop() {
		from.t.sendTo(plain, to.as.addr)
		to.t.giveBack(<-to.t.messages)
	}
}

// A word of 30 votes, encoded and sealed once for all members.
func BenchmarkWord(b *testing.B) {
	m := open(b, membership.Config{Listen: anyPort(b, "127.0.0.1"), Key: writeKeys(b, newKey())})
	defer m.Leave()
	votes := votesUpTo(1, 30)
	b.ReportAllocs()
	for b.Loop() {
		m.Say(votes)
		m.out.collect()
		from, words := m.out.next(m.out.log.last()-1, 1)
		m.t.packet(appendWord(m.as.header(nil, kindWords), from, words[0]))
	}
}

// The look at a packet, beside what opening it costs.
func BenchmarkLook(b *testing.B) {
	data := checked(compound(aliveWith(nil), aliveWith(nil)))
	b.ReportAllocs()
	for b.Loop() {
		if way, _ := lookAtPacket(data); way != forMemberlist {
			b.Fatal(way)
		}
	}
}

// A word that is taken in order.
func BenchmarkInflow(b *testing.B) {
	f := newFlow(0)
	batch, tell := make([]byte, 1000), func([]byte) {}
	n := uint64(0)
	for b.Loop() {
		n++
		f.hearWord(n, batch, f.now, tell)
	}
}
