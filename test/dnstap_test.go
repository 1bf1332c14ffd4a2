package test

import (
	"bytes"
	"encoding/binary"
	"net"
	"path/filepath"
	"sync"
	"testing"

	tap "github.com/dnstap/golang-dnstap"
	"github.com/miekg/dns"
)

// dnstap logs the answer that goes out, once, together with our metadata (B77).
func TestDnstapSeesTheAnswer(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	l, err := net.Listen("unix", filepath.Join(s.dir, "tap"))
	if err != nil {
		t.Fatal(err)
	}
	frames := make(chan []byte, 1000)
	var reading sync.WaitGroup
	reading.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if input, err := tap.NewFrameStreamInputTimeout(conn, true, patience); err == nil {
			input.ReadInto(frames) // until the server stops
		}
	})
	t.Cleanup(func() { l.Close(); reading.Wait() })
	v := s.serve(`
example.org:0 {
    bind 127.0.0.1
    metadata
    dnstap DIR/tap full {
        extra "became {/multivalue/outcome}, {/multivalue/kept} of {/multivalue/total}."
    }
    file DIR/example.org
    multivalue {
        CALM
    }
}`)
	v.comesTo("www.example.org A", "11 13")
	v.settled(2, 1)
	reply := v.ask("www.example.org A")
	var told []*dns.Msg
	var frame []byte
	v.eventually(func() bool {
		for {
			select {
			case f := <-frames:
				if m := messageIn(f, reply.Id); m != nil && m.Response {
					told, frame = append(told, m), f
				}
			default:
				return len(told) > 0
			}
		}
	}, func() string { return "dnstap does not log the answer" })
	if len(told) != 1 || members(told[0]) != members(reply) || members(reply) != "11 13" || told[0].Answer[0].Header().Ttl != reply.Answer[0].Header().Ttl {
		t.Errorf("dnstap logs %d answers:\n%s\nbut the client got\n%s", len(told), told, reply)
	}
	if !bytes.Contains(frame, []byte("became thin, 2 of 3.")) {
		t.Errorf("dnstap has other metadata: %q", frame)
	}
}

// messageIn finds the message with that ID in a frame.
func messageIn(frame []byte, id uint16) *dns.Msg {
	want := binary.BigEndian.AppendUint16(nil, id)
	for at := 0; ; at++ {
		next := bytes.Index(frame[at:], want)
		if next < 0 {
			return nil
		}
		at += next
		m := new(dns.Msg)
		if m.Unpack(frame[at:]) == nil && len(m.Question) == 1 && m.Question[0].Name == "www.example.org." {
			return m
		}
	}
}
