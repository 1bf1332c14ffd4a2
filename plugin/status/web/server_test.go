package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// start listens on a free port of loopback.
func start(t *testing.T, f *testSource) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s, err := Listen(address, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, address
}

// A stream beyond the limit is refused, and so is a header that is too large. Other requests are answered meanwhile.
func TestBounds(t *testing.T) {
	_, address := start(t, newTestSource(1))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range maxStreams {
		r, err := client.Get("http://" + address + "/events")
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		defer r.Body.Close()
	}
	r, err := client.Get("http://" + address + "/events")
	if err != nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("one stream too many: %v, %v", r, err)
	}
	r.Body.Close()
	r, err = client.Get("http://" + address + "/v1/targets")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("beside streams: %v, %v", r, err)
	}
	r.Body.Close()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", maxHeader+8<<10))
	raw := make([]byte, 64)
	if n, _ := conn.Read(raw); !strings.Contains(string(raw[:n]), " 431 ") {
		t.Errorf("a large header: %s", raw[:n])
	}
}

// A connection beyond the limit waits until another one is closed. The connections before it are answered meanwhile, so it is
// not just slow.
func TestPlacesForConnections(t *testing.T) {
	s, address := start(t, newTestSource(1))
	ask := func(conn net.Conn) {
		fmt.Fprint(conn, "GET /v1/summary HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	answered := func(conn net.Conn, within time.Duration) error {
		conn.SetReadDeadline(time.Now().Add(within))
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		return err
	}
	var all []net.Conn
	for range maxConns + 1 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all = append(all, conn)
		if ask(conn); len(all) > maxConns {
			break
		}
		if err := answered(conn, 20*time.Second); err != nil {
			t.Fatalf("connection %d has no place: %v", len(all), err)
		}
	}
	for _, conn := range all[:maxConns] {
		ask(conn)
		if err := answered(conn, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	last := all[maxConns]
	if err := answered(last, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection more than there are places: %v", err)
	}
	all[0].Close()
	if err := answered(last, 20*time.Second); err != nil {
		t.Errorf("a place is not given back: %v", err)
	}
	s.Close()
	s.Close()
}

// Half-sent requests on all connections that there are places for do not keep others off the page: it is served while their
// clients still hold them.
func TestHalfSentRequestsOverSockets(t *testing.T) {
	_, address := start(t, newTestSource(1))
	for range maxConns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for range 2 { // the second time over the same connection
		r, err := client.Get("http://" + address + "/v1/summary")
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
}

// A stream sends each change once, and none from before it began.
func TestEvents(t *testing.T) {
	f := newTestSource(1)
	f.snap.Changes = []status.Change{{Number: 7, To: "down"}}
	w := httptest.NewRecorder()
	if seen := writeEvents(w, &f.snap, 7); seen != 7 || !strings.HasPrefix(w.Body.String(), "id: 7\nevent: tick\ndata: {") || strings.Contains(w.Body.String(), "change") {
		t.Errorf("what was before is news: %s", w.Body.String())
	}
	w = httptest.NewRecorder()
	f.snap.Changes = append(f.snap.Changes, status.Change{Number: 8, To: "up", Reason: "a\nb"})
	if seen := writeEvents(w, &f.snap, 7); seen != 8 || strings.Count(w.Body.String(), "event: change") != 1 || strings.Count(w.Body.String(), "\n") != 8 {
		t.Errorf("%d: %s", seen, w.Body.String())
	}
}

// A stream continues after the last event that a browser received, and says how many changes are lost. So does the list.
func TestChangesSince(t *testing.T) {
	f := newTestSource(2)
	for n := uint64(4); n <= 8; n++ {
		f.snap.Changes = append(f.snap.Changes, status.Change{Number: n, Address: f.snap.Targets[n%2].Address, From: "up", To: "down"})
	}
	f.snap.Changed = 8
	for query, want := range map[string]string{
		"": "[4 5 6 7 8] of 5, next 8, lost 3", "?after=0": "[4 5 6 7 8] of 5, next 8, lost 3", "?after=2": "[4 5 6 7 8] of 5, next 8, lost 1", "?after=3": "[4 5 6 7 8] of 5, next 8, lost 0",
		"?after=6": "[7 8] of 2, next 8, lost 0", "?after=8": "[] of 0, next 8, lost 0", "?after=900": "[4 5 6 7 8] of 5, next 8, lost 3",
		"?after=3&limit=2": "[4 5] of 5, next 5, lost 0", "?after=5&limit=2": "[6 7] of 3, next 7, lost 0", "?after=7&limit=2": "[8] of 1, next 8, lost 0",
		"?after=4&address=10.0.0.1": "[5 7] of 2, next 8, lost 0", "?after=4&address=10.0.0.1&limit=1": "[5] of 2, next 5, lost 0", "?after=3&state=unknown": "[] of 0, next 8, lost 0",
	} {
		var page struct {
			Changes           []struct{ Number int }
			Total, Next, Lost int
		}
		reply := ask(t, f, "GET", "/v1/changes"+query)
		if err := json.Unmarshal([]byte(body(t, reply)), &page); err != nil {
			t.Fatal(err)
		}
		numbers := make([]int, 0)
		for _, c := range page.Changes {
			numbers = append(numbers, c.Number)
		}
		if got := fmt.Sprintf("%v of %d, next %d, lost %d", numbers, page.Total, page.Next, page.Lost); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
		if again := ask(t, f, "GET", "/v1/changes"+query, "If-None-Match", reply.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%q again: %d", query, again.StatusCode)
		}
	}
	for id, want := range map[string]string{"": "8 tick", "6": "7 change 8 change 8 tick", "1": "3 lost 4 change 5 change 6 change 7 change 8 change 8 tick", "8": "8 tick", "77": "3 lost 4 change 5 change 6 change 7 change 8 change 8 tick", "x": ""} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it ends after the first tick
		r := httptest.NewRequest("GET", "/events", nil).WithContext(ctx)
		r.Header.Set("Last-Event-ID", id)
		w := httptest.NewRecorder()
		newServer("localhost:9253", f).serveEvents(w, r)
		var got []string
		for line := range strings.Lines(w.Body.String()) {
			if key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key == "id" || key == "event" {
				got = append(got, value)
			}
		}
		if strings.Join(got, " ") != want || (w.Code != http.StatusOK) != (id == "x") {
			t.Errorf("after %q: %d %q, want %s", id, w.Code, got, want)
		}
	}
}

// flakySource is a testSource that fails while it is silent.
type flakySource struct {
	*testSource
	silent atomic.Bool
}

func (m *flakySource) Snapshot(ctx context.Context) (*status.Snapshot, error) {
	if m.silent.Load() {
		return nil, errors.New("the source does not say")
	}
	return m.testSource.Snapshot(ctx)
}

// A stream has a tick for each snapshot, and none if the source fails.
func TestNoTickWithoutALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flakySource{testSource: newTestSource(1)}
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		var stream sync.WaitGroup
		stream.Go(func() {
			newServer("localhost:9253", f).serveEvents(w, httptest.NewRequest("GET", "/events", nil).WithContext(ctx))
		})
		ticks := func() int { synctest.Wait(); return strings.Count(w.Body.String(), "event: tick\n") }
		time.Sleep(3*tickInterval + tickInterval/2)
		before := ticks()
		f.silent.Store(true)
		time.Sleep(3 * tickInterval)
		if during := ticks(); before != 4 || during != before {
			t.Errorf("%d ticks, and %d more while the source does not say", before, during-before)
		}
		f.silent.Store(false)
		time.Sleep(2 * tickInterval)
		if after := ticks(); after != before+2 {
			t.Errorf("%d ticks when it says again", after-before)
		}
		cancel()
		stream.Wait()
	})
}

// Close does not wait for a source that hangs.
func TestCloseWhileWaiting(t *testing.T) {
	f := newTestSource(1)
	f.hangs = make(chan struct{})
	s, address := start(t, f)
	done := make(chan error)
	go func() {
		r, err := http.Get("http://" + address + "/v1/summary")
		if err == nil {
			r.Body.Close()
		}
		done <- err
	}()
	<-f.hangs // the request is in flight
	s.Close()
	<-done
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+path, newTestSource(1)); err == nil {
		t.Fatal("a socket with a listener was taken away")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen("unix:"+path, newTestSource(1))
	if err != nil {
		t.Fatalf("what a dead process left: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	r, err := client.Get("http://any.example/v1/summary")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r, err)
	}
	r.Body.Close()
	s.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left behind")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+file, newTestSource(1)); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, _ := os.ReadFile(file); string(text) != "x" {
		t.Error("a file is gone")
	}
}
