package wire_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// guests passes the accepted connections to the test.
func guests(t *testing.T, greet func(*net.TCPConn)) (netip.AddrPort, chan *net.TCPConn) {
	t.Helper()
	all := make(chan *net.TCPConn, 100)
	done := make(chan struct{})
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		greet(conn)
		all <- conn
		<-done
	})
	t.Cleanup(func() { close(done) })
	return addr, all
}

func silence(*net.TCPConn) {}

// askHold asks, and wants the connection to be held.
func (d *recorder) askHold(addr netip.AddrPort, talk wire.Talk) (tag any, held *wire.Held) {
	d.Helper()
	tag = new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: talk, Hold: true, Tag: tag}})
	a := d.await(tag, 1)
	if a.Err != nil || a.Held == nil {
		d.Fatalf("not held: %+v", a)
	}
	return tag, a.Held
}

// runTurn makes the loop run around once, so that it has reported everything.
func (d *recorder) runTurn(addr netip.AddrPort) {
	d.Helper()
	for range 3 {
		if a := d.askOne(addr, connection, patience, false); a.Err != nil {
			d.Fatal(a.Err)
		}
	}
}

// However a peer ends a held connection, the loss is reported once.
func TestLossIsReportedOnce(t *testing.T) {
	quiet := listen(t, "127.0.0.1", linger)
	greet := func(conn *net.TCPConn) { hear(conn); io.WriteString(conn, "hello") }
	for name, end := range map[string]func(*net.TCPConn){
		"closed":      func(conn *net.TCPConn) { conn.Close() },
		"half closed": func(conn *net.TCPConn) { conn.CloseWrite() },
		"reset":       reset,
		"last words":  func(conn *net.TCPConn) { io.WriteString(conn, "timeout"); conn.Close() },
	} {
		for _, talk := range []dialogue{connection, hello} {
			d := newRecorder(t)
			welcome := silence
			if talk.enough > 0 {
				welcome = greet
			}
			addr, peers := guests(t, welcome)
			tag, held := d.askHold(addr, talk)
			d.runTurn(quiet)
			if n := len(d.reports(tag)); n != 1 {
				t.Fatalf("%s: %d answers before the end", name, n)
			}
			end(<-peers)
			if a := d.await(tag, 2); !a.Lost || a.Held != held || a.Err != nil {
				t.Errorf("%s: %+v", name, a)
			}
			d.Release(held)
			d.runTurn(quiet)
			d.await(tag, 2)
		}
	}
}

// A peer may end the connection together with its answer. The kernel reports that once, and the
// loss is reported all the same.
func TestLostWithTheAnswer(t *testing.T) {
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		hear(conn)
		io.WriteString(conn, "hello")
	})
	d := newRecorder(t)
	for range 200 {
		tag := new(int)
		d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: hello, Hold: true, Tag: tag}})
		d.await(tag, 2)
		d.checkAnswers(tag)
	}
}

// Data from the peer is not a loss, and a connection is not held if the talk does not want it.
func TestHeldConnectionTakesData(t *testing.T) {
	addr, peers := guests(t, silence)
	d := newRecorder(t)
	tag, _ := d.askHold(addr, connection)
	peer := <-peers
	for range 10 {
		io.WriteString(peer, "a banner")
		d.runTurn(listen(t, "127.0.0.1", linger))
	}
	d.await(tag, 1)
	if a := d.askOne(listen(t, "127.0.0.1", says("hello, bye")), hello, patience, true); a.Err != nil || a.Held != nil {
		t.Errorf("a peer that said bye: %+v", a)
	}
	if a := d.askOne(listen(t, "127.0.0.1", says("hello")), hello, patience, false); a.Err != nil || a.Held != nil {
		t.Errorf("not asked to hold: %+v", a)
	}
}

// A release ends the connection in an orderly way, even if there is unread data, and nothing more
// is reported of it.
func TestRelease(t *testing.T) {
	quiet := listen(t, "127.0.0.1", linger)
	for _, banner := range []string{"", "220 a banner\r\n"} {
		addr, peers := guests(t, silence)
		d := newRecorder(t)
		tag, held := d.askHold(addr, connection)
		peer := <-peers
		io.WriteString(peer, banner)
		d.runTurn(quiet)
		d.Release(held)
		d.Release(held)
		peer.SetReadDeadline(time.Now().Add(patience))
		if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("banner %q: the peer reads %d bytes, %v", banner, n, err)
		}
		peer.Close()
		d.runTurn(quiet)
		d.await(tag, 1)
	}
}

// Releasing a lost connection is harmless, even if another connection has its descriptor by then.
func TestReleaseAfterLost(t *testing.T) {
	addr, peers := guests(t, silence)
	d := newRecorder(t)
	var lost []*wire.Held
	for range 20 {
		tag, held := d.askHold(addr, connection)
		(<-peers).Close()
		d.await(tag, 2)
		lost = append(lost, held)
	}
	tag, _ := d.askHold(addr, connection) // with one of those descriptors
	for _, held := range lost {
		d.Release(held)
	}
	d.runTurn(listen(t, "127.0.0.1", linger))
	d.await(tag, 1)
	(<-peers).Close()
	if a := d.await(tag, 2); !a.Lost {
		t.Errorf("%+v", a)
	}
}

// victim, in the environment, makes the test binary a server that waits to be killed.
const victim = "WIRE_TEST_VICTIM"

func waitToDie() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	fmt.Println(l.Addr())
	for {
		if _, err := l.Accept(); err != nil {
			return
		}
	}
}

// A killed process cannot say anything, but its kernel reports the end.
func TestKilled(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), victim+"=yes")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	line := make([]byte, 64)
	n, _ := out.Read(line)
	addr, err := netip.ParseAddrPort(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	d := newRecorder(t)
	var tags []any
	for range 100 {
		tag, _ := d.askHold(addr, connection)
		tags = append(tags, tag)
	}
	child.Process.Kill()
	for _, tag := range tags {
		if a := d.await(tag, 2); !a.Lost {
			t.Errorf("%+v", a)
		}
	}
}
