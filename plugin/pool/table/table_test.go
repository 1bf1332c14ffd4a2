package table

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The table holds exactly the entries that were added and not removed since, in any order and with concurrent
// readers.
func TestTable(t *testing.T) {
	id := verdict.Identify("tcp://:80 every 10s", 0)
	other := verdict.Identify("tcp://:81 every 10s", 0)
	seeds := map[verdict.Identity]uint64{id: Seed(id), other: Seed(other)}
	b, want := new(Table), make(map[verdict.Target]*Entry)
	stop, readers := make(chan struct{}), sync.WaitGroup{}
	readers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				tg := verdict.Target{Identity: id, Addr: netip.AddrPortFrom(pooltest.Addr(i%5000), 80)}
				if e := b.Find(&tg, Hash(&tg, seeds[id])); e != nil {
					e.Load()
					e.Touch(uint64(i%3), uint32(i), uint32(i))
				}
			}
		}
	})
	rng := rand.New(rand.NewPCG(7, 8))
	for range 60_000 {
		tg := verdict.Target{Identity: id, Addr: netip.AddrPortFrom(pooltest.Addr(rng.IntN(5000)), uint16(80+rng.IntN(2)))}
		if rng.IntN(4) == 0 {
			tg.Identity = other
		}
		h := Hash(&tg, seeds[tg.Identity])
		if got := b.Find(&tg, h); got != want[tg] {
			t.Fatalf("%s: found %p, want %p", tg, got, want[tg])
		}
		if e := want[tg]; e != nil {
			b.Remove(e, h)
			delete(want, tg)
		} else if rng.IntN(3) > 0 {
			want[tg] = &Entry{Target: tg}
			b.Insert(want[tg], h)
		}
	}
	close(stop)
	readers.Wait()
	used, most := 0, 0
	for i := range b.index {
		if p := b.index[i].Load(); p != nil {
			used += p.used
			most = max(most, p.used)
		}
	}
	if used != len(want) {
		t.Errorf("%d entries, want %d", used, len(want))
	}
	if most > 4*len(want)/Shards {
		t.Errorf("one part has %d of %d entries", most, len(want))
	}
}

// An entry fits a line of the processor's cache, as most of a query's time in the pool is spent on loading entries.
func TestEntryFitsALine(t *testing.T) {
	if got := unsafe.Sizeof(Entry{}); got > 64 {
		t.Errorf("an entry has %d bytes", got)
	}
}
