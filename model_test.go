package multivalue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// This is a model of the allowed answers, written from the rules (docs/behaviours.md, docs/manual.md) and not from
// the code. Random sequences of events run against the model and against the plugin, in fake time. The model sees the
// backends live and die, and the probes that reach them. If the rules do not decide what is believed of a target, as
// between its fifteenth and its seventeenth minute without a query, the model keeps every possibility.

// modelZone is the zone that the plugins below serve.
var modelZone = records(
	"www.a.example.org. 60 IN A 10.0.0.1", "www.a.example.org. 60 IN A 10.0.0.2", "www.a.example.org. 60 IN A 10.0.0.3",
	"www.a.example.org. 60 IN A 10.0.0.1",
	"www.a.example.org. 300 IN AAAA 2001:db8::1", "www.a.example.org. 300 IN AAAA 2001:db8::2",
	"big.a.example.org. 20 IN A 10.0.0.1", "big.a.example.org. 20 IN A 10.0.0.2", "big.a.example.org. 20 IN A 10.0.0.3",
	"big.a.example.org. 20 IN A 10.0.0.4", "big.a.example.org. 20 IN A 192.0.2.1",
	"lone.a.example.org. 300 IN A 10.0.0.5",
	"static.a.example.org. 300 IN A 10.0.0.1", "static.a.example.org. 300 IN A 10.0.0.6",
	"www.b.example.org. 300 IN A 10.0.0.2", "www.b.example.org. 300 IN A 10.0.0.3", "www.b.example.org. 300 IN A 192.0.2.1",
	"lone.b.example.org. 60 IN AAAA 2001:db8::2",
)

// modelSets holds the questions, each name and type once. modelBackends holds the backends that a check may probe.
var modelSets, modelBackends = func() (sets []dns.Question, backends []netip.AddrPort) {
	for _, rr := range modelZone {
		if q := (dns.Question{Name: rr.Header().Name, Qtype: rr.Header().Rrtype}); !slices.Contains(sets, q) {
			sets = append(sets, q)
		}
		for _, port := range []uint16{80, 81} {
			a, _ := answer.Address(rr)
			if b := netip.AddrPortFrom(a, port); !slices.Contains(backends, b) {
				backends = append(backends, b)
			}
		}
	}
	return sets, backends
}()

// modelStanza is a stanza in the model.
type modelStanza struct {
	zone     string
	checks   []string
	pace     verdict.Pace
	limit    int    // 0 for off
	minUp    string // a count or a share
	allDown  string
	backup   string
	ttl      [2]uint32 // MAX and MIN; MAX is 0 for none
	ttlOff   bool
	within   []netip.Prefix
	dryRun   bool
	whatever string // a property that does not change what is allowed
	floor    bool   // another stanza bounds the TTL too, so that there is no lowest one
}

// modelCorefile is a Corefile in the model.
type modelCorefile [2]modelStanza

func (c modelCorefile) String() string {
	var b strings.Builder
	for _, s := range c {
		fmt.Fprintf(&b, "multivalue %s {\n check %s\n", s.zone, strings.Join(s.checks, "\n check "))
		fmt.Fprintf(&b, " interval %s %s\n timeout %s\n rise %d\n fall %d\n", s.pace.Interval, s.pace.Fast, s.pace.Timeout, s.pace.Rise, s.pace.Fall)
		fmt.Fprintf(&b, " min_up %s\n all_down %s\n except static.%s\n %s\n", s.minUp, s.allDown, s.zone, s.whatever)
		limit, ttl := strconv.Itoa(s.limit), ""
		if s.limit == 0 {
			limit = "off"
		}
		if s.ttl[0] > 0 {
			ttl = fmt.Sprintf(" ttl %d %d\n", s.ttl[0], s.ttl[1])
		}
		if s.ttlOff {
			ttl = " ttl off\n"
		}
		fmt.Fprintf(&b, " limit %s\n%s", limit, ttl)
		for line := range strings.SplitSeq(s.backup, ";") {
			if line == "" {
				continue
			}
			fmt.Fprintf(&b, " backup %s\n", line)
		}
		for _, n := range s.within {
			fmt.Fprintf(&b, " within %s\n", n)
		}
		if s.dryRun {
			b.WriteString(" dry_run\n")
		}
		b.WriteString("}\n")
	}
	return "example.org {\n" + strings.ReplaceAll(b.String(), "\n \n", "\n") + "}"
}

var (
	modelPaces = []verdict.Pace{pooltest.Pace, pooltest.Pace,
		{Interval: 5 * time.Second, Fast: time.Second, Timeout: 3 * time.Second, Rise: 1, Fall: 2},
		{Interval: time.Minute, Fast: 4 * time.Second, Timeout: 2 * time.Second, Rise: 3, Fall: 4},
		{Interval: 2 * time.Second, Fast: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 1}}
	modelWithins = [][]netip.Prefix{nil, nil,
		{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::2/128")}}
)

// modelNearest has the sites of modelSites decide for the one client that there is.
const (
	modelNearest = "select nearest\n topology sites"
	modelSites   = "site home 10.0.0.2/31 2001:db8::2\nsite next 10.0.0.1\nclients home 10.240.0.0/16\norder home: next"
)

// modelWeigher is a check by which backends report a weight. It asks the same port as tcp://:80.
const modelWeigher = "http://:80 weight_header X-Weight"

// modelStart is the first Corefile of every sequence.
func modelStart() modelCorefile {
	a := modelStanza{zone: "a.example.org", checks: []string{"tcp://:80"}, pace: pooltest.Pace, limit: 8, minUp: "1", allDown: "serve", ttl: [2]uint32{0, 30}}
	b := a
	b.zone = "b.example.org"
	return modelCorefile{a, b}
}

// edit changes one or two properties.
func (c modelCorefile) edit(seed int) modelCorefile {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 1 + r.IntN(3) {
		s := &c[r.IntN(2)]
		switch r.IntN(13) {
		case 0, 1:
			s.pace = pick(r, modelPaces...)
		case 2:
			s.limit = pick(r, 0, 1, 2, 8)
		case 3:
			s.minUp = pick(r, "1", "2", "3", "50%", "100%")
		case 4, 5:
			s.allDown = pick(r, "serve", "nodata", "servfail", "192.0.2.99 2001:db8::99", "192.0.2.99", "www.b.example.org", "www.a.example.org",
				"lone.a.example.org", "static.a.example.org", "gone.example.org")
		case 6:
			s.backup = pick(r, "", "10.0.0.3/32", "2001:db8::2/128", "192.0.2.0/24", "2 10.0.0.3/32;10.0.0.2/31;2 2001:db8::2/128",
				"9 10.0.0.0/8;3 10.0.0.2/32;4 10.0.0.3/32", "1 0.0.0.0/0;2 10.0.0.1/32 ::/0")
		case 7:
			s.ttl, s.ttlOff = pick(r, [2]uint32{0, 30}, [2]uint32{300, 1}, [2]uint32{60, 7}, [2]uint32{10, 10}), r.IntN(8) == 0
		case 8:
			s.within = pick(r, modelWithins...)
		case 9:
			s.dryRun, s.whatever = r.IntN(4) == 0, pick(r, "", "warmup 1m", "select client", "weight 9 10.0.0.1/32")
		case 10:
			c[0].checks = pick(r, []string{"tcp://:80"}, []string{modelWeigher})
			c[1].checks = pick(r, []string{"tcp://:80"}, []string{"tcp://:80", "tcp://:81"}, []string{"tcp://:81"}, []string{modelWeigher}, []string{modelWeigher, "tcp://:81"})
		case 11, 12:
			s.whatever, s.minUp, s.dryRun = modelNearest, pick(r, "1", "2", "50%", "100%"), false
		}
	}
	return c
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// stanzaOf returns the stanza that judges a name, or nil.
func (c *modelCorefile) stanzaOf(name string) *modelStanza {
	for i := range c {
		if strings.HasSuffix(name, "."+c[i].zone+".") && !strings.HasPrefix(name, "static.") {
			return &c[i]
		}
	}
	return nil
}

// covers reports whether an address may be probed.
func (s *modelStanza) covers(a netip.Addr) bool {
	return len(s.within) == 0 || slices.ContainsFunc(s.within, func(n netip.Prefix) bool { return n.Contains(a) })
}

// belief is what the rules say about a target (B51, B52).
type belief struct {
	state       verdict.State
	fails, hits int    // failures that add up while not down, and consecutive successes
	since       int64  // in milliseconds
	held        uint32 // at the pace before the last reload, in seconds, until a probe replaces it
	shed        uint8  // how many per cent of its weight the backend does not want, as it said last (B101)
}

// after returns the belief after a probe. A good answer says how much of its weight the backend does not want.
func (b belief) after(p verdict.Pace, ok bool, shed uint8, now time.Time) belief {
	b.held = 0
	if ok {
		b.shed = shed
	}
	switch {
	case !ok && b.state == verdict.Down:
		b.hits = 0
	case !ok:
		b.fails, b.hits = b.fails+1, 0
		if b.fails == p.Fall {
			return belief{state: verdict.Down, since: now.UnixMilli(), shed: b.shed}
		}
	case b.state == verdict.Unknown || b.state == verdict.Down && b.hits+1 == p.Rise:
		return belief{state: verdict.Up, since: now.UnixMilli(), shed: b.shed}
	case b.state == verdict.Down || b.fails > 0:
		b.hits++
		if b.state == verdict.Up && b.hits == p.Rise {
			b.fails, b.hits = 0, 0
		}
	}
	return b
}

// promised reports whether that belief is still allowed for a target that has been alive, or not, for that long
// (B54).
func (b belief) promised(p verdict.Pace, alive bool, long time.Duration) bool {
	if alive {
		return b.state != verdict.Down || long <= p.Interval+time.Duration(p.Rise-1)*p.Fast+p.Timeout
	}
	return b.state == verdict.Down || long <= p.Interval+time.Duration(p.Fall-1)*max(p.Fast, p.Timeout)+p.Timeout
}

// doubted reports whether the state may be about to change.
func (b belief) doubted() bool { return b.state == verdict.Unknown || b.fails+b.hits > 0 }

// wait returns the time from one probe to the next, without the random reduction (B53, B86).
func (b belief) wait(p verdict.Pace) time.Duration {
	switch {
	case b.state == verdict.Unknown:
		return max(p.Fast/4, 100*time.Millisecond)
	case b.doubted():
		return p.Fast
	}
	return p.Interval
}

// holds returns for how many seconds after the last probe the belief certainly holds (B29).
func (b belief) holds(p verdict.Pace) uint32 {
	further := map[verdict.State]int{verdict.Up: p.Fall - b.fails - 1, verdict.Down: p.Rise - b.hits - 1}[b.state]
	return max(b.held, uint32(jittered(b.wait(p)+time.Duration(further)*p.Fast)/time.Second))
}

// jittered returns the least that the random reduction leaves of a wait.
func jittered(wait time.Duration) time.Duration { return wait - wait/10 }

// beliefs holds everything that may be believed of a target.
type beliefs map[belief]bool

func believing(b ...belief) beliefs {
	s := make(beliefs)
	for _, b := range b {
		s[b] = true
	}
	return s
}

// resumed returns the beliefs at one pace, without their streaks, for another pace.
func (s beliefs) resumed(p verdict.Pace) beliefs {
	next := make(beliefs)
	for b := range s {
		if gapHolds {
			b.held = b.holds(p)
		}
		b.fails, b.hits = 0, 0
		next[b] = true
	}
	return next
}

func (s beliefs) or(more beliefs) beliefs {
	s = maps.Clone(s)
	maps.Copy(s, more)
	return s
}

// modelKey identifies a target: the pace is part of a check.
type modelKey struct {
	check string
	pace  verdict.Pace
	addr  netip.Addr
}

// modelTarget is a target that may be watched.
type modelTarget struct {
	may     beliefs
	asked   map[string]time.Time // when a query in the zone last asked for it
	kept    time.Time            // when it was last asked for, or taken over by a reload
	watched time.Time            // when probing certainly began; zero while it is not probed yet
	life    int                  // counts the possible times that it was forgotten
	doubted bool                 // it may not be watched at all

	// These are for the current life:
	last   time.Time // start of the last probe
	spread bool      // it had the one wait that may be shorter, which spreads targets
	under  int       // probes under way
	strays bool      // a zone that asked for it had another check or pace since
	rested bool      // it was idle when the last query asked for it, and was not probed since
}

// idle returns how long ago the last query asked for it.
func (t *modelTarget) idle(now time.Time) time.Duration {
	last := time.Time{}
	for _, at := range t.asked {
		last = later(last, at)
	}
	return now.Sub(last)
}

// mayBeWatched reports whether it may still be watched.
func (t *modelTarget) mayBeWatched(now time.Time) bool {
	return now.Sub(t.kept) <= idlesFor+forgetsFor+modelSlack
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A target that no query asks for is idle after keepsFor, and forgotten after idlesFor, up to two checks of a minute each
// earlier or later (B62, B84).
const (
	keepsFor    = 15 * time.Minute
	idlesFor    = keepsFor + 24*time.Hour
	forgetsFor  = 2 * time.Minute
	modelSlack  = time.Millisecond
	modelTries  = 4 // runs of one sequence, because the plugin makes random choices
	modelLength = 60
	modelSeeds  = 200
)

// These are the known gaps between the plugin and the rules. If one is false, the model shows that gap.
const (
	// gapShared: a target that two stanzas share belongs to one of them. If the pace of the other stanza is edited,
	// that stanza begins with unknown.
	gapShared = true
	// gapHeld: a stanza that changes to a pace that another stanza already has does not take over the other's
	// verdicts.
	gapHeld = true
	// gapHolds: how long a verdict holds is computed from the old pace until the first probe at the new one.
	gapHolds = true
	// gapFailed: after a reload that fails, the pool remembers what was believed when the reload began.
	gapFailed = true
)

// modelMemory is what may be remembered of a forgotten target.
type modelMemory struct {
	may   beliefs
	until time.Time
}

// modelLife is the condition of a backend.
type modelLife struct {
	how   string // alive, or refuses or drops what it is sent
	since time.Time
	shed  uint8 // what it reports
}

// model is the world of one sequence, and what follows from it by the rules.
type model struct {
	mu       sync.Mutex
	began    time.Time
	lives    map[netip.AddrPort]modelLife
	corefile modelCorefile   // the Corefiles of the servers that run
	running  []modelCorefile // the same, and those that a reload is about to end
	targets  map[modelKey]*modelTarget
	memories map[modelKey][]modelMemory // by the key without a pace
	wrong    error                      // the first probe that was not allowed
	trace    []string
}

func newModel() *model {
	m := &model{began: time.Now(), lives: make(map[netip.AddrPort]modelLife)}
	for _, b := range modelBackends {
		m.lives[b] = modelLife{"alive", m.began, 0}
	}
	m.forgetAll()
	return m
}

func (m *model) forgetAll() {
	m.targets, m.memories = make(map[modelKey]*modelTarget), make(map[modelKey][]modelMemory)
}

// modelProber is a check that the model's world answers.
type modelProber struct {
	m     *model
	check string
	pace  verdict.Pace
}

// Probe is called by the pool.
func (p modelProber) Probe(ctx context.Context, a netip.AddrPort) error {
	t, life, l := p.m.begins(p, a)
	var err error
	switch l.how {
	case "refuses":
		err = pooltest.ErrRefused
	case "swallows":
		<-ctx.Done()
		if err = ctx.Err(); errors.Is(err, context.Canceled) {
			return check.ErrAbstain
		}
	}
	shed := uint8(0)
	if to := check.Reported(ctx); to != nil && err == nil {
		to.HasWeight, to.Weight, shed = true, 100-l.shed, l.shed
	}
	p.m.ends(t, life, p.pace, err == nil, shed)
	return err
}

// begins records the start of a probe. The rules must allow it (B60, B62, B69), and it must not be sooner than the
// pace (B53, B65).
func (m *model) begins(p modelProber, a netip.AddrPort) (*modelTarget, int, modelLife) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, k := time.Now(), modelKey{p.check, p.pace, a.Addr()}
	t := m.targets[k]
	if t == nil {
		m.fault(p, a, "no query asked for it")
		return nil, 0, m.lives[a]
	}
	if !m.covered(k) {
		m.fault(p, a, "no stanza covers it")
	}
	if !t.mayBeWatched(now) {
		m.fault(p, a, "the last query for it was %s ago", now.Sub(t.kept))
	}
	if t.under++; t.under > 1 {
		m.fault(p, a, "another probe is under way")
	}
	if !t.last.IsZero() {
		least, most := p.pace.Interval, p.pace.Timeout
		for b := range t.may {
			least, most = min(least, jittered(b.wait(p.pace))), max(most, b.wait(p.pace))
			if m.crowded() {
				least = min(least, jittered(p.pace.Fast))
			}
			if t.rested || t.idle(now) > keepsFor-forgetsFor {
				most = max(most, p.pace.Idle())
			}
		}
		if gap := now.Sub(t.last); gap < least && t.spread {
			m.fault(p, a, "%s after the last time, want %s", gap, least)
		} else if gap > most+modelSlack && !m.strayed(k, t, now) {
			m.fault(p, a, "%s after the last time, want %s at most", gap, most)
		} else if gap < least {
			t.spread = true
		}
	}
	t.last, t.doubted, t.rested = now, false, false
	return t, t.life, m.lives[a]
}

// strayed reports whether a target may have been forgotten although its names are quiet, because a reload gave a zone that
// asked for it another check or pace: its sets are looked at without it (B85).
func (m *model) strayed(k modelKey, t *modelTarget, now time.Time) bool {
	return (t.idle(now) > keepsFor-forgetsFor || t.rested) && (t.strays || m.strays(k, t))
}

// strays reports whether a zone that asked for a target has another check or pace now.
func (m *model) strays(k modelKey, t *modelTarget) bool {
	for zone := range t.asked {
		if s := m.corefile.stanzaOf("x." + zone + "."); s == nil || s.pace != k.pace || !slices.Contains(s.checks, k.check) || !s.covers(k.addr) {
			return true
		}
	}
	return false
}

// crowded reports whether so many targets may be watched that their silence can be taken for a fault of the network: then
// failures may have no effect, or be forgotten (B56).
func (m *model) crowded() bool { return len(m.targets) >= 16 }

// ends records the result of a probe.
func (m *model) ends(t *modelTarget, life int, pace verdict.Pace, ok bool, shed uint8) {
	if t == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(beliefs)
	for b := range t.may {
		next[b.after(pace, ok, shed, time.Now())] = true
		if !ok && m.crowded() {
			next[b] = true
			next[belief{state: b.state, since: b.since, shed: b.shed}] = true
		}
	}
	if life == t.life {
		t.under--
		t.may = next
	} else { // it may be too late for a target that was forgotten and added again
		t.may = t.may.or(next)
	}
}

func (m *model) fault(p modelProber, a netip.AddrPort, format string, args ...any) {
	if m.wrong == nil {
		m.wrong = fmt.Errorf("at %s %s is probed by %s %s: %s", time.Since(m.began), a, p.check, p.pace, fmt.Sprintf(format, args...))
	}
}

// covered reports whether a running stanza has the check and may probe the address.
func (m *model) covered(k modelKey) bool {
	for _, c := range m.running {
		for i := range c {
			if s := &c[i]; s.pace == k.pace && slices.Contains(s.checks, k.check) && s.covers(k.addr) {
				return true
			}
		}
	}
	return false
}

// promises compares the beliefs, which follow from the probes, with the promised times.
func (m *model) promises() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for k, t := range m.targets {
		port := uint16(80)
		if k.check == "tcp://:81" {
			port = 81
		}
		l := m.lives[netip.AddrPortFrom(k.addr, port)]
		if t.watched.IsZero() || t.idle(now) > keepsFor || t.doubted || m.crowded() {
			continue
		}
		long, kept := now.Sub(later(l.since, t.watched))-modelSlack, false
		for b := range t.may {
			kept = kept || b.promised(k.pace, l.how == "alive", long)
		}
		if !kept {
			return fmt.Errorf("%s has been %s for %s, and by %s %s is believed to be %v", k.addr, l.how, long, k.check, k.pace, t.may)
		}
	}
	return m.wrong
}

// recall returns what may be remembered of a target, or nothing.
func (m *model) recall(k modelKey, now time.Time) beliefs {
	may := make(beliefs)
	for _, x := range m.memories[modelKey{check: k.check, addr: k.addr}] {
		if now.Before(x.until) {
			maps.Copy(may, x.may)
		} else {
			may[belief{}] = true
		}
	}
	for other, t := range m.targets { // at another pace, which may have been forgotten
		if k != other && k.check == other.check && k.addr == other.addr && t.idle(now) > idlesFor && t.mayBeWatched(now.Add(-2*other.pace.Interval)) {
			maps.Copy(may, t.may.resumed(other.pace))
			may[belief{}] = true
		}
	}
	return may
}

// forget removes a target that no stanza covers any more. The target is remembered for two intervals.
func (m *model) forget(k modelKey, t *modelTarget, now time.Time) {
	may := t.may.resumed(k.pace)
	if t.idle(now) > idlesFor {
		may[belief{}] = true
	}
	m.remember(k, may, now.Add(2*k.pace.Interval))
	delete(m.targets, k)
}

func (m *model) remember(k modelKey, may beliefs, until time.Time) {
	bare := modelKey{check: k.check, addr: k.addr}
	m.memories[bare] = append(m.memories[bare], modelMemory{may, until})
}

// ask records a query that asks for a target (B59, B62).
func (m *model) ask(k modelKey, zone string, now time.Time) {
	t := m.targets[k]
	if t == nil {
		t = &modelTarget{may: m.recall(k, now), asked: make(map[string]time.Time), watched: now}
		if len(t.may) == 0 {
			t.may = believing(belief{})
		}
		m.targets[k] = t
	} else if idle := t.idle(now); idle > idlesFor || t.doubted || m.strayed(k, t, now) {
		remembered := 2 * k.pace.Interval
		may := m.recall(k, now).or(t.may.resumed(k.pace))
		if t.mayBeWatched(now) {
			may = may.or(t.may)
		}
		if idle > idlesFor+remembered || t.doubted || m.strayed(k, t, now) {
			may[belief{}] = true
		}
		if !t.mayBeWatched(now.Add(-remembered)) {
			may = believing(belief{}).or(m.recall(k, now))
		}
		m.remember(k, t.may.resumed(k.pace).or(believing(belief{})), t.kept.Add(idlesFor+forgetsFor+remembered))
		*t = modelTarget{may: may, asked: t.asked, watched: now, life: t.life + 1}
	} else if idle > keepsFor-forgetsFor {
		t.watched, t.rested = now, true // it was idle: what is promised counts from now on
	}
	t.asked[zone], t.kept = now, now
}

// joins carries what the stanzas of a Corefile believed at the old paces over to the new ones (B69).
func (m *model) joins(c modelCorefile) {
	now, old := time.Now(), maps.Clone(m.targets)
	for i := range c {
		s := &c[i]
		for k, t := range old {
			if m.corefile[i].pace != k.pace || !slices.Contains(m.corefile[i].checks, k.check) || !slices.Contains(s.checks, k.check) || !s.covers(k.addr) {
				continue
			}
			before := k.pace
			if k.pace = s.pace; old[k] == nil {
				heir := t.heir(before, s.zone, now)
				heir.doubted = heir.doubted || gapShared && (len(t.asked) > 1 || m.holders(modelKey{k.check, before, k.addr}) > 1) || gapHeld && m.holders(k) > 0
				if other := m.targets[k]; other != nil { // two stanzas change to this pace
					heir.may, heir.doubted = heir.may.or(other.may), heir.doubted && other.doubted
					maps.Copy(heir.asked, other.asked)
				}
				m.targets[k] = heir
			}
		}
	}
}

// heir returns the target at another pace, for a zone.
func (t *modelTarget) heir(p verdict.Pace, zone string, now time.Time) *modelTarget {
	h := &modelTarget{may: t.may.resumed(p), kept: now, doubted: t.doubted || t.idle(now) > keepsFor, strays: t.strays}
	at, asked := t.asked[zone]
	if !asked || now.Sub(at) > keepsFor {
		at, h.doubted = now.Add(-t.idle(now)), true
	}
	h.asked = map[string]time.Time{zone: at}
	return h
}

// holders counts the stanzas that already have the check at that pace.
func (m *model) holders(k modelKey) (n int) {
	for _, s := range m.corefile {
		if s.pace == k.pace && slices.Contains(s.checks, k.check) {
			n++
		}
	}
	return n
}

// runs sets which Corefiles have servers. What none of them covers is forgotten.
func (m *model) runs(corefiles ...modelCorefile) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.running, m.corefile = corefiles, corefiles[len(corefiles)-1]
	for k, t := range m.targets {
		t.strays = t.strays || m.strays(k, t)
		if !m.covered(k) {
			m.forget(k, t, now)
		} else if t.watched.IsZero() {
			t.watched = now
		}
	}
}

// modelCandidate is an address of a set, with what may be believed of it.
type modelCandidate struct {
	addr      netip.Addr
	ttl       uint32
	backup    int   // its rank, 0 for a primary
	place     int64 // how near it is to the client; 0 if that does not count
	unchecked bool
	down      bool
	drained   bool   // a check reports a weight of 0, and none is down
	since     int64  // when it went down
	holds     uint32 // for so many seconds after the last probe it certainly stays
}

func (c modelCandidate) String() string {
	return fmt.Sprintf("%s (down %t drained %t since %d, holds %ds, unchecked %t, backup %d, place %d)", c.addr, c.down, c.drained, c.since, c.holds, c.unchecked, c.backup, c.place)
}

// look lists what may be believed of an address. The address is down if one of its checks is down (B45).
func (m *model) look(s *modelStanza, c modelCandidate, now time.Time) []modelCandidate {
	c.unchecked = !s.covers(c.addr)
	all := []modelCandidate{c}
	if c.unchecked {
		return all
	}
	for i, check := range s.checks {
		k := modelKey{check, s.pace, c.addr}
		may := believing(belief{})
		if t := m.targets[k]; t != nil && t.idle(now) <= idlesFor && !t.doubted && !m.strayed(k, t, now) {
			may = t.may
		} else if t != nil && t.mayBeWatched(now) {
			may = may.or(t.may)
		}
		var next []modelCandidate
		for _, c := range all {
			for b := range may {
				n := c.and(b, s.pace, i == 0)
				n.drained = !n.down && (c.drained || b.shed == 100)
				if !slices.Contains(next, n) {
					next = append(next, n)
				}
			}
		}
		all = next
	}
	return all
}

// and adds the result of one more check.
func (c modelCandidate) and(b belief, p verdict.Pace, first bool) modelCandidate {
	holds, down := b.holds(p), b.state == verdict.Down
	switch {
	case first || down && !c.down:
		c.down, c.holds, c.since = down, holds, b.since
	case down:
		c.since, c.holds = min(c.since, b.since), max(c.holds, holds)
	case !c.down:
		c.holds = min(c.holds, holds)
	}
	return c
}

// rank returns the tier of a candidate: healthy primaries, healthy backups by their ranks, drained ones, and then the ones that
// were up last (B10, B11, B26, B99, B101). In a tier, what is nearer comes first (B96).
func (c modelCandidate) rank() int64 {
	switch {
	case c.down:
		return 1<<62 - c.since
	case c.drained:
		return 100
	}
	return int64(c.backup)*10 + c.place
}

// placeOf is how near an address is to the client, by modelSites.
func (s *modelStanza) placeOf(addr netip.Addr) int64 {
	switch {
	case s.whatever != modelNearest || netip.MustParsePrefix("10.0.0.2/31").Contains(addr) || addr == netip.MustParseAddr("2001:db8::2"):
		return 0
	case addr == netip.MustParseAddr("10.0.0.1"):
		return 1
	}
	return 2
}

// near returns how many of so many healthy candidates of a tier the client gets, and the place of the last: whole sites, until
// there are as many as min_up asks of its own site's members in the tier (B96).
func (s *modelStanza) near(set []modelCandidate, tier, limit int) (n int, last int64) {
	own, fit := 0, [3]int{}
	for _, c := range set {
		if c.backup == tier && c.place == 0 && !c.drained {
			own++
		}
		if c.backup == tier && !c.down && !c.drained {
			fit[c.place]++
		}
	}
	for place, count := range fit {
		if n, last = n+count, int64(place); n >= min(limit, max(1, s.quorum(own))) {
			break
		}
	}
	return n, last
}

// permits reports what is wrong with a reply, given these candidates.
func (s *modelStanza) permits(set []modelCandidate, other *takeover, reply *dns.Msg, code int, soa bool) error {
	if !slices.ContainsFunc(set, func(c modelCandidate) bool { return !c.drained }) {
		for i := range set { // there must be something to serve first
			set[i].drained = false
		}
	}
	primaries, fit := 0, [11]int{}
	for _, c := range set {
		if c.backup == 0 && !c.drained {
			primaries++
		}
		switch {
		case c.drained:
			fit[10]++
		case !c.down:
			fit[c.backup]++
		}
	}
	if fit == [11]int{} && s.another() != "" {
		return other.permits(s, set, reply, code, soa)
	}
	if fit == [11]int{} && s.allDown != "serve" {
		return s.closed(set, reply, code, soa)
	}
	limit, least := s.limit, max(1, s.quorum(primaries))
	if limit == 0 {
		limit = len(set)
	}
	n, deepest := len(set), int64(1<<62)
	least = min(least, limit)
	sum := 0
	for r, count := range fit {
		if sum+count >= least && r == 10 { // drained ones are not chosen by site
			n, deepest = sum+count, 100
			break
		}
		if sum+count >= least {
			near, last := s.near(set, r, limit)
			n, deepest = sum+near, int64(r)*10+last
			break
		}
		sum += count
	}
	got, err := replied(reply, code)
	if err != nil {
		return err
	}
	if len(got) != min(n, limit) {
		return fmt.Errorf("%d addresses, want %d", len(got), min(n, limit))
	}
	var out []modelCandidate
	worst, best := int64(-1), int64(1<<62)
	for _, c := range set {
		if _, ok := got[c.addr]; ok {
			out, worst = append(out, c), max(worst, c.rank())
		} else {
			best = min(best, c.rank())
		}
	}
	if len(out) != len(got) || worst > deepest || worst > best {
		return errors.New("the answer does not have the best addresses")
	}
	if err := s.inOrder(set, reply, n, limit); err != nil {
		return err
	}
	return s.lasts(out, got, s.bound(out))
}

// inOrder reports what is wrong with the order of a reply, if n addresses would be served without the limit. Better tiers come
// first. What is served whole keeps its order, unless a property draws that (B3, B7, B93).
func (s *modelStanza) inOrder(set []modelCandidate, reply *dns.Msg, n, limit int) error {
	drawn, last, lastTier := s.whatever != "" || slices.Contains(s.checks, modelWeigher), -1, int64(-1)
	for _, rr := range reply.Answer {
		a, _ := answer.Address(rr)
		at := slices.IndexFunc(set, func(c modelCandidate) bool { return c.addr == a })
		tier := min(set[at].rank(), 1000) // all that are down are in one
		switch whole := n == len(set); {
		case tier < lastTier && (drawn || !whole):
			return fmt.Errorf("%s comes after worse ones", a)
		case !drawn && n <= limit && at < last && (whole || tier == lastTier):
			return fmt.Errorf("%s is not in its place, and nothing draws the order", a)
		}
		last, lastTier = at, tier
	}
	return nil
}

// quorum returns min_up for a number of primaries.
func (s *modelStanza) quorum(primaries int) int {
	share, isShare := strings.CutSuffix(s.minUp, "%")
	n, _ := strconv.Atoi(share)
	if isShare {
		return (n*primaries + 99) / 100
	}
	return min(n, primaries)
}

// bound returns the highest TTL that these beliefs allow (B29, B30).
func (s *modelStanza) bound(set []modelCandidate) uint32 {
	bound := uint32(1 << 31)
	if s.ttlOff {
		return bound
	}
	if s.ttl[0] > 0 {
		bound = s.ttl[0]
	}
	for _, c := range set {
		if !c.unchecked {
			bound = min(bound, max(s.ttl[1], c.holds))
		}
	}
	return bound
}

// lasts reports what is wrong with the TTLs of a reply.
func (s *modelStanza) lasts(set []modelCandidate, got map[netip.Addr]uint32, bound uint32) error {
	for _, c := range set {
		least := min(c.ttl, s.ttl[1])
		if s.ttlOff {
			least = c.ttl
		}
		if s.floor {
			least = min(least, 1)
		}
		if ttl := got[c.addr]; ttl > min(c.ttl, bound) || ttl < least {
			return fmt.Errorf("TTL %d of %s, want at most %d and at least %d", ttl, c.addr, min(c.ttl, bound), least)
		}
	}
	return nil
}

// replied lists the addresses of a reply, with their TTLs.
func replied(reply *dns.Msg, code int) (map[netip.Addr]uint32, error) {
	if reply == nil || code != dns.RcodeSuccess || reply.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("code %d", code)
	}
	got := make(map[netip.Addr]uint32)
	for _, rr := range reply.Answer {
		a, _ := answer.Address(rr)
		if _, twice := got[a]; twice {
			return nil, fmt.Errorf("duplicate address %s", a)
		}
		got[a] = rr.Header().Ttl
	}
	return got, nil
}

// closed reports what is wrong with the reply if no address is healthy (B8, B9, B31).
func (s *modelStanza) closed(set []modelCandidate, reply *dns.Msg, code int, soa bool) error {
	if s.allDown == "servfail" {
		if reply != nil || code != dns.RcodeServerFailure {
			return errors.New("want SERVFAIL")
		}
		return nil
	}
	got, err := replied(reply, code)
	if err != nil {
		return err
	}
	bound, instead := s.bound(set), []modelCandidate(nil)
	for _, c := range set {
		bound = min(bound, c.ttl)
	}
	for _, word := range strings.Fields(s.allDown) {
		if a, err := netip.ParseAddr(word); err == nil && a.Is4() == set[0].addr.Is4() {
			instead = append(instead, modelCandidate{addr: a, ttl: bound})
		}
	}
	for _, c := range instead {
		if _, ok := got[c.addr]; !ok {
			return fmt.Errorf("want %s", c.addr)
		}
	}
	if len(got) != len(instead) {
		return fmt.Errorf("%d addresses, want %d", len(got), len(instead))
	}
	if len(instead) > 0 {
		return s.lasts(instead, got, bound)
	}
	if len(reply.Ns) > 1 || len(reply.Ns) == 0 && soa {
		return fmt.Errorf("authority %v", reply.Ns)
	}
	for _, rr := range reply.Ns {
		if x, ok := rr.(*dns.SOA); !ok || x.Hdr.Ttl > bound || x.Minttl > bound {
			return fmt.Errorf("authority %v, want an SOA record with a TTL of at most %d", rr, bound)
		}
	}
	return nil
}

// another is the name that takes over if nothing is healthy, with a dot at its end; empty for none (B102).
func (s *modelStanza) another() string {
	if !strings.HasSuffix(s.allDown, ".org") {
		return ""
	}
	return s.allDown + "."
}

// lookedUp records that the plugin looked up a name that takes over, with which it looks at its addresses. Its own questions come from
// localhost over TCP.
func (m *model) lookedUp(q dns.Question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.running {
		c := &m.running[i]
		s := c.stanzaOf(q.Name)
		if s == nil || q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA {
			continue
		}
		for _, rr := range setOf(q) {
			a, _ := answer.Address(rr)
			for _, check := range s.checks {
				if s.covers(a) {
					m.ask(modelKey{check, s.pace, a}, s.zone, time.Now())
				}
			}
		}
	}
}

// setOf returns the records of the zone for a question.
func setOf(q dns.Question) (set []dns.RR) {
	for _, rr := range modelZone {
		if rr.Header().Name == q.Name && rr.Header().Rrtype == q.Qtype {
			set = append(set, rr)
		}
	}
	return set
}

// takeover is what may be believed of the name that takes over from a set, and which stanza judges it.
type takeover struct {
	set     []dns.RR // in the family of the set
	other   bool     // it has addresses in the other family
	by      *modelStanza
	all     []modelCandidate
	choices [][]modelCandidate
	early   bool // it may not have been looked up yet
}

// fallback returns what may take over from a set, nil if nothing may.
func (r *modelRun) fallback(s *modelStanza, q dns.Question, now time.Time) *takeover {
	name := s.another()
	if name == "" || name == q.Name {
		return nil
	}
	x := &takeover{set: setOf(dns.Question{Name: name, Qtype: q.Qtype}), by: r.server.corefile.stanzaOf(name), early: now.Sub(r.server.began) < 3*time.Second}
	x.other = len(setOf(dns.Question{Name: name, Qtype: dns.TypeA + dns.TypeAAAA - q.Qtype})) > 0
	plain := &modelStanza{limit: s.limit, minUp: "1", ttlOff: true, whatever: s.whatever, within: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	if x.by == nil && len(s.within) > 0 && !strings.HasPrefix(name, "static.") {
		x.by = s
	}
	if x.by == nil || x.by.dryRun {
		x.by = plain
	} else {
		limited := *x.by
		if s.limit > 0 && (limited.limit == 0 || s.limit < limited.limit) {
			limited.limit = s.limit
		}
		x.by = &limited
	}
	x.all = x.by.candidates(x.set)
	for _, c := range x.all {
		x.choices = append(x.choices, r.look(x.by, c, now))
		for _, check := range x.by.checks {
			if x.by.covers(c.addr) {
				r.ask(modelKey{check, x.by.pace, c.addr}, x.by.zone, now)
			}
		}
	}
	return x
}

// permits reports what is wrong with the reply of a set of which nothing is healthy (B102).
func (x *takeover) permits(s *modelStanza, set []modelCandidate, reply *dns.Msg, code int, soa bool) error {
	open := *s
	open.allDown = "serve"
	asServe := func() error { return open.permits(set, nil, reply, code, soa) }
	if x == nil || len(x.set) == 0 && !x.other {
		return asServe()
	}
	if x.early && asServe() == nil {
		return nil
	}
	bound := s.bound(set)
	for _, c := range set {
		bound = min(bound, c.ttl)
	}
	if len(x.set) == 0 {
		denying := *s
		denying.allDown = "nodata"
		return denying.closed(set, reply, code, soa)
	}
	return anyOf(x.choices, nil, func(others []modelCandidate) error {
		if !slices.ContainsFunc(others, func(c modelCandidate) bool { return !c.down }) {
			return asServe()
		}
		for i := range others {
			for _, rr := range x.set {
				others[i].ttl = min(others[i].ttl, bound, rr.Header().Ttl)
			}
		}
		by := *x.by
		by.allDown, by.floor = "serve", true
		return by.permits(others, nil, reply, code, soa)
	})
}

// modelServer is a running server block of a Corefile.
type modelServer struct {
	corefile modelCorefile
	began    time.Time // when it could look names up
	g        *generation
	h        Multivalue
	denied   map[string]time.Time // names that may have needed an SOA record
}

// modelRun is one sequence in progress.
type modelRun struct {
	*model
	t      *testing.T
	p      *process
	next   plugin.Handler
	server *modelServer
}

// load makes a server from a Corefile. The server joins the pool.
func (r *modelRun) load(c modelCorefile) *modelServer {
	configs, err := parseCorefile(c.String())
	if err != nil {
		panic(fmt.Sprintf("%v in\n%s", err, c))
	}
	var stanzas []*stanza
	for i, config := range configs {
		left := c[i].checks
		answered := func(x *check.Check) pool.CheckSpec {
			p := modelProber{r.model, left[0], c[i].pace}
			left = left[1:]
			return pool.NewCheckSpec(x).WithProber(p)
		}
		s := rules.NewStanza(config, answered)
		if config.Policy.Nearest {
			sites, err := topology.Parse([]byte(modelSites))
			if err != nil {
				panic(err)
			}
			s.Topology = topology.Static(sites)
		}
		stanzas = append(stanzas, &stanza{s, config})
	}
	g, b := blockOf(r.p, r.next, stanzas...)
	if err := r.p.join(g); err != nil {
		panic(err)
	}
	return &modelServer{c, time.Now(), g, Multivalue{Next: r.next, block: b, process: r.p}, make(map[string]time.Time)}
}

// query sends a query and judges the reply.
func (r *modelRun) query(q dns.Question) error {
	judge := r.expect(q, setOf(q))
	reply, code := serve(r.t, r.server.h, query(q.Name, q.Qtype))
	got := fmt.Sprintf("code %d", code)
	if reply != nil {
		got = strings.ReplaceAll(fmt.Sprint(reply.Answer, reply.Ns), "\t", " ")
	}
	r.trace = append(r.trace, "    "+got)
	return judge(reply, code)
}

// learnMeanwhile adds what may be believed now to what was before a query. A probe may start at the instant of the query, early beside
// those of targets that the query has added, and its result may come before the query is judged.
func (r *modelRun) learnMeanwhile(s *modelStanza, all []modelCandidate, may [][]modelCandidate, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range all {
		for _, n := range r.look(s, c, now) {
			if !slices.Contains(may[i], n) {
				may[i] = append(may[i], n)
			}
		}
	}
}

// expect records a query, and returns the function that judges the reply.
func (r *modelRun) expect(q dns.Question, set []dns.RR) func(*dns.Msg, int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, s := time.Now(), r.server.corefile.stanzaOf(q.Name)
	whole := func(reply *dns.Msg, code int) error {
		if reply == nil || fmt.Sprint(reply.Answer) != fmt.Sprint(set) {
			return fmt.Errorf("want the unchanged set")
		}
		return nil
	}
	if s == nil {
		return whole
	}
	denied, before := r.server.denied[q.Name]
	soa := before && now.Sub(denied) < keepsFor-time.Minute
	if s.allDown != "serve" && s.allDown != "servfail" {
		r.server.denied[q.Name] = now
	}
	all := s.candidates(set)
	if len(all) == 1 && s.allDown == "serve" { // its address is not looked up (B60a), so it is forgotten if it was watched before
		for k, t := range r.targets {
			t.strays = t.strays || k.addr == all[0].addr
		}
		return whole
	}
	var may [][]modelCandidate
	for _, c := range all {
		may = append(may, r.look(s, c, now))
	}
	for _, c := range all {
		for _, check := range s.checks {
			if s.covers(c.addr) {
				r.ask(modelKey{check, s.pace, c.addr}, s.zone, now)
			}
		}
	}
	other := r.fallback(s, q, now)
	if s.dryRun {
		return whole
	}
	return func(reply *dns.Msg, code int) error {
		r.learnMeanwhile(s, all, may, now)
		if other != nil {
			r.learnMeanwhile(other.by, other.all, other.choices, now)
		}
		return anyOf(may, nil, func(set []modelCandidate) error { return s.permits(slices.Clone(set), other, reply, code, soa) })
	}
}

// candidates returns the different addresses of a set (B22).
func (s *modelStanza) candidates(set []dns.RR) (all []modelCandidate) {
	lowest := 9
	for _, rr := range set {
		c := modelCandidate{ttl: rr.Header().Ttl}
		c.addr, _ = answer.Address(rr)
		if slices.ContainsFunc(all, func(other modelCandidate) bool { return other.addr == c.addr }) {
			continue
		}
		c.backup, c.place = s.rankOf(c.addr), s.placeOf(c.addr)
		lowest = min(lowest, c.backup)
		all = append(all, c)
	}
	for i := range all {
		if all[i].backup == lowest {
			all[i].backup = 0
		}
	}
	return all
}

// rankOf is the rank of an address by the smallest network of a backup line that holds it (B99).
func (s *modelStanza) rankOf(addr netip.Addr) (rank int) {
	bits := -1
	for line := range strings.SplitSeq(s.backup, ";") {
		of := 1
		for _, word := range strings.Fields(line) {
			if n, err := strconv.Atoi(word); err == nil {
				of = n
			} else if p := netip.MustParsePrefix(word); p.Contains(addr) && p.Bits() > bits {
				rank, bits = of, p.Bits()
			}
		}
	}
	return rank
}

// anyOf returns nil if f returns nil for at least one combination of the choices, else the last error.
func anyOf(choices [][]modelCandidate, taken []modelCandidate, f func([]modelCandidate) error) (err error) {
	if len(taken) == len(choices) {
		if err = f(taken); err != nil {
			err = fmt.Errorf("%w, if %v", err, taken)
		}
		return err
	}
	for _, c := range choices[len(taken)] {
		if err = anyOf(choices, append(slices.Clip(taken), c), f); err == nil {
			return nil
		}
	}
	return err
}

// modelStep is one event. The meaning of n depends on the kind of event.
type modelStep struct {
	what string
	n    int
	wait time.Duration
}

// modelSteps draws a sequence.
func modelSteps(seed uint64) (steps []modelStep) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range modelLength {
		s := modelStep{n: r.IntN(1 << 20)}
		switch x := r.IntN(100); {
		case i < 2:
			s.what = "reload"
		case x < 45:
			s.what = "query"
		case x < 69:
			s.what, s.wait = "wait", time.Duration(1+r.Int64N(20e9))
		case x < 72:
			s.what, s.wait = "wait", time.Duration(60e9+r.Int64N(120e9))
		case x < 74:
			s.what, s.wait = "wait", time.Duration(14*60e9+r.Int64N(8*60e9)) // a long time without queries
		case x < 86:
			s.what = pick(r, "alive", "alive", "refuses", "refuses", "swallows", "sheds", "sheds", "sheds")
		case x < 97:
			s.what = "reload"
		case x < 99:
			s.what = "failed reload"
		default:
			s.what = "stop and start"
		}
		steps = append(steps, s)
	}
	return steps
}

// do runs a step.
func (r *modelRun) do(s modelStep) error {
	switch s.what {
	case "query":
		return r.query(r.say(s, modelSets[s.n%len(modelSets)]))
	case "wait":
		r.say(s, dns.Question{})
		pooltest.Elapse(s.wait)
	case "reload":
		r.reload(s)
	case "failed reload":
		r.fail(s)
	case "stop and start":
		r.say(s, dns.Question{})
		r.p.end(r.server.g)
		r.mu.Lock()
		r.forgetAll()
		r.mu.Unlock()
		r.server = r.load(r.corefile)
		r.p.confirm(r.server.g)
	default:
		r.live(s)
	}
	return nil
}

func (r *modelRun) say(s modelStep, q dns.Question) dns.Question {
	r.trace = append(r.trace, strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", time.Since(r.began), s.what, strings.Trim(q.String(), ";\t"), strings.TrimPrefix(s.wait.String(), "0s"))))
	return q
}

// live changes the condition of one backend, or of all backends of a set except perhaps one.
func (r *modelRun) live(s modelStep) {
	r.mu.Lock()
	defer r.mu.Unlock()
	spared := modelBackends[s.n%len(modelBackends)].Addr()
	chosen := []netip.AddrPort{modelBackends[s.n%len(modelBackends)]}
	if s.n%7 < 3 {
		chosen = nil
		q := modelSets[s.n/7%len(modelSets)]
		for _, rr := range modelZone {
			if a, _ := answer.Address(rr); rr.Header().Name == q.Name && rr.Header().Rrtype == q.Qtype && a != spared {
				chosen = append(chosen, netip.AddrPortFrom(a, 80))
			}
		}
	}
	r.trace = append(r.trace, fmt.Sprintf("%s: %s: %v", time.Since(r.began), s.what, chosen))
	for _, b := range chosen {
		old := r.lives[b]
		if s.what == "sheds" {
			old.shed = []uint8{0, 50, 100, 100}[s.n/11%4]
			r.lives[b] = old
			continue
		}
		if (old.how == "alive") != (s.what == "alive") {
			old.since = time.Now()
		}
		r.lives[b] = modelLife{s.what, old.since, old.shed}
	}
}

// reload changes to another Corefile, in one of the possible orders.
func (r *modelRun) reload(s modelStep) {
	old := r.server
	next := r.load(old.corefile.edit(s.n))
	r.trace = append(r.trace, fmt.Sprintf("%s: reload (%d) to %s", time.Since(r.began), s.n%4, next.corefile))
	r.mu.Lock()
	r.joins(next.corefile)
	r.mu.Unlock()
	switch s.n % 4 {
	case 0:
		r.p.end(old.g)
		r.p.confirm(next.g)
	case 1:
		r.p.confirm(next.g)
		r.runs(old.corefile, next.corefile)
		pooltest.Elapse(time.Second)
		r.p.end(old.g)
	case 2:
		pooltest.Elapse(time.Second)
		r.p.end(old.g)
		r.p.confirm(next.g)
	case 3:
		r.p.confirm(next.g)
		r.p.end(old.g)
	}
	r.runs(next.corefile)
	r.server = next
}

// fail runs a reload that fails. It should leave nothing behind (B70).
func (r *modelRun) fail(s modelStep) {
	next := r.load(r.corefile.edit(s.n))
	r.trace = append(r.trace, fmt.Sprintf("%s: failed reload to %s", time.Since(r.began), next.corefile))
	r.mu.Lock()
	before := maps.Clone(r.targets)
	r.joins(next.corefile)
	heirs := r.targets
	r.targets = before
	r.mu.Unlock()
	pooltest.Elapse(time.Duration(s.n % 5e3 * 1e6))
	r.p.abandon()
	for _, b := range next.g.blocks {
		b.Resolver.Close()
	}
	for k, t := range heirs {
		if gapFailed && before[k] == nil {
			r.remember(k, t.may.or(believing(belief{})), time.Now().Add(2*k.pace.Interval))
		}
	}
}

// runModel runs a sequence. It returns what went wrong, with all events before it.
func runModel(t *testing.T, steps []modelStep) (err error) {
	before := fmt.Sprint(modelZone)
	inBubble(t, func(t *testing.T, p *process, _ *pooltest.FakeNetwork) {
		r := &modelRun{model: newModel(), t: t, p: p}
		r.next = plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
			if _, ours := w.RemoteAddr().(*net.TCPAddr); ours {
				r.lookedUp(q.Question[0])
			}
			return zoneOf(modelZone...).ServeDNS(ctx, w, q)
		})
		r.server = r.load(modelStart())
		r.runs(r.server.corefile)
		p.confirm(r.server.g)
		for _, s := range steps {
			if err = r.do(s); err == nil {
				synctest.Wait()
				err = r.promises()
			}
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, strings.Join(r.trace, "\n"))
				return
			}
		}
	})
	if err == nil && fmt.Sprint(modelZone) != before {
		err = errors.New("the zone was changed")
	}
	return err
}

// shrink removes the steps of a failing sequence that are not needed to make it fail (delta debugging).
func shrink(steps []modelStep, fails func([]modelStep) bool) []modelStep {
	for size := len(steps) / 2; size > 0; {
		fewer := len(steps)
		for at := 0; at+size <= len(steps); {
			if without := slices.Concat(steps[:at], steps[at+size:]); fails(without) {
				steps = without
			} else {
				at += size
			}
		}
		if len(steps) == fewer || size > 1 {
			size /= 2
		}
	}
	return steps
}

// In any sequence of events, answers and probes follow the rules (B1 to B3, B8 to B13, B22, B23, B26, B29 to B31, B51
// to B54, B57, B60, B62, B65, B69, B70, B101; I10).
func TestModel(t *testing.T) {
	clock := uint64(time.Now().UnixNano())
	for seed := range uint64(modelSeeds + 1) {
		if seed == modelSeeds {
			seed = clock
		}
		steps := modelSteps(seed)
		err := runModel(t, steps)
		if err == nil {
			continue
		}
		steps = shrink(steps, func(fewer []modelStep) bool {
			for range modelTries {
				if e := runModel(t, fewer); e != nil {
					err = e
					return true
				}
			}
			return false
		})
		t.Fatalf("seed %d, with %d steps: %v", seed, len(steps), err)
	}
}
