package lookup

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/miekg/dns"
)

// A set that is gone from a preloaded zone is reported at every reading, for 25 hours or until it is back.
func TestAbsentSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, z := new(block), new(listed)
		z.set(1, numbered(3)...)
		l := New(b)
		defer l.Close()
		l.Preload([]string{"example.org."}, []Transferer{z}, time.Second)
		l.Start()
		pooltest.Elapse(time.Hour)
		if got := b.gone(); got != "" {
			t.Errorf("reported as gone, although nothing has changed: %s", got)
		}
		const both = "h00001.example.org. A, h00002.example.org. A"
		z.set(2, numbered(1)...)
		for _, after := range []time.Duration{2 * preloadEvery, 2 * preloadEvery, 24 * time.Hour} {
			pooltest.Elapse(after)
			if got := b.gone(); got != both {
				t.Errorf("reported %s later: %q, want %s", after, got, both)
			}
		}
		z.set(3, numbered(2)...)
		pooltest.Elapse(2 * preloadEvery)
		b.gone()
		pooltest.Elapse(2 * preloadEvery)
		if got := b.gone(); got != "h00002.example.org. A" {
			t.Errorf("reported when one is back: %q", got)
		}
		pooltest.Elapse(time.Hour)
		b.gone()
		pooltest.Elapse(time.Hour)
		if got := b.gone(); got != "" {
			t.Errorf("reported after more than 25 hours: %s", got)
		}
	})
}

// A reload keeps what is gone, and finds what goes with it.
func TestAbsentSetsSurviveReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(listed)
		running := func(before *Resolver) *Resolver {
			l := New(new(block))
			l.Adopt(before)
			l.Preload([]string{"example.org."}, []Transferer{z}, time.Second)
			l.Start()
			pooltest.Elapse(time.Hour)
			return l
		}
		z.set(1, numbered(3)...)
		first := running(nil)
		z.set(2, numbered(2)...)
		pooltest.Elapse(time.Hour)
		z.set(3, numbered(1)...)
		second := running(first)
		first.Close()
		third := running(second)
		second.Close()
		defer third.Close()
		if got := third.host.(*block).gone(); got != "h00001.example.org. A, h00002.example.org. A" {
			t.Errorf("reported after two reloads: %q", got)
		}
		z.set(4, numbered(3)...)
		pooltest.Elapse(time.Hour)
		third.host.(*block).gone()
		pooltest.Elapse(time.Hour)
		if got := third.host.(*block).gone(); got != "" {
			t.Errorf("reported when all are back: %q", got)
		}
	})
}

// What is remembered of sets that are gone is bounded.
func TestAbsentSetsAreBounded(t *testing.T) {
	var before []*dns.Msg
	for i := range maxAbsent + 100 {
		before = append(before, Question{fmt.Sprintf("h%d.example.org.", i), dns.TypeA}.Message())
	}
	z := &zoneSets{last: before, gone: make(map[Question]time.Time)}
	z.compare(nil, time.Now())
	if len(z.gone) != maxAbsent {
		t.Errorf("%d sets are remembered, want %d", len(z.gone), maxAbsent)
	}
}
