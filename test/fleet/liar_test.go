//go:build faults && linux

package fleet

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// liar is a member that has the key and no pool: it says what the test has it say.
type liar struct {
	scene  *scene
	engine membership.Engine
	mu     sync.Mutex
	met    map[string]core.Member
	roster *core.Roster
	lie    func()
	stop   chan struct{}
	runs   sync.WaitGroup
}

// newLiar starts a liar, which shares what the others share, and waits until it has seats.
func (s *scene) newLiar() *liar {
	s.Helper()
	return s.newLiars(99)[0]
}

// newLiars starts liars that are one for each number, and waits until they have seats.
func (s *scene) newLiars(numbers ...int) (all []*liar) {
	s.Helper()
	for _, n := range numbers {
		all = append(all, s.openLiar(n))
	}
	for _, p := range s.live() {
		p.hears(patience, len(s.live())-1+len(numbers))
	}
	s.passes(settling + 2*interval)
	return all
}

// openLiar starts a liar with a number.
func (s *scene) openLiar(n int) *liar {
	s.Helper()
	c := membership.Config{Peers: []string{fmt.Sprintf("127.8.0.1:%d", s.fleetPort)}, Key: s.dir + "/key", Name: "multivalue",
		Listen: fmt.Sprintf("127.8.0.%d:%d", n, s.fleetPort)}
	engine, err := gossip.Open(c, membership.Host{Warnf: s.Logf, Infof: s.Logf, Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return nil, errors.New("no names here")
	}})
	if err != nil {
		s.Fatal(err)
	}
	l := &liar{scene: s, engine: engine, met: make(map[string]core.Member), roster: core.NewRoster(engine.Self(), time.Now()), stop: make(chan struct{})}
	engine.Start(core.Groups{}, l)
	l.runs.Go(l.turn)
	s.Cleanup(l.end)
	return l
}

// turn shows that the liar is there, and lies.
func (l *liar) turn() {
	announced := 0
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		l.engine.Turn(false)
		if groups := l.groups(); len(groups) != announced {
			announced = len(groups)
			l.engine.Announce(groups)
		}
		l.mu.Lock()
		lie := l.lie
		l.mu.Unlock()
		if lie != nil {
			lie()
		}
	}
}

// tells sets what the liar says ten times a second.
func (l *liar) tells(lie func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lie = lie
}

func (l *liar) end() {
	select {
	case <-l.stop:
		return
	default:
	}
	close(l.stop)
	l.runs.Wait()
	l.engine.Leave()
}

// groups are those of the others.
func (l *liar) groups() core.Groups {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(core.Groups)
	for _, m := range l.met {
		maps.Copy(all, m.Groups)
	}
	return all
}

// Met and the others are core.Listener.
func (l *liar) Met(m core.Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.met[m.Name] = m
	l.roster.Meet(m, time.Now())
}
func (l *liar) Left(name string)                             {}
func (l *liar) Heard(name string, epoch uint64, is bool)     { l.heard(name, epoch) }
func (l *liar) Silent(name string)                           {}
func (l *liar) Restarted(name string, epoch uint64)          {}
func (l *liar) Said(name string, epoch uint64, batch []byte) {}

func (l *liar) heard(name string, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roster.Heard(name, epoch, false, time.Now())
}

// targets are the backends as members name them.
func (l *liar) targets() (all []core.Target) {
	for g := range l.groups() {
		for n := range l.scene.backends {
			addr := netip.AddrFrom4([4]byte{127, 9, 0, byte(n)})
			all = append(all, core.Target{Group: g, Addr: netip.AddrPortFrom(addr, uint16(l.scene.backendPort))})
		}
	}
	return all
}

// seated are the backends for which the liar has a seat.
func (l *liar) seated() (all []int) {
	groups, targets := l.groups(), l.targets()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roster.Share(groups)
	for _, t := range targets {
		if len(l.roster.Seats(t.Group, 3, time.Now()).Others(t.Shard())) == 2 {
			all = append(all, int(t.Addr.Addr().As4()[3]))
		}
	}
	slices.Sort(all)
	return all
}

// votes has the liar say of all targets that they are in a state.
func (l *liar) votes(state verdict.State) func() {
	return func() {
		var all []core.Vote
		for _, t := range l.targets() {
			all = append(all, core.Vote{Target: t, State: state, Age: 365 * 24 * time.Hour, Holds: 24 * time.Hour, Reason: "a lie"})
		}
		l.engine.Say(all)
	}
}

// resident is the memory of a server in MB.
func (p *server) resident() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	var size, pages int
	fmt.Sscan(string(text), &size, &pages)
	return pages * os.Getpagesize() >> 20
}

// A member that lies takes nothing out, and at worst keeps in what it has a seat for, as long as it is there. Floods, wants and garbage do
// not make the others grow, nor have them probe what their own Corefiles do not name (B109, B111).
func TestFaultLiar(t *testing.T) {
	t.Parallel()
	const room = 60
	s := fleetOf(t, 4, list(11, 30), "MORE", fmt.Sprint("max_targets ", room), "within 127.0.0.0/8", "within 127.9.0.0/24")
	l := s.load()
	x := s.newLiar()
	seated := x.seated()
	t.Logf("the liar has seats for %v", seated)
	if len(seated) == 0 || len(seated) == len(s.backends) {
		t.Fatal("the test says nothing, because the liar has no seat, or all")
	}
	x.tells(x.votes(verdict.Down))
	s.passes(5 * interval)

	t.Log("it says that all are up")
	x.tells(x.votes(verdict.Up))
	in, out := seated[0], 0
	for out = 11; slices.Contains(seated, out); out++ {
	}
	living := slices.DeleteFunc(list(11, 30), func(n int) bool { return n == in || n == out })
	l.expects(living, nil)
	s.backends[in].turn(stalls)
	s.backends[out].turn(stalls)
	for _, p := range s.live() {
		p.eventually(bound+lapse+slack, func() bool {
			got, err := p.ask()
			return err == nil && !slices.Contains(got, out)
		}, func() string {
			return fmt.Sprintf("server %d serves a dead target because of a vote without a seat", p.n)
		})
	}
	l.expects(living, []int{out})

	var stray []*strayListener
	for _, at := range []string{fmt.Sprintf("127.77.0.1:%d", s.backendPort), fmt.Sprintf("127.9.0.11:%d", s.freePort()), fmt.Sprintf("127.8.0.1:%d", s.backendPort)} {
		stray = append(stray, s.stray(at))
	}
	before := make(map[int]int)
	for _, p := range s.live() {
		before[p.n] = p.resident()
	}
	for what, lie := range map[string]func(){"floods votes": x.flood(), "wants 2^20 targets": x.wantAll(stray), "talks garbage": x.garbage(t)} {
		t.Log("it " + what)
		x.tells(lie)
		s.passes(6 * interval)
		for _, p := range s.live() {
			if now := p.resident(); now > before[p.n]+80 {
				t.Errorf("it %s: server %d has grown from %d to %d MB", what, p.n, before[p.n], now)
			}
			if n := p.metric("targets", ""); n > room {
				t.Errorf("it %s: server %d watches %v targets, and its Corefile allows %d", what, p.n, n, room)
			}
		}
	}
	for _, b := range stray {
		if n := b.count(); n > 0 {
			t.Errorf("%s was probed %d times, which no Corefile names", b.l.Addr(), n)
		}
	}
	x.tells(nil)
	x.end()
	l.expects(living, []int{out})
	s.serves(reseated+bound+slack, living...) // what it kept in is out
	l.end()
	for _, p := range s.live() {
		if log := p.output.String(); strings.Contains(log, "panic") {
			t.Errorf("server %d:\n%s", p.n, log)
		}
	}
}

// strayListener counts connections to what is not to be probed.
type strayListener struct {
	l  net.Listener
	mu sync.Mutex
	n  int
}

func (s *scene) stray(at string) *strayListener {
	s.Helper()
	l, err := net.Listen("tcp4", at)
	if err != nil {
		s.Fatal(err)
	}
	b := &strayListener{l: l}
	var runs sync.WaitGroup
	runs.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			b.mu.Lock()
			b.n++
			b.mu.Unlock()
		}
	})
	s.Cleanup(func() { l.Close(); runs.Wait() })
	return b
}

func (b *strayListener) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// flood says far more votes than are taken, on targets that there are, and that there are not.
func (l *liar) flood() func() {
	n := uint32(0)
	return func() {
		targets := l.targets()
		var all []core.Vote
		for range 10000 {
			n++
			t := targets[int(n)%len(targets)]
			if n%2 == 0 {
				t.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), t.Addr.Port())
			}
			all = append(all, core.Vote{Target: t, State: verdict.Down, Reason: fmt.Sprint("reason ", n)})
		}
		l.engine.Say(all)
	}
}

// wantAll wants 2²⁰ targets of everybody, among them those that must not be probed.
func (l *liar) wantAll(stray []*strayListener) func() {
	n := uint32(0)
	return func() {
		l.mu.Lock()
		names := slices.Collect(maps.Keys(l.met))
		l.mu.Unlock()
		for g := range l.groups() {
			for _, b := range stray {
				l.engine.Ask(names, core.Want{Target: core.Target{Group: g, Addr: b.l.Addr().(*net.TCPAddr).AddrPort()}, For: time.Hour})
			}
			for range 1 << 15 {
				n++
				addr := netip.AddrFrom4([4]byte{127, byte(9 + n>>16&0xf), byte(n >> 8), byte(n)})
				l.engine.Ask(names, core.Want{Target: core.Target{Group: g, Addr: netip.AddrPortFrom(addr, uint16(l.scene.backendPort))}, For: time.Hour})
			}
		}
	}
}

// garbage sends what makes no sense, sealed with the key: bytes by chance, and bytes behind the head of a message.
func (l *liar) garbage(t testing.TB) func() {
	text, err := os.ReadFile(l.scene.dir + "/key")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	box, _ := cipher.NewGCM(block)
	const label = "multivalue"
	conn, err := net.ListenPacket("udp4", "127.8.0.98:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	kind := byte(0)
	return func() {
		for _, p := range l.scene.live() {
			to := &net.UDPAddr{IP: net.IPv4(127, 8, 0, byte(p.n)), Port: l.scene.fleetPort}
			for range 100 {
				kind++
				plain := make([]byte, 1+int(kind)*5)
				rand.Read(plain)
				plain[0] = kind % 16 // the kinds of memberlist, 8 of them ours
				if kind%16 == 8 && len(plain) > 20 {
					self := l.engine.Self()
					plain[1], plain[2] = 1, "bwgaqrl"[int(kind>>4)%7]
					binary.BigEndian.PutUint64(plain[3:], self.Epoch)
					plain[11] = 4
					copy(plain[12:], []byte{127, 8, 0, 99})
					binary.BigEndian.PutUint16(plain[16:], uint16(l.scene.fleetPort))
				}
				nonce := make([]byte, 12)
				rand.Read(nonce)
				packet := append(append([]byte{244, byte(len(label))}, label...), 1)
				packet = box.Seal(append(packet, nonce...), nonce, plain, []byte(label))
				_, _ = conn.WriteTo(packet, to)
			}
		}
	}
}
