package gossip

import (
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/hashicorp/memberlist"
)

// deaf is a network for memberlist on which nothing goes out: a fuzzed message may name any address.
type deaf struct {
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var errDeaf = errors.New("nothing goes out")

func (d *deaf) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 9).To4(), 9254, nil
}
func (d *deaf) WriteTo([]byte, string) (time.Time, error)                    { return time.Now(), nil }
func (d *deaf) PacketCh() <-chan *memberlist.Packet                          { return d.packets }
func (d *deaf) DialTimeout(string, time.Duration) (net.Conn, error)          { return nil, errDeaf }
func (d *deaf) StreamCh() <-chan net.Conn                                    { return d.streams }
func (d *deaf) Shutdown() error                                              { return nil }
func (d *deaf) WriteToAddress([]byte, memberlist.Address) (time.Time, error) { return time.Now(), nil }
func (d *deaf) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	return nil, errDeaf
}

// startDeaf starts a memberlist that hears what a test says.
func startDeaf(t testing.TB) (*deaf, *memberlist.Memberlist) {
	d := &deaf{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	w := newWatcher(sender{netip.MustParseAddrPort("127.0.0.9:9254"), 1}, fact{}.encode())
	c := w.configure(&transport{})
	c.Transport, c.BindPort, c.AdvertisePort = d, 9254, 9254
	c.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	return d, list
}

// What passes our look goes to a memberlist, which panics in a goroutine of its own if it cannot cope: that ends the test.
func FuzzPacket(f *testing.F) {
	alive := aliveWith(nil)
	ping := append([]byte{typePing}, packMap("SeqNo", 1, "Node", "127.0.0.9:9254/0000000000000001", "SourceAddr", []byte{127, 0, 0, 1}, "SourcePort", 1)...)
	dead := packMap("Incarnation", 1, "Node", testSender.nodeName(), "From", testSender.nodeName())
	for _, data := range [][]byte{alive, checked(alive), compound(alive, ping), ping, append([]byte{typeDead}, dead...), append([]byte{typeSuspect}, dead...),
		append([]byte{typeAck}, packMap("SeqNo", 1)...), append([]byte{typeNack}, packMap("SeqNo", 1)...),
		append([]byte{typeIndirect}, packMap("SeqNo", 1, "Target", []byte{127, 0, 0, 1}, "Port", 1, "Node", "x", "Nack", true)...)} {
		f.Add(data)
	}
	d, list := startDeaf(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if way, _ := lookAtPacket(data); way != forMemberlist {
			return
		}
		d.packets <- &memberlist.Packet{Buf: data, From: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Timestamp: time.Now()}
		if list.NumMembers() > fleet.MaxMembers+1 {
			t.Error("it grows without bound")
		}
	})
}

// pipe is a connection. The test plays its other side.
type pipe struct {
	net.Conn
	rest  []byte
	ended chan struct{}
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
func (p *pipe) Write(b []byte) (int, error) { return len(b), nil }
func (p *pipe) Close() error                { close(p.ended); return nil }
func (p *pipe) SetDeadline(time.Time) error { return nil }
func (p *pipe) RemoteAddr() net.Addr        { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// The same for streams.
func FuzzFrame(f *testing.F) {
	state := packMap("Name", testSender.nodeName(), "Addr", []byte{127, 0, 0, 1}, "Port", 9254, "Meta", []byte{}, "Incarnation", 1, "State", 0, "Vsn", []byte{1, 5, 2, 0, 0, 0})
	f.Add(append(append([]byte{typePushPull}, packMap("Nodes", 1, "UserStateLen", 0, "Join", true)...), state...))
	f.Add(append([]byte{typePushPull}, packMap("Nodes", 0, "UserStateLen", 0, "Join", false)...))
	f.Add(append([]byte{typePing}, packMap("SeqNo", 1)...))
	d, _ := startDeaf(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		lookAtFrame(data, true)
		if way, _ := lookAtFrame(data, false); way != forMemberlist {
			return
		}
		p := &pipe{rest: data, ended: make(chan struct{})}
		d.streams <- p
		<-p.ended
	})
}

// Our own messages go to a loop that knows a member. It calls the listener as it should: nothing of a member before it is met.
func FuzzMessage(f *testing.F) {
	for _, kind := range []byte{kindBeat, kindWords, kindGap, kindAnswer, kindAsk, kindRequest, kindList} {
		h := testSender.header(nil, kind)[1:]
		f.Add(h)
		f.Add(append(h, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1))
		f.Add(appendWord(h, 1, []byte("text")))
	}
	none, _ := hashOf(nil)
	f.Add(beat{last: 5, first: 1, uptime: time.Hour, groups: none}.appendTo(testSender.header(nil, kindBeat)[1:]))
	path := writeKeys(f, newKey())
	f.Fuzz(func(t *testing.T, data []byte) {
		m := open(t, membership.Config{Listen: anyPort(t, "127.0.0.1"), Key: path})
		defer m.Leave()
		m.loop.listener, m.loop.lists[none] = m.recorder, fleet.Groups{}
		m.loop.watcher.changed[testSender.nodeName()] = nodeState{true, fact{}.encode()}
		m.loop.takeChanges()
		readFact(data)
		for range 2 {
			if msg, err := readMessage(data); err == nil && (msg.from.addr == testSender.addr || !msg.from.addr.Addr().IsLoopback()) {
				m.loop.handle(msg)
			}
			good, _ := readMessage(beat{last: 1, first: 1, uptime: time.Minute, groups: none}.appendTo(testSender.header(nil, kindBeat))[1:])
			m.loop.handle(good)
		}
		if m.loop.kept > earlyBytes || len(m.loop.peers) != 1 {
			t.Errorf("%d bytes kept, %d members", m.loop.kept, len(m.loop.peers))
		}
		for _, e := range m.recorder.all {
			if e.name != testSender.addr.String() {
				t.Errorf("%+v", e)
			}
		}
	})
}

// What comes from the network before the seal.
func FuzzSealed(f *testing.F) {
	k := &keys{}
	if err := k.load(writeKeys(f, newKey())); err != nil {
		f.Fatal(err)
	}
	e := envelope{"test", k}
	f.Add(e.packet([]byte("text")))
	f.Add(append([]byte{labelType, 255}, make([]byte, 300)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := e.openPacket(data); err == nil && string(plain) != "text" {
			t.Errorf("it opens: %q", plain)
		}
		parseKeys("keys", data)
	})
}
