package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
)

func TestMain(m *testing.M) {
	clog.Discard()
	os.Exit(m.Run())
}

const (
	key  = "example.org/check"
	most = 512
)

// object is a Service with an annotation, or without one if the text is "-".
func object(name, text string) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID("uid-" + name)}}
	if text != "-" {
		m.Annotations = map[string]string{key: text}
	}
	return m
}

// news reports whether there is any.
func news(s *store) bool {
	select {
	case <-s.changed:
		return true
	default:
		return false
	}
}

// The store has what the annotations are, and tells of changes of those alone; the first list is news even if it is empty,
// for it says that there is nothing.
func TestStore(t *testing.T) {
	s := newStore(key, most)
	step := func(what string, err error, tells bool, want ...string) {
		t.Helper()
		var got []string
		for id, service := range s.all() {
			got = append(got, id+"="+service.text)
		}
		slices.Sort(got)
		if err != nil || news(s) != tells || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q, and news %t", what, got, err, want, tells)
		}
	}
	step("nothing yet", nil, false)
	step("an empty list", s.Replace(nil, "1"), true)
	step("the same list", s.Replace([]any{object("a", "-")}, "2"), false)
	step("one without", s.Add(object("b", "-")), false)
	step("one with", s.Add(object("c", "x")), true, "c.shop=x")
	step("the same", s.Update(object("c", "x")), false, "c.shop=x")
	step("an edit", s.Update(object("c", "y")), true, "c.shop=y")
	step("an empty text", s.Update(object("b", "")), true, "b.shop=", "c.shop=y")
	step("no more", s.Update(object("b", "-")), true, "c.shop=y")
	step("a list of others", s.Replace([]any{object("d", "z"), object("a", "-")}, "3"), true, "d.shop=z")
	step("one that is gone has none", s.Delete(object("a", "-")), false, "d.shop=z")
	step("one that is gone", s.Delete(object("d", "z")), true)
	step("nonsense", s.Update("nonsense"), false)
	again := object("d", "z")
	step("it comes back", s.Add(again), true, "d.shop=z")
	other := object("d", "z")
	other.UID = "another"
	step("another of that name", s.Update(other), true, "d.shop=z")
}

// A text that is longer than it may be is cut, and is still too long; none of the rest is kept.
func TestStoreCutsTexts(t *testing.T) {
	s := newStore(key, most)
	for n, want := range map[int]int{most: most, most + 1: most + 1, 256 << 10: most + 1} {
		text := strings.Repeat("x", n)
		if err := s.Update(object("a", text)); err != nil {
			t.Fatal(err)
		}
		kept := s.all()["a.shop"].text
		if len(kept) != want || kept != text[:want] {
			t.Errorf("of %d bytes %d are kept, want %d", n, len(kept), want)
		}
		if n > want && unsafe.StringData(kept) == unsafe.StringData(text) {
			t.Errorf("all of %d bytes stay in memory", n)
		}
	}
}

// An owner is told once of what is wrong, and again of what is wrong otherwise, or for another Service of that name, or
// wrong again; what finds the queue full is told the next time.
func TestTell(t *testing.T) {
	all := map[string]service{"a.shop": {"shop", "a", "1", "x"}, "b.shop": {"shop", "b", "2", "y"}}
	told := make(map[string]complaint)
	var got []string
	room := true
	add := func(c complaint) bool {
		if room {
			got = append(got, fmt.Sprintf("%s %s: %s", c.name, c.uid, c.message))
		}
		return room
	}
	step := func(what string, wrong map[string]string, want ...string) {
		t.Helper()
		got = nil
		tell(all, wrong, told, add)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	step("one", map[string]string{"a.shop": "bad"}, "a 1: bad")
	step("the same", map[string]string{"a.shop": "bad"})
	step("two", map[string]string{"a.shop": "worse", "b.shop": "bad"}, "a 1: worse", "b 2: bad")
	all = maps.Clone(all)
	all["a.shop"] = service{"shop", "a", "3", "x"}
	step("another Service", map[string]string{"a.shop": "worse", "b.shop": "bad"}, "a 3: worse")
	step("mended", map[string]string{"b.shop": "bad"})
	room = false
	step("wrong again, and no room", map[string]string{"a.shop": "worse", "b.shop": "bad"})
	room = true
	step("room", map[string]string{"a.shop": "worse", "b.shop": "bad"}, "a 3: worse")
}

// However often the annotations change, they are handed over once a second at most, and the last of them always; owners are
// reminded of what stays wrong.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newStore(key, most), newReporter(nil, key)
		var takes atomic.Int64
		var last atomic.Value
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() {
			feed(ctx, s, r, func(texts map[string]string) map[string]string {
				takes.Add(1)
				last.Store(texts["a.shop"])
				return map[string]string{"a.shop": "bad"}
			})
		})
		for i := range 100 {
			_ = s.Update(object("a", fmt.Sprint(i)))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(settle)
		synctest.Wait()
		if n := takes.Load(); n < 5 || n > 7 || last.Load() != "99" {
			t.Errorf("handed over %d times in five seconds, and %v is the last", n, last.Load())
		}
		before := len(r.queue)
		time.Sleep(remind - 10*time.Second)
		synctest.Wait()
		if got := len(r.queue); got != before {
			t.Errorf("%d complaints though nothing changed", got-before)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := len(r.queue); got != before+1 {
			t.Errorf("%d reminders in half an hour, want one", got-before)
		}
		cancel()
		running.Wait()
	})
}

// Without the right to create Events no more are tried; other failures do not end them.
func TestHeed(t *testing.T) {
	r := newReporter(nil, key)
	events := corev1.Resource("events")
	terminating := apierrors.NewForbidden(events, "a", errors.New("namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = append(terminating.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	for _, err := range []error{terminating, apierrors.NewNotFound(events, "a")} {
		if r.heed(complaint{}, err); r.mute || r.failed {
			t.Errorf("%v: mute %t, failed %t", err, r.mute, r.failed)
		}
	}
	if r.heed(complaint{}, errors.New("connection refused")); !r.failed || r.mute {
		t.Error("a failure is taken for none, or for good")
	}
	if r.heed(complaint{}, nil); r.failed {
		t.Error("a success is none")
	}
	if r.heed(complaint{}, apierrors.NewForbidden(events, "a", errors.New("no"))); !r.mute {
		t.Error("it goes on without the right")
	}
}

// counted takes Events, and counts them.
type counted struct {
	typed.EventInterface
	*atomic.Int64
}

func (c counted) Events(string) typed.EventInterface { return c }

func (c counted) Create(_ context.Context, e *corev1.Event, _ metav1.CreateOptions) (*corev1.Event, error) {
	c.Add(1)
	return e, nil
}

// However much is wrong, Events go out at a bounded rate, and no more wait than there is room for.
func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := counted{Int64: new(atomic.Int64)}
		r := newReporter(c, key)
		taken := 0
		for i := range 2 * eventQueue {
			if r.add(complaint{message: fmt.Sprint(i)}) {
				taken++
			}
		}
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { r.run(ctx) })
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		if got := c.Load(); taken != eventQueue || got < eventBurst+29 || got > eventBurst+31 {
			t.Errorf("%d taken, and %d written in 30 seconds", taken, got)
		}
		cancel()
		running.Wait()
	})
}

// An Event is one that the API takes, and the same complaint makes the same one.
func TestEvent(t *testing.T) {
	r := newReporter(nil, key)
	c := complaint{service{"shop", strings.Repeat("a", 63), "1", "x"}, strings.Repeat("m", 2000)}
	e := r.event(c, metav1.Now())
	if faults := validation.NameIsDNSSubdomain(e.Name, false); len(faults) > 0 || len(e.Message) > 1024 || e.Namespace != "shop" {
		t.Errorf("%v, %d bytes, in %s", faults, len(e.Message), e.Namespace)
	}
	other := c
	other.message = "other"
	if r.event(c, metav1.Now()).Name != e.Name || r.event(other, metav1.Now()).Name == e.Name {
		t.Error("the name does not go by the complaint")
	}
}

// kubeconfig is a file for a server at an address.
func kubeconfig(t *testing.T, at string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}],
users: [{name: it, user: {token: secret}}], clusters: [{name: it, cluster: {server: "http://%s"}}]}`, at)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An API that says nothing, or hangs up, is waited for, and the end of the context ends all of it.
func TestFollowEnds(t *testing.T) {
	for _, silent := range []bool{true, false} {
		api, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := Open(key, most, kubeconfig(t, api.Addr().String()), "it")
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- c.Follow(ctx, func(texts map[string]string) map[string]string {
				t.Errorf("it hands over %v", texts)
				return nil
			})
		}()
		asked, err := api.Accept() // it is under way
		if err != nil {
			t.Fatal(err)
		}
		if !silent {
			asked.Close()
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		asked.Close()
		api.Close()
		for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines before, and %d after", before, runtime.NumGoroutine())
			}
		}
	}
}

// A panic, also inside client-go, ends what follows, and not the process (T39).
func TestFollowSurvives(t *testing.T) {
	c := &Cluster{key: key} // with no way to Services, to ask for them panics
	if err := c.Follow(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "panic: ") {
		t.Errorf("%v, want a panic", err)
	}
}

// A way that cannot be right is refused before anything is asked.
func TestOpenRefuses(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, c := range []struct{ file, context, want string }{
		{"", "", "name a kubeconfig file"},
		{"/nonexistent", "", "/nonexistent: no such file"},
		{kubeconfig(t, "127.0.0.1:1"), "other", "other"},
	} {
		if _, err := Open(key, most, c.file, c.context); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q %q: %v, want %s", c.file, c.context, err, c.want)
		}
	}
}
