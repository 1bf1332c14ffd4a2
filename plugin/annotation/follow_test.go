package annotation

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// broken is a Kubernetes plugin. Following its one cluster always panics or fails.
type broken struct {
	fails error
	begun int
}

func (b *broken) Zones(plugin.Handler) ([]string, bool)   { return nil, false }
func (b *broken) Cluster(string, string) (Cluster, error) { return b, nil }

func (b *broken) Follow(ctx context.Context, _ func(map[string]string) map[string]string) error {
	if b.begun++; b.fails == nil {
		panic("a fault in what follows")
	}
	return b.fails
}

// After a panic or an error, a cluster is followed again after a pause, and Follow's end is awaited (T39).
func TestFollowsAgain(t *testing.T) {
	for _, fails := range []error{nil, fmt.Errorf("connection refused")} {
		synctest.Test(t, func(t *testing.T) {
			k, clusters := &broken{fails: fails}, new(Clusters)
			f := clusters.Followers(func(change func() bool) { change() })
			if err := f.Subscribe(At{}, k, &stanza{}); err != nil {
				t.Fatal(err)
			}
			before := testutil.ToFloat64(metrics.Panics)
			f.Begin()
			f.Follow()
			time.Sleep(10*retryAfter + retryAfter/2)
			synctest.Wait()
			if got := testutil.ToFloat64(metrics.Panics) - before; got != 11 || k.begun != 11 {
				t.Errorf("%v panics after %d starts, want 11", got, k.begun)
			}
			f.Unfollow()
			f.AwaitEnd()
			if n := f.all[At{}]; len(clusters.followed) != 0 || n.shown {
				t.Error("the cluster is still counted as followed")
			}
			select {
			case <-f.all[At{}].ended:
			default:
				t.Error("the end was not awaited")
			}
		})
	}
}
