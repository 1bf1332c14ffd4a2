package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// edited is a Kubernetes with clusters whose zones a test edits, by their kubeconfig.
type edited struct {
	say    map[string]chan []Entry
	fails  error // of whatever is opened
	panics atomic.Bool
	begun  atomic.Int64 // how often a cluster was followed
	runs   atomic.Int64 // how many are followed now
}

func newEdited() *edited {
	return &edited{say: map[string]chan []Entry{"one": make(chan []Entry), "two": make(chan []Entry)}}
}

func (e *edited) Sites(kubeconfig, credentials string) (Cluster, error) {
	return &way{e, kubeconfig, credentials}, e.fails
}

// way is a way to a cluster.
type way struct {
	*edited
	kubeconfig, credentials string
}

func (w *way) Same(other Cluster) bool {
	o := other.(*way)
	return w.kubeconfig == o.kubeconfig && w.credentials == o.credentials
}

func (w *way) Follow(ctx context.Context, take func([]Entry)) error {
	w.begun.Add(1)
	w.runs.Add(1)
	defer func() { w.runs.Add(-1) }()
	if w.panics.Load() {
		panic("a fault in what follows")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case networks := <-w.say[w.kubeconfig]:
			take(networks)
		}
	}
}

// opening opens clusters for a Corefile.
func opening(t *testing.T, c *Clusters, k Kubernetes, names ...string) (o *Opened, all []*Zones) {
	t.Helper()
	o = c.Opened()
	for _, name := range names {
		z, err := o.Open(At{Kubeconfig: name}, k)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, z)
	}
	return o, all
}

// There is one watch for the process and cluster: stanzas share it, and Corefiles that follow one another do, which so begin
// with what is known. It ends with the first Corefile that does not name the cluster, or with the last one (B98).
func TestOneWatchForTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, clusters := newEdited(), new(Clusters)
		step := func(what string, begun, runs int64) {
			t.Helper()
			synctest.Wait()
			if k.begun.Load() != begun || k.runs.Load() != runs {
				t.Errorf("%s: %d clusters are followed, %d since the beginning; want %d, %d", what, k.runs.Load(), k.begun.Load(), runs, begun)
			}
		}
		first, zones := opening(t, clusters, k, "one", "one")
		if zones[0] != zones[1] || zones[0].Value() == nil {
			t.Error("two stanzas do not share a cluster, or it has no table")
		}
		step("before the servers run", 0, 0)
		first.Follow()
		step("when they run", 1, 1)
		before := zones[0].Value()
		k.say["one"] <- []Entry{{"a", netip.MustParsePrefix("10.1.0.0/24")}}
		synctest.Wait()
		known := zones[0].Value()
		if known == before {
			t.Error("what the cluster says is not in force")
		}
		_, failed := opening(t, clusters, k, "one", "two")
		step("another, whose start fails", 1, 1)
		if failed[0] != zones[0] {
			t.Error("another Corefile does not share the cluster")
		}
		second, more := opening(t, clusters, k, "one", "two")
		if more[0].Value() != known {
			t.Error("a reload does not begin with what is known")
		}
		second.Follow()
		step("a reload with one more", 2, 2)
		third, _ := opening(t, clusters, k, "two")
		third.Follow()
		step("a reload with one less", 2, 1)
		clusters.Opened().Follow()
		step("a reload with none", 2, 0)
		third.Follow()
		step("it is followed again", 3, 1)
		clusters.End()
		step("the end", 3, 0)
		clusters.End()
	})
}

// If the credentials or the address in a kubeconfig file have changed, a reload follows the cluster by them, and what is known
// stays until it has answered.
func TestOtherCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, clusters := newEdited(), new(Clusters)
		o, zones := opening(t, clusters, k, "one")
		o.Follow()
		k.say["one"] <- []Entry{{"a", netip.MustParsePrefix("10.1.0.0/24")}}
		synctest.Wait()
		known := zones[0].Value()
		next := clusters.Opened()
		at := At{Kubeconfig: "one"}
		z, err := next.Open(at, renewed{k})
		if err != nil || z != zones[0] {
			t.Fatal("another table for the same cluster", err)
		}
		next.Follow()
		synctest.Wait()
		if k.begun.Load() != 2 || k.runs.Load() != 1 || z.Value() != known {
			t.Errorf("%d clusters are followed, %d since the beginning", k.runs.Load(), k.begun.Load())
		}
		k.say["one"] <- nil
		synctest.Wait()
		if z.Value() == known {
			t.Error("what the cluster says now is not in force")
		}
		clusters.End()
	})
}

// renewed is a Kubernetes by whose files other credentials are used.
type renewed struct{ *edited }

func (r renewed) Sites(kubeconfig, _ string) (Cluster, error) {
	return &way{r.edited, kubeconfig, "renewed"}, nil
}

// A kubeconfig that cannot be used is an error of the Corefile that names it, and changes nothing else.
func TestUnusableKubeconfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, clusters := newEdited(), new(Clusters)
		o, _ := opening(t, clusters, k, "one")
		o.Follow()
		synctest.Wait()
		k.fails = errors.New("invalid")
		if _, err := clusters.Opened().Open(At{Kubeconfig: "one"}, k); err != k.fails {
			t.Errorf("opened, %v", err)
		}
		if synctest.Wait(); k.runs.Load() != 1 {
			t.Error("the running Corefile does not follow the cluster any more")
		}
		clusters.End()
	})
}

// After a panic, a cluster is followed again after a pause, and that ends when it should (T39).
func TestZonesAreFollowedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, clusters := newEdited(), new(Clusters)
		k.panics.Store(true)
		o, _ := opening(t, clusters, k, "one")
		before := testutil.ToFloat64(metrics.Panics)
		o.Follow()
		time.Sleep(10*retryAfter + retryAfter/2)
		synctest.Wait()
		if got := testutil.ToFloat64(metrics.Panics) - before; got != 11 || k.begun.Load() != 11 {
			t.Errorf("%v panics after %d starts, want 11", got, k.begun.Load())
		}
		k.panics.Store(false)
		time.Sleep(retryAfter)
		if synctest.Wait(); k.runs.Load() != 1 {
			t.Error("it is not followed again")
		}
		began := time.Now()
		clusters.End()
		if took := time.Since(began); took != 0 || k.runs.Load() != 0 {
			t.Error(fmt.Sprint("the end took ", took))
		}
	})
}

// A cluster that does not stop delays the end for half a second, and what follows it by other credentials no longer than that.
func TestClusterHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clusters, release, begun := new(Clusters), make(chan struct{}), new(atomic.Int64)
		for i := range 2 {
			o := clusters.Opened()
			if _, err := o.Open(At{}, hanging{i, release, begun}); err != nil {
				t.Fatal(err)
			}
			o.Follow()
			synctest.Wait()
			if n := begun.Load(); n != 1 {
				t.Errorf("way %d: %d are followed", i, n)
			}
		}
		time.Sleep(stopWait)
		if synctest.Wait(); begun.Load() != 2 {
			t.Errorf("%d are followed in the end", begun.Load())
		}
		began := time.Now()
		clusters.End()
		if took := time.Since(began); took != stopWait {
			t.Errorf("the end took %s, want %s", took, stopWait)
		}
		close(release)
	})
}

// hanging is a cluster that does not stop before it is released.
type hanging struct {
	number  int
	release chan struct{}
	begun   *atomic.Int64
}

func (h hanging) Sites(string, string) (Cluster, error) { return h, nil }
func (h hanging) Same(other Cluster) bool               { return other == h }
func (h hanging) Follow(context.Context, func([]Entry)) error {
	h.begun.Add(1)
	<-h.release
	return nil
}
