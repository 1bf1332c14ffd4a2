package gossip

import (
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/hashicorp/memberlist"
)

func newEnvelope(t testing.TB, label string, lines ...string) *envelope {
	k := &keys{}
	if err := k.load(writeKeys(t, lines...)); err != nil {
		t.Fatal(err)
	}
	return &envelope{label, k}
}

// What is sealed opens with any of the keys and as it was written only.
func TestSeal(t *testing.T) {
	key := newKey()
	e := newEnvelope(t, "one", key)
	packet := e.packet([]byte("text"))
	if plain, err := newEnvelope(t, "one", newKey(), key).openPacket(packet); err != nil || string(plain) != "text" {
		t.Errorf("%q, %v", plain, err)
	}
	if slices.Equal(packet, e.packet([]byte("text"))) {
		t.Error("two packets are the same")
	}
	for i := range packet {
		bad := slices.Clone(packet)
		bad[i] ^= 1
		if plain, err := e.openPacket(bad); err == nil {
			t.Errorf("byte %d does not matter: %q", i, plain)
		}
		if _, err := e.openPacket(packet[:i]); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
	if _, err := newEnvelope(t, "one", newKey()).openPacket(packet); !errors.Is(err, errSeal) {
		t.Error(err)
	}
	if _, err := newEnvelope(t, "two", key).openPacket(packet); !errors.Is(err, errLabel) {
		t.Error(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(key)
	box, _ := newBox(raw)
	if _, err := e.openPacket(append(e.labelled(nil), sealOld(box, make([]byte, 16), []byte("one"))...)); !errors.Is(err, errSeal) {
		t.Errorf("version 0: %v", err)
	}
}

// A byte says how long what follows is, and a stranger chooses it: none of its values is more than is refused.
func TestLengthsOfAByte(t *testing.T) {
	e := newEnvelope(t, "one", newKey())
	for n := range 256 {
		for _, size := range []int{2, n + 1, n + 2, 600} {
			packet := append([]byte{labelType, byte(n)}, make([]byte, size)...)[:size]
			if plain, err := e.openPacket(packet); !errors.Is(err, errSeal) {
				t.Errorf("a label of %d in %d bytes: %q, %v", n, size, plain, err)
			}
			fact := append([]byte{format, fleet.Protocol, byte(n)}, make([]byte, size)...)
			if f, ok := readFact(fact); ok != (size > n) || len(f.site) > maxFact {
				t.Errorf("a site of %d in %d bytes: %d, %t", n, size, len(f.site), ok)
			}
		}
	}
	long := newEnvelope(t, strings.Repeat("x", 255), newKey())
	if plain, err := long.openPacket(long.packet([]byte("text"))); err != nil || string(plain) != "text" {
		t.Errorf("a label of 255 bytes: %q, %v", plain, err)
	}
}

// heardBy is a memberlist that passes on what it hears.
type heardBy struct {
	*watcher
	heard chan string
}

func (h heardBy) NotifyMsg(b []byte) { h.heard <- string(b) }

// The seal is that of memberlist: each opens what the other seals, in packets and in streams.
func TestSealOfMemberlist(t *testing.T) {
	key := newKey()
	raw, _ := base64.StdEncoding.DecodeString(key)
	m := open(t, membership.Config{Listen: anyPort(t, "127.0.0.1"), Key: writeKeys(t, key)})
	defer m.Leave()
	m.t.receive()
	c := memberlist.DefaultLANConfig()
	c.BindAddr, c.BindPort, c.AdvertiseAddr, c.Label, c.SecretKey, c.EnableCompression = "127.0.0.1", 0, "127.0.0.1", "test", raw, false
	c.Logger = log.New(io.Discard, "", 0)
	h := heardBy{newWatcher(m.as, nil), make(chan string, 1)}
	c.Delegate = h
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Shutdown()
	message := m.as.header(nil, kindAsk)
	list.SendToAddress(memberlist.Address{Addr: m.as.addr.String()}, message[1:])
	select {
	case got := <-m.t.messages:
		if got.kind != kindAsk || got.from != m.as {
			t.Errorf("%+v", got)
		}
	case <-time.After(deadline):
		t.Fatal("its packet does not open")
	}
	m.t.sendTo(append([]byte{typeUser}, "text"...), netip.MustParseAddrPort(list.LocalNode().Address()))
	select {
	case got := <-h.heard:
		if got != "text" {
			t.Errorf("%q", got)
		}
	case <-time.After(deadline):
		t.Fatal("our packet does not open")
	}
	conn, err := m.t.DialTimeout(list.LocalNode().Address(), deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(append([]byte{typePing}, packMap("SeqNo", 7)...))
	answer := make([]byte, 100)
	if n, err := conn.Read(answer); err != nil || n == 0 || answer[0] != typeAck {
		t.Errorf("%q, %v", answer[:n], err)
	}
	if _, err := conn.Read(answer); err != io.EOF {
		t.Error(err)
	}
}
