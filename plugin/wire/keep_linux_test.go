package wire_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// handOver opens a connection as another owner would, gives it to the loop to keep, and closes its
// own.
func (d *recorder) handOver(peers chan *net.TCPConn, to net.Addr, before func(peer *net.TCPConn)) (tag any, held *wire.Held, peer *net.TCPConn) {
	d.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		d.Fatal(err)
	}
	defer conn.Close()
	peer = <-peers
	before(peer)
	if held, err = wire.Take(conn.(*net.TCPConn)); err != nil {
		d.Fatal(err)
	}
	tag = new(int)
	d.Keep(held, tag)
	return tag, held, peer
}

// A connection that was opened elsewhere stays open after its owner has closed it, until it is
// released.
func TestAdoptedConnectionIsHeld(t *testing.T) {
	addr, peers := guests(t, silence)
	d := newRecorder(t)
	tag, held, peer := d.handOver(peers, net.TCPAddrFromAddrPort(addr), silence)
	d.runTurn(listen(t, "127.0.0.1", linger))
	_ = peer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer reads %v, want nothing", err)
	}
	io.WriteString(peer, "a ticket")
	d.Release(held)
	d.Release(held)
	_ = peer.SetReadDeadline(time.Now().Add(patience))
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the release the peer reads %d bytes, %v", n, err)
	}
	d.runTurn(listen(t, "127.0.0.1", linger))
	if all := d.reports(tag); len(all) > 0 {
		t.Errorf("%+v", all)
	}
}

// Its end is reported once, even if it came before the loop had the connection.
func TestAdoptedConnectionIsLost(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"closed": func(conn *net.TCPConn) { conn.Close() },
		"reset":  reset,
	} {
		addr, peers := guests(t, silence)
		d := newRecorder(t)
		for _, early := range []bool{false, true} {
			before, after := silence, end
			if early {
				before, after = end, silence
			}
			tag, held, peer := d.handOver(peers, net.TCPAddrFromAddrPort(addr), before)
			after(peer)
			if a := d.await(tag, 1); !a.Lost || a.Held != held {
				t.Errorf("%s: %+v", name, a)
			}
			d.Release(held)
			d.runTurn(listen(t, "127.0.0.1", linger))
			d.await(tag, 1)
		}
	}
}

// A closed loop keeps nothing. A loop that is being closed closes what it kept, including what it
// has not looked at yet. TestMain counts the descriptors.
func TestKeepAndClose(t *testing.T) {
	addr, peers := guests(t, silence)
	for range 20 {
		d := newRecorder(t)
		_, _, peer := d.handOver(peers, net.TCPAddrFromAddrPort(addr), silence)
		d.close()
		_ = peer.SetReadDeadline(time.Now().Add(patience))
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the peer reads %v", err)
		}
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		held, err := wire.Take(conn.(*net.TCPConn))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		d.Keep(held, nil)
		peer = <-peers
		_ = peer.SetReadDeadline(time.Now().Add(patience))
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("after the end the peer reads %v", err)
		}
		if _, err := wire.Take(conn.(*net.TCPConn)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}
