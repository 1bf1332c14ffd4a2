package lookup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
)

// While the pool's inbox is full, preloading pauses. It ends when its resolver is closed.
func TestPreloadRests(t *testing.T) {
	for _, tc := range []struct {
		what string
		end  func(l *Resolver, b *block)
		want bool
	}{
		{"the resolver is closed", func(l *Resolver, _ *block) { l.Close() }, false},
		{"there is room", func(_ *Resolver, b *block) { b.backlog.Add(-1) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, rested := new(block), make(chan bool, 1)
			b.backlog.Store(preloadStep)
			l := New(b)
			go func() { rested <- l.pause() }()
			pooltest.Elapse(time.Second)
			if len(rested) != 0 {
				t.Fatalf("preloading continued before %s", tc.what)
			}
			tc.end(l, b)
			if got := <-rested; got != tc.want {
				t.Errorf("%s: %t", tc.what, got)
			}
		})
	}
}
