package gossip

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// sink is a member that the test plays: it reads what other members send.
type sink struct {
	*testMember
	socket *net.UDPConn
	peer   *peer
}

func newSink(t *testing.T) *sink {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, membership.Config{Listen: anyPort(t, "127.0.0.1"), Key: writeKeys(t, newKey())})
	t.Cleanup(func() { m.Leave(); socket.Close() })
	addr := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	p := &peer{addr: addr, name: addr.String(), chosen: true, epoch: 1, nodes: map[uint64]*node{1: {alive: true, usable: usable{ok: true}}},
		past: make(map[uint64]time.Duration), in: inflow{total: &m.loop.kept}, seen: time.Now()}
	m.loop.started = time.Now()
	m.loop.listener, m.loop.peers = m.recorder, map[netip.AddrPort]*peer{addr: p}
	return &sink{m, socket, p}
}

// received reads what has been sent so far.
func (s *sink) received(t *testing.T) (all []message) {
	t.Helper()
	s.t.sendTo(s.as.header(nil, 'z'), s.peer.addr) // the last one
	buf := make([]byte, maxMessage)
	s.socket.SetReadDeadline(time.Now().Add(deadline))
	for {
		n, err := s.socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := s.t.openPacket(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		m, err := readMessage(plain[1:])
		if err != nil {
			t.Fatal(err)
		}
		if m.kind == 'z' {
			return all
		}
		if len(plain) > maxPacket {
			t.Errorf("a message of %d bytes", len(plain))
		}
		all = append(all, m)
	}
}

// A word is said at once, and once more after sayAgain.
func TestSaidAgain(t *testing.T) {
	s, now := newSink(t), time.Now()
	s.Say(votesUpTo(1, 3))
	for _, c := range []struct {
		after time.Duration
		words int
	}{{0, 1}, {sayAgain - 1, 0}, {sayAgain, 1}, {10 * sayAgain, 0}} {
		s.loop.sendAll(now.Add(c.after))
		if got := s.received(t); len(got) != c.words {
			t.Errorf("after %s: %d words, want %d", c.after, len(got), c.words)
		}
	}
}

// A burst is paced, and answers come in front of the words that follow them.
func TestPace(t *testing.T) {
	s, now := newSink(t), time.Now()
	s.Say(votesUpTo(1, 1))
	s.Answer(s.peer.name, votesUpTo(1, 1))
	s.Answer("192.0.2.1:1", votesUpTo(1, 1)) // for a member that is not there
	s.Say(votesUpTo(2, 8000))
	s.loop.sendAll(now)
	got := s.received(t)
	if len(got) != wordsPerTick+1 || got[0].kind != kindWords || got[1].kind != kindAnswer || got[2].kind != kindWords {
		t.Fatalf("%d messages", len(got))
	}
	s.loop.sendBeat(now) // the process does not turn
	s.Turn(false)
	s.loop.sendBeat(now)
	got = s.received(t)
	if len(got) != 1 {
		t.Fatalf("%d beats", len(got))
	}
	if b, err := readBeat(got[0].body); err != nil || b.last != wordsPerTick || b.first != 1 {
		t.Errorf("%+v, %v", b, err)
	}
	s.loop.sendBeat(now.Add(time.Second - 1))
	s.loop.sendBeat(now.Add(time.Second))
	s.loop.sendBeat(now.Add(turnsWithin + time.Minute)) // it hangs
	if got := s.received(t); len(got) != 1 {
		t.Errorf("%d beats", len(got))
	}
}

// A member that asks for everything all the time gets so much a second.
func TestRepairBound(t *testing.T) {
	s, now := newSink(t), time.Now()
	s.Say(votesUpTo(1, 8000))
	s.loop.sendAll(now)
	s.received(t)
	ask := func(now time.Time) (bytes int) {
		for range 2000 {
			s.loop.handleGap(s.peer, appendSpans(nil, []span{{1, 1}, {2, 2}, {1000, 2000}}), now)
			for _, m := range s.received(t) {
				bytes += len(m.body)
			}
		}
		return bytes
	}
	if n := ask(now); n > repairAtOnce+repairAtOnce/10 || n < repairAtOnce*9/10 {
		t.Errorf("%d bytes at once", n)
	}
	if n := ask(now.Add(time.Second)); n > repairBytes+repairBytes/10 || n < repairBytes*9/10 {
		t.Errorf("%d bytes in a second", n)
	}
}

// A loop that was late itself takes no member for silent before it has heard what waits.
func TestLateLoop(t *testing.T) {
	s := newSink(t)
	s.loop.ticked, s.peer.heard, s.peer.streaming, s.peer.beatAt = time.Now().Add(-time.Minute), true, true, time.Now().Add(-time.Minute)
	s.loop.tick()
	if n := len(s.events("silent", "")); n > 0 {
		t.Error("it is silent at once")
	}
	eventually(t, "it is silent", func() bool { s.loop.tick(); return len(s.events("silent", "")) == 1 })
}

// The loop knows so many members, and forgets those that have gone. One that comes then may have been known before.
func TestForget(t *testing.T) {
	s := newSink(t)
	s.loop.showDue = time.Now().Add(time.Hour)
	s.peer.nodes[1].alive, s.peer.met = false, true
	for i := range maxNames + 10 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 9)
		s.loop.watcher.changed[sender{addr, 1}.nodeName()] = nodeState{true, fact{}.encode()}
	}
	s.loop.takeChanges()
	if len(s.loop.peers) != maxNames || s.loop.peers[s.peer.addr] != nil || !s.loop.forgot || len(s.events("left", "")) != 1 {
		t.Errorf("%d members, forgot %t", len(s.loop.peers), s.loop.forgot)
	}
	p := s.loop.peers[netip.MustParseAddrPort("127.9.0.5:9")]
	if p == nil {
		for _, p = range s.loop.peers {
			break
		}
	}
	none, _ := hashOf(nil)
	s.loop.lists[none] = fleet.Groups{}
	m, _ := readMessage(beat{last: 7, first: 1, uptime: time.Minute, groups: none}.appendTo(sender{p.addr, 1}.header(nil, kindBeat))[1:])
	s.loop.handle(m)
	if len(s.events("met", p.name)) != 1 || len(s.events("restarted", p.name)) != 1 || len(s.events("heard", p.name)) != 1 {
		t.Errorf("%+v", s.recorder.all)
	}
	p.seen = time.Now().Add(-knownFor - time.Second)
	p.nodes[1].alive = false
	s.loop.mind(p, time.Now(), time.Second)
	if s.loop.peers[p.addr] != nil || len(s.events("silent", p.name)) != 1 {
		t.Error("it is still known")
	}
}

// A member that stops says so in a beat, and who hears it does not wait for memberlist.
func TestStopping(t *testing.T) {
	s := newSink(t)
	s.Say(votesUpTo(1, 1))
	s.loop.sayGoodbye()
	got := s.received(t)
	if len(got) != 3 || got[0].kind != kindWords {
		t.Fatalf("%d messages", len(got))
	}
	for _, m := range got[1:] {
		if b, err := readBeat(m.body); err != nil || !b.stopping || b.last != 1 {
			t.Errorf("%+v, %v", b, err)
		}
	}
	none, _ := hashOf(nil)
	s.loop.lists[none] = fleet.Groups{}
	for i, stopping := range []bool{false, true, false} {
		b := beat{first: 1, uptime: time.Duration(i+1) * time.Second, groups: none, stopping: stopping}
		m, _ := readMessage(b.appendTo(sender{s.peer.addr, 1}.header(nil, kindBeat))[1:])
		s.loop.handle(m)
	}
	if len(s.events("met", "")) != 1 || len(s.events("left", "")) != 1 || len(s.events("heard", "")) != 1 {
		t.Errorf("%+v", s.recorder.all)
	}
}

// A former epoch of this process is not taken for another member, whether memberlist or a message names it.
func TestOwnFormerEpoch(t *testing.T) {
	s := newSink(t)
	former := sender{s.as.addr, s.as.epoch + 1}
	s.loop.watcher.changed[former.nodeName()] = nodeState{true, fact{}.encode()}
	s.loop.takeChanges()
	m, _ := readMessage(beat{first: 1, uptime: time.Second}.appendTo(former.header(nil, kindBeat))[1:])
	s.loop.handle(m)
	if len(s.loop.peers) != 1 || len(s.recorder.all) > 0 || len(s.join.strangers) > 0 {
		t.Errorf("%d members, %+v", len(s.loop.peers), s.recorder.all)
	}
}

// A member whose program has another protocol is there for memberlist, and is not met.
func TestOtherProtocol(t *testing.T) {
	s := newSink(t)
	meta := fact{}.encode()
	meta[1]++
	other := sender{netip.MustParseAddrPort("127.0.0.9:9"), 5}
	s.loop.watcher.changed[other.nodeName()] = nodeState{true, meta}
	s.loop.takeChanges()
	m, _ := readMessage(beat{first: 1, uptime: time.Second}.appendTo(other.header(nil, kindBeat))[1:])
	s.loop.handle(m)
	if len(s.loop.peers) != 2 || len(s.recorder.all) > 0 {
		t.Errorf("%d members, %+v", len(s.loop.peers), s.recorder.all)
	}
}

// A new epoch takes the place of one that is there only when that has been silent for a while.
func TestEpochs(t *testing.T) {
	s := newSink(t)
	none, _ := hashOf(nil)
	s.loop.lists[none] = fleet.Groups{}
	say := func(epoch uint64, uptime time.Duration) {
		m, _ := readMessage(beat{first: 1, uptime: uptime, groups: none}.appendTo(sender{s.peer.addr, epoch}.header(nil, kindBeat))[1:])
		s.loop.handle(m)
	}
	say(1, 10*time.Second)
	say(2, time.Second) // memberlist does not know it
	s.peer.nodes[2] = &node{alive: true, usable: usable{ok: true}}
	say(2, 2*time.Second) // the first one is there
	if s.peer.epoch != 1 || len(s.events("heard", "")) != 1 {
		t.Errorf("epoch %d, %+v", s.peer.epoch, s.recorder.all)
	}
	s.peer.beatAt = s.peer.beatAt.Add(-3 * time.Second)
	say(2, 3*time.Second)
	if last := s.last(s.peer.name, "met"); s.peer.epoch != 2 || last.epoch != 2 || len(s.events("heard", "")) != 2 {
		t.Errorf("epoch %d, %+v", s.peer.epoch, s.recorder.all)
	}
	s.peer.beatAt = s.peer.beatAt.Add(-3 * time.Second)
	say(1, 10*time.Second) // a recorded beat, which is not newer than the last one
	if len(s.events("heard", "")) != 2 {
		t.Errorf("%+v", s.recorder.all)
	}
}

// A message has no empty words, and not more than an author repeats at once: each is an event, and many would push out who is there.
func TestWordsAreFew(t *testing.T) {
	s := newSink(t)
	s.peer.streaming = true
	read := func(kind byte, body []byte) (said int) {
		before := len(s.events("said", ""))
		s.loop.handle(message{kind: kind, from: sender{s.peer.addr, 1}, body: body})
		return len(s.events("said", "")) - before
	}
	var many []byte
	for n := range uint64(2 * maxWords) {
		many = appendWord(many, n+1, []byte{1})
	}
	for _, c := range []struct {
		kind byte
		body []byte
		want int
	}{
		{kindWords, appendWord(appendWord(nil, 1, []byte{1}), 2, nil), 1},
		{kindAnswer, []byte{1}, 0},
		{kindAsk, nil, 0},
		{kindWords, many, maxWords - 1},
	} {
		before := testutil.ToFloat64(s.t.malformed)
		if said := read(c.kind, c.body); said != c.want || testutil.ToFloat64(s.t.malformed) != before+1 {
			t.Errorf("%c with %d bytes: %d are told, want %d", c.kind, len(c.body), said, c.want)
		}
	}
	// What an author repeats at once is fewer words than that.
	s.Say(votesUpTo(1, 1))
	s.out.collect()
	if _, words := s.out.words(span{1, 1}, maxBatch); repairBytes/len(words[0]) > maxWords {
		t.Errorf("the shortest word has %d bytes", len(words[0]))
	}
}

// Messages that wait have a bound in bytes, which are given back.
func TestMessagesAreBounded(t *testing.T) {
	s := newSink(t)
	data := append(s.as.header(nil, kindWords)[1:], make([]byte, maxFrame-100)...)
	for range 3 * messageBytes / maxFrame {
		s.t.handOver(data)
	}
	if n := len(s.t.messages); n != messageBytes/cap(data) || s.t.waiting.Load() > messageBytes {
		t.Errorf("%d wait, of %d bytes", n, s.t.waiting.Load())
	}
	for len(s.t.messages) > 0 {
		s.t.giveBack(<-s.t.messages)
	}
	if n := s.t.waiting.Load(); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
}

// Lists of groups have a bound, those included that members have.
func TestListsAreBounded(t *testing.T) {
	s := newSink(t)
	for i := range maxListed/maxGroups + 2*maxLists {
		groups := make(fleet.Groups, maxGroups)
		for n := range maxGroups {
			groups[fleet.Group{byte(i >> 8), byte(i), byte(n >> 8), byte(n)}] = struct{}{}
		}
		h, list := hashOf(groups)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 9)
		s.loop.peers[addr] = &peer{addr: addr, chosen: true, beat: beat{groups: h}, beatAt: time.Now(), seen: time.Now(), in: inflow{total: &s.loop.kept}}
		s.loop.handleList(list, time.Now())
	}
	kept := 0
	for _, groups := range s.loop.lists {
		kept += len(groups)
	}
	if kept > maxListed {
		t.Errorf("%d groups of %d lists", kept, len(s.loop.lists))
	}
}
