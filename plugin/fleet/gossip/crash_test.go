package gossip

import (
	"bytes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What a holder of a key can end a process with that uses memberlist as it is. The tests show both: that it does, and that it does not
// get there.

// sealOld seals as memberlist's encryption version 0 does, with bytes in the place of a right padding.
func sealOld(box cipher.AEAD, padded, extra []byte) []byte {
	nonce := make([]byte, nonceSize)
	return append(append([]byte{0}, nonce...), box.Seal(nil, nonce, padded, extra)...)
}

// frameOf frames what is sealed for a stream.
func frameOf(label string, sealed func(extra []byte) []byte) []byte {
	size := len(sealed(nil))
	head := binary.BigEndian.AppendUint32([]byte{sealedType}, uint32(size))
	return append(append((&envelope{label: label}).labelled(nil), head...), sealed(frameExtra(head, label))...)
}

// attacks are packets and streams of a holder of a key, with their reasons. The one with versions ends no process, but all exchanges of
// states.
func attacks(label string, box cipher.AEAD) (packets, streams map[string][]byte) {
	wrongPadding := bytes.Repeat([]byte{255}, 16)
	r := ring{box}
	e := envelope{label: label}
	wrongVersions := func() []byte {
		state := packMap("Name", "127.0.0.1:1/0000000000000001", "Addr", []byte{127, 0, 0, 1}, "Port", 1, "Meta", []byte{}, "Incarnation", 1, "State", 0, "Vsn", []byte{255, 255, 255, 0, 0, 0})
		return append(append([]byte{typePushPull}, packMap("Nodes", 1, "UserStateLen", 0, "Join", true)...), state...)
	}
	packets = map[string][]byte{
		"padding": append(e.labelled(nil), sealOld(box, wrongPadding, []byte(label))...),
	}
	streams = map[string][]byte{
		"padding":  frameOf(label, func(extra []byte) []byte { return sealOld(box, wrongPadding, extra) }),
		"empty":    frameOf(label, func(extra []byte) []byte { return r.seal(nil, nil, extra) }),
		"versions": frameOf(label, func(extra []byte) []byte { return r.seal(nil, wrongVersions(), extra) }),
	}
	return packets, streams
}

// packMap writes a map with these names and values.
func packMap(pairs ...any) []byte {
	out := []byte{0x80 | byte(len(pairs)/2)}
	for _, v := range pairs {
		switch v := v.(type) {
		case string:
			out = append(append(out, 0xda, 0, byte(len(v))), v...)
		case []byte:
			out = append(append(out, 0xda, 0, byte(len(v))), v...)
		case int:
			out = append(out, 0xce, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
		case bool:
			if out = append(out, 0xc2); v {
				out[len(out)-1] = 0xc3
			}
		}
	}
	return out
}

// Memberlist as it is panics. If a new version does not any longer, the test says so.
func TestPlainMemberlistPanics(t *testing.T) {
	key := newKey()
	raw, _ := base64.StdEncoding.DecodeString(key)
	box, _ := newBox(raw)
	packets, streams := attacks("test", box)
	if attack := os.Getenv("GOSSIP_ATTACK"); attack != "" {
		sufferAttack(t, attack, raw, packets, streams)
		return
	}
	for _, attack := range []string{"packet padding", "stream padding", "stream empty"} {
		t.Run(attack, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestPlainMemberlistPanics$")
			cmd.Env = append(os.Environ(), "GOSSIP_ATTACK="+attack)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "memberlist.(*Memberlist)") || !strings.Contains(string(out), "panic") {
				t.Errorf("it survives, %v: %s", err, out)
			}
		})
	}
}

// sufferAttack attacks a memberlist of this process.
func sufferAttack(t *testing.T, attack string, key []byte, packets, streams map[string][]byte) {
	c := memberlist.DefaultLANConfig()
	c.BindAddr, c.BindPort, c.AdvertiseAddr, c.Label = "127.0.0.1", 0, "127.0.0.1", "test"
	c.Logger = log.New(io.Discard, "", 0)
	c.SecretKey = key
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Shutdown()
	way, name, _ := strings.Cut(attack, " ")
	network, data := "udp", packets[name]
	if way == "stream" {
		network, data = "tcp", streams[name]
	}
	conn, err := net.Dial(network, list.LocalNode().Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(data)
	time.Sleep(deadline) // the panic ends the process before; nothing tells that there will be none
}

// None of it reaches memberlist here, and what is refused is counted.
func TestAttacks(t *testing.T) {
	key := newKey()
	all := startFleet(t, 2, writeKeys(t, key))
	raw, _ := base64.StdEncoding.DecodeString(key)
	box, _ := newBox(raw)
	packets, streams := attacks("test", box)
	at := all[0].as.addr.String()
	dropped := func() (n float64) {
		for _, c := range []prometheus.Counter{all[0].t.unsealed, all[0].t.malformed} {
			n += testutil.ToFloat64(c)
		}
		return n
	}
	before, panics := dropped(), testutil.ToFloat64(metrics.Panics)
	for network, all := range map[string]map[string][]byte{"udp": packets, "tcp": streams} {
		for _, data := range all {
			conn, err := net.Dial(network, at)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(data)
			defer conn.Close()
		}
	}
	eventually(t, "four are dropped", func() bool { return dropped() >= before+4 })
	all[0].Say(votesUpTo(1, 1))
	sameStream(t, all[0], all, 1)
	if len(packets["padding"]) != 2+len("test")+45 {
		t.Errorf("%d bytes", len(packets["padding"]))
	}
	if n := testutil.ToFloat64(metrics.Panics) - panics; n > 0 {
		t.Errorf("%v panics", n)
	}
}
