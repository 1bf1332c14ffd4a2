package wire

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// listening is a talk that sends nothing and accepts everything.
type listening struct{ Talk }

func (listening) Request(netip.AddrPort) []byte              { return []byte("?") }
func (listening) Hear(got []byte, ended error) (bool, error) { return len(got) > 0, ended }
func (t listening) HearAll(received []byte, ended error) (over, stays, complete bool, result error) {
	over, result = t.Hear(received, ended)
	return over, true, true, result
}

func (listening) Holds([]byte) bool                           { return true }
func (listening) Unconnected(_ netip.AddrPort, e error) error { return e }
func (listening) Unsent(e error) error                        { return e }

// A panic in the loop itself ends everything under way, but neither the loop nor the program: each
// question has its one answer, what was held is lost, and the next questions are answered.
func TestPanicOfTheLoop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Write([]byte("!"))
		}
	}()
	told := make(chan Answer, 100)
	loop, err := Start(func(answers []Answer) {
		for _, a := range answers {
			told <- a
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(tag string, to net.Listener, hold bool) {
		loop.Ask([]Question{{Addr: to.Addr().(*net.TCPAddr).AddrPort(), Timeout: time.Minute, Talk: listening{}, Hold: hold, Tag: tag}})
	}
	ask("held", l, true)
	held := <-told
	if held.Err != nil || held.Held == nil {
		t.Fatalf("%+v", held)
	}
	for range 2 {
		ask("waiting", silent, false)
		broken := newConn(Question{}, -1) // no place is that of such a descriptor
		broken.stage, broken.held = holding, new(Held)
		loop.Keep(&Held{broken}, "broken")
		got := make(map[any]Answer)
		for len(got) < 2 || held.Held != nil && len(got) < 3 {
			a := <-told
			if _, twice := got[a.Tag]; twice {
				t.Errorf("%v is answered twice", a.Tag)
			}
			got[a.Tag] = a
		}
		if a := got["waiting"]; !errors.Is(a.Err, ErrPanic) {
			t.Errorf("a question that was under way: %+v", a)
		}
		if a := got["broken"]; !a.Lost {
			t.Errorf("what cannot be held: %+v", a)
		}
		if a := got["held"]; held.Held != nil && (!a.Lost || a.Held != held.Held) {
			t.Errorf("what was held: %+v", a)
		}
		held.Held = nil
		ask("next", l, false)
		if a := <-told; a.Tag != "next" || a.Err != nil {
			t.Errorf("a question afterwards: %+v", a)
		}
	}
	loop.Release(&Held{newConn(Question{}, 1<<20)}) // such as one that was lost in a panic before it was the loop's
	ask("after a release", l, false)
	if a := <-told; a.Tag != "after a release" || a.Err != nil {
		t.Errorf("a question after the release of what is lost: %+v", a)
	}
	if rest := loop.Close(); len(rest) > 0 || len(told) > 0 {
		t.Errorf("%d answers are left: %+v", len(told), rest)
	}
}
