package services

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
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

// logged captures the log during a test. The function it returns gives the log so far.
func logged(t *testing.T) func() string {
	t.Helper()
	var kept guarded
	stdlog.SetOutput(&kept)
	t.Cleanup(clog.Discard)
	return kept.String
}

// guarded is a buffer for several goroutines.
type guarded struct {
	mu   sync.Mutex
	text strings.Builder
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *guarded) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
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

// news reports whether a change was signalled.
func news(s *store) bool {
	select {
	case <-s.Changed:
		return true
	default:
		return false
	}
}

// The store holds the annotations and signals their changes, and no others. The first list is a change even if it is empty:
// it says that there is nothing.
func TestStore(t *testing.T) {
	s := newStore(key, most)
	step := func(what string, err error, tells bool, want ...string) {
		t.Helper()
		var got []string
		all, _ := s.Snapshot()
		for id, service := range all {
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

// A text that is too long is cut, and is still too long. None of the rest stays in memory.
func TestStoreCutsTexts(t *testing.T) {
	s := newStore(key, most)
	for n, want := range map[int]int{most: most, most + 1: most + 1, 256 << 10: most + 1} {
		text := strings.Repeat("x", n)
		if err := s.Update(object("a", text)); err != nil {
			t.Fatal(err)
		}
		all, _ := s.Snapshot()
		kept := all["a.shop"].text
		if len(kept) != want || kept != text[:want] {
			t.Errorf("of %d bytes %d are kept, want %d", n, len(kept), want)
		}
		if n > want && unsafe.StringData(kept) == unsafe.StringData(text) {
			t.Errorf("all of %d bytes stay in memory", n)
		}
	}
}

// A problem is reported once. It is reported again if its message changes, if the Service is another one of the same name, or
// if it was solved in between. A problem that finds the queue full is reported the next time.
func TestProblemIsReportedOnce(t *testing.T) {
	all := map[string]service{"a.shop": {"shop", "a", "1", "x"}, "b.shop": {"shop", "b", "2", "y"}}
	told := make(map[string]problem)
	var got []string
	room := true
	add := func(c problem) bool {
		if room {
			got = append(got, fmt.Sprintf("%s %s: %s", c.name, c.uid, c.message))
		}
		return room
	}
	step := func(what string, wrong map[string]string, want ...string) {
		t.Helper()
		got = nil
		reportNew(all, wrong, told, add)
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

// However often annotations change, they are delivered at most once a second, and the last change always is. Owners are reminded
// of problems that remain.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in a bubble, where a sleep takes no time
		s, r := newStore(key, most), newReporter(nil, key)
		var takes atomic.Int64
		var last atomic.Value
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() {
			deliver(ctx, s, r, func(texts map[string]string) map[string]string {
				takes.Add(1)
				last.Store(texts["a.shop"])
				return map[string]string{"a.shop": "bad"}
			})
		})
		for i := range 100 {
			_ = s.Update(object("a", fmt.Sprint(i)))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(deliverPause)
		synctest.Wait()
		if n := takes.Load(); n < 5 || n > 7 || last.Load() != "99" {
			t.Errorf("delivered %d times in five seconds, the last time %v", n, last.Load())
		}
		before := len(r.queue)
		time.Sleep(reminderInterval - 10*time.Second)
		synctest.Wait()
		if got := len(r.queue); got != before {
			t.Errorf("%d complaints, although nothing changed", got-before)
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

// A namespace where Events are forbidden is muted for a while. Other namespaces are not, and other failures mute nothing.
func TestForbiddenNamespaceIsMuted(t *testing.T) {
	r := newReporter(nil, key)
	events := corev1.Resource("events")
	terminating := apierrors.NewForbidden(events, "a", errors.New("namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = append(terminating.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	for _, err := range []error{terminating, apierrors.NewNotFound(events, "a")} {
		if r.noteResult(problem{}, err); r.muted("") || r.failed {
			t.Errorf("%v: muted %t, failed %t", err, r.muted(""), r.failed)
		}
	}
	if r.noteResult(problem{}, errors.New("connection refused")); !r.failed || r.muted("") {
		t.Error("a failure is ignored, or mutes the namespace forever")
	}
	if r.noteResult(problem{}, nil); r.failed {
		t.Error("a success counts as a failure")
	}
}

// partly accepts Events except in the closed namespaces, and records each request.
type partly struct {
	typed.EventInterface
	namespace string
	closed    *sync.Map
	asked     chan string
}

func (p partly) Events(namespace string) typed.EventInterface {
	p.namespace = namespace
	return p
}

func (p partly) Create(_ context.Context, e *corev1.Event, _ metav1.CreateOptions) (*corev1.Event, error) {
	p.asked <- p.namespace
	if _, closed := p.closed.Load(p.namespace); closed {
		return nil, apierrors.NewForbidden(corev1.Resource("events"), e.Name, errors.New("no"))
	}
	return e, nil
}

// In a namespace where Events are forbidden none is tried until the next reminder, and that is logged once. Other namespaces get
// their Events meanwhile, and so does that one when it has the permission.
func TestEventsAreForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := logged(t)
		p := partly{closed: new(sync.Map), asked: make(chan string, 100)}
		p.closed.Store("shut", true)
		r := newReporter(p, key)
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { r.writeQueued(ctx) })
		step := func(what string, want ...string) {
			t.Helper()
			for _, namespace := range []string{"shut", "shut", "open"} {
				r.enqueue(problem{service{namespace: namespace, name: "a"}, "bad"})
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			var got []string
			for len(p.asked) > 0 {
				got = append(got, <-p.asked)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: asked for %q, want %q", what, got, want)
			}
		}
		step("at first", "shut", "open")
		step("soon after", "open")
		time.Sleep(reminderInterval)
		step("at a reminder", "shut", "open")
		if n := strings.Count(said(), "cannot write Events in namespace shut"); n != 1 || strings.Contains(said(), "namespace open") {
			t.Errorf("the log says that %d times:\n%s", n, said())
		}
		p.closed.Delete("shut")
		time.Sleep(reminderInterval)
		step("with the right", "shut", "shut", "open")
		cancel()
		running.Wait()
	})
}

// counted accepts Events and counts them.
type counted struct {
	typed.EventInterface
	*atomic.Int64
}

func (c counted) Events(string) typed.EventInterface { return c }

func (c counted) Create(_ context.Context, e *corev1.Event, _ metav1.CreateOptions) (*corev1.Event, error) {
	c.Add(1)
	return e, nil
}

// However many problems there are, Events are written at a limited rate, and no more wait than the queue holds.
func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := counted{Int64: new(atomic.Int64)}
		r := newReporter(c, key)
		taken := 0
		for i := range 2 * eventQueue {
			if r.enqueue(problem{message: fmt.Sprint(i)}) {
				taken++
			}
		}
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { r.writeQueued(ctx) })
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		if got := c.Load(); taken != eventQueue || got < eventBurst+29 || got > eventBurst+31 {
			t.Errorf("%d accepted and %d written in 30 seconds", taken, got)
		}
		cancel()
		running.Wait()
	})
}

// An Event is one that the API accepts, and the same problem makes the same Event.
func TestEvent(t *testing.T) {
	r := newReporter(nil, key)
	c := problem{service{"shop", strings.Repeat("a", 63), "1", "x"}, strings.Repeat("m", 2000)}
	e := r.newEvent(c, metav1.Now())
	if faults := validation.NameIsDNSSubdomain(e.Name, false); len(faults) > 0 || len(e.Message) > 1024 || e.Namespace != "shop" {
		t.Errorf("%v, %d bytes, in %s", faults, len(e.Message), e.Namespace)
	}
	other := c
	other.message = "other"
	if r.newEvent(c, metav1.Now()).Name != e.Name || r.newEvent(other, metav1.Now()).Name == e.Name {
		t.Error("the name does not depend on the complaint")
	}
}

// kubeconfig writes a kubeconfig file for the API at an address.
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

// An API that is silent or closes its connections is waited for. The end of the context ends everything.
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
				t.Errorf("Follow delivers %v", texts)
				return nil
			})
		}()
		asked, err := api.Accept() // a request is under way
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

// lister is an API that lists Services and answers watches as the test says.
func lister(t *testing.T, watch func(w http.ResponseWriter, streams bool)) *httptest.Server {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if q := r.URL.Query(); q.Get("watch") != "" {
			watch(w, q.Get("sendInitialEvents") == "true")
			if w.(http.Flusher).Flush(); w.Header().Get("Fails") == "" {
				<-r.Context().Done()
			}
			return
		}
		fmt.Fprint(w, `{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": []}`)
	}))
	t.Cleanup(api.Close)
	return api
}

// refuse answers a request with an error status.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Fails", "yes")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "message": "no", "code": %d}`, reason, code)
}

// followed runs Follow until the condition holds.
func followed(t *testing.T, api *httptest.Server, until func() bool) {
	t.Helper()
	c, err := Open(key, most, kubeconfig(t, api.Listener.Addr().String()), "it")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Follow(ctx, func(map[string]string) map[string]string { return nil }); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); !until(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the condition did not become true in time")
			break
		}
	}
	cancel()
	running.Wait()
}

// An API that cannot begin a watch with a list is listed first, and that is not logged as a failure.
func TestFollowWithoutStreamedLists(t *testing.T) {
	for code, reason := range map[int]metav1.StatusReason{422: metav1.StatusReasonInvalid, 400: metav1.StatusReasonBadRequest} {
		said := logged(t)
		var watched atomic.Bool
		followed(t, lister(t, func(w http.ResponseWriter, streams bool) {
			if streams {
				refuse(w, code, reason)
			} else {
				watched.Store(true)
			}
		}), watched.Load)
		if said() != "" {
			t.Errorf("%d: the log says %s", code, said())
		}
	}
}

// If Services may be listed but not watched, that is logged once, and the end is not logged before a watch works.
func TestFollowWithoutWatch(t *testing.T) {
	said := logged(t)
	var tries atomic.Int64
	followed(t, lister(t, func(w http.ResponseWriter, streams bool) {
		if tries.Add(1) <= 5 {
			refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		} else if n, again := strings.Count(said(), "cannot watch Services"), strings.Count(said(), "watching Services again"); n != 1 || again != 0 {
			t.Errorf("the failure is logged %d times, and its end %d times", n, again)
		}
	}), func() bool { return tries.Load() > 5 && strings.Contains(said(), "watching Services again") })
}

// A panic, also inside client-go, ends Follow and not the process (T39).
func TestFollowSurvives(t *testing.T) {
	c := &Cluster{key: key} // without a client for Services, a request panics
	if err := c.Follow(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "panic: ") {
		t.Errorf("%v, want a panic", err)
	}
}

// Open refuses a wrong configuration without sending a request.
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
