package wire_test

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// After half of the time a new connection is asked beside the one that was held. The first good answer counts, a new one that fails
// decides, and there is one answer, also to a loop that is closed (B114).
func TestAskedBeside(t *testing.T) {
	slow := func(conn *net.TCPConn, text string, limit time.Duration) {
		time.Sleep(limit * 6 / 10) // a slow peer
		io.WriteString(conn, text)
		linger(conn)
	}
	for name, tt := range map[string]struct {
		kept, fresh func(conn *net.TCPConn, limit time.Duration)
		want        string
		same        bool // the connection that was held has answered
	}{
		"both are slow": {func(conn *net.TCPConn, limit time.Duration) { slow(conn, fine, limit) },
			func(conn *net.TCPConn, limit time.Duration) { slow(conn, fine, limit) }, "<nil>", true},
		"the held one fails while the new one is asked": {func(conn *net.TCPConn, limit time.Duration) { slow(conn, "garbage\r\n\r\n", limit) },
			func(conn *net.TCPConn, limit time.Duration) {
				time.Sleep(limit * 2 / 10)
				io.WriteString(conn, fine)
				linger(conn)
			}, "<nil>", false},
		"the new one is quick": {func(conn *net.TCPConn, _ time.Duration) { linger(conn) },
			func(conn *net.TCPConn, _ time.Duration) { io.WriteString(conn, fine); linger(conn) }, "<nil>", false},
		"the new one fails": {func(conn *net.TCPConn, limit time.Duration) { slow(conn, fine, 2*limit) },
			func(conn *net.TCPConn, _ time.Duration) {
				io.WriteString(conn, "HTTP/1.1 503 No\r\n\r\n")
				linger(conn)
			}, "status 503", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complaint := ""
			for limit := 2 * time.Second; limit < patience; limit *= 2 { // a busy machine needs more
				if complaint = askedBeside(t, limit, tt.kept, tt.fresh, tt.want, tt.same); complaint == "" {
					return
				}
			}
			t.Error(complaint)
		})
	}
}

func askedBeside(t *testing.T, limit time.Duration, kept, fresh func(*net.TCPConn, time.Duration), want string, same bool) (complaint string) {
	var conns atomic.Int64
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		first := conns.Add(1) == 1
		if first && take(conn) {
			io.WriteString(conn, fine)
		}
		if !take(conn) {
			return
		}
		if first {
			kept(conn, limit)
		} else {
			fresh(conn, limit)
		}
	})
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	held := a.Held
	tag, a := d.askOn(addr, held, limit)
	d.close()
	answers := 0
	for _, report := range d.reports(tag) {
		if !report.Lost {
			answers++
		}
	}
	if fmt.Sprint(a.Err) != want || (a.Held == held) != same || a.Took < limit/2 || answers != 1 || conns.Load() != 2 {
		return fmt.Sprintf("%+v, want %s, the same %t; %d answers, %d connections", a, want, same, answers, conns.Load())
	}
	return ""
}

// A loop that is closed while a question is asked on two connections gives it one answer.
func TestClosedWhileAskedBeside(t *testing.T) {
	beside := make(chan bool, 1)
	var conns atomic.Int64
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		if conns.Add(1) == 1 && take(conn) {
			io.WriteString(conn, fine)
		} else if take(conn) {
			beside <- true
		}
		linger(conn)
	})
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	tag := new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: reusing(t), Reuse: true, On: a.Held, Tag: tag}})
	<-beside
	d.close()
	if all := d.reports(tag); len(all) != 1 || !is(all[0].Err, wire.ErrClosing) {
		t.Errorf("%+v", all)
	}
}
