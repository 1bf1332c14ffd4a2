package etcd

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// inPart are so many targets of one part.
func inPart(part uint8, n int) (all []fleet.Target) {
	for port := 1; len(all) < n; port++ {
		t := fleet.Target{Group: fleet.Group{1}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(port >> 16)}), uint16(port))}
		if partOf(t) == part {
			all = append(all, t)
		}
	}
	return all
}

// value is the value of a part with these votes.
func value(votes ...fleet.Vote) []byte {
	b := fleet.Batch{Max: maxPart}
	for _, v := range votes {
		b.Vote(v)
	}
	return bytes.Clone(b.Bytes())
}

// Only what makes a vote another one is told, and what is gone is told as withdrawn.
func TestDifferences(t *testing.T) {
	at := inPart(7, 5)
	before := value(
		fleet.Vote{Target: at[0], State: verdict.Up, Age: time.Hour, Holds: time.Minute},
		fleet.Vote{Target: at[1], State: verdict.Up},
		fleet.Vote{Target: at[2], State: verdict.Down, Reason: "refused"},
		fleet.Vote{Target: at[3], State: verdict.Up, Shed: 10},
	)
	after := value(
		fleet.Vote{Target: at[4], State: verdict.Up},
		fleet.Vote{Target: at[3], State: verdict.Up, Shed: 20},
		fleet.Vote{Target: at[2], State: verdict.Down, Reason: "timeout"},
		fleet.Vote{Target: at[0], State: verdict.Up, Age: 2 * time.Hour},
	)
	got := ""
	for _, v := range differences(before, after, 7) {
		got += fmt.Sprintf("%d%s%d%s ", slices.Index(at, v.Target), v.State, v.Shed, v.Reason)
	}
	if want := "4up0 3up20 2down0timeout 1unknown0 "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, v := range []fleet.Vote{{Target: at[0], State: verdict.Up, Doubt: 1}, {Target: at[0], State: verdict.Up, Drained: true}, {Target: at[0], State: verdict.Unchecked}} {
		if n := len(differences(value(fleet.Vote{Target: at[0], State: verdict.Up}), value(v), 7)); n != 1 {
			t.Errorf("%+v: %d", v, n)
		}
	}
	if got := differences(before, before, 7); len(got) > 0 {
		t.Errorf("with itself: %v", got)
	}
	if got := differences(before, []byte("garbage"), 7); len(got) != 4 {
		t.Errorf("garbage is not nothing: %v", got)
	}
	if got := differences(nil, after, 8); len(got) > 0 {
		t.Errorf("votes of another part count: %v", got)
	}
	if got := differences(nil, value(fleet.Vote{Target: at[0], State: verdict.Up}, fleet.Vote{Target: at[0], State: verdict.Down}), 7); len(got) != 1 || got[0].State != verdict.Down {
		t.Errorf("of two votes on one target, the last one counts: %v", got)
	}
}

// What is written again has its ages as of then, and nothing is written for votes that are as before.
func TestRevise(t *testing.T) {
	at, now := inPart(7, 3), time.Now()
	var p ownPart
	var answers []pendingVote
	answer := func(s pendingVote) { answers = append(answers, s) }
	say := func(v fleet.Vote, to string) (again bool) {
		p, again = p.revise(7, map[fleet.Target]pendingVote{v.Target: {v, now, to}}, now, answer)
		return again
	}
	up := fleet.Vote{Target: at[0], State: verdict.Up, Age: time.Hour, Holds: 10 * time.Second}
	if !say(up, "") || say(up, "") || say(up, "other") {
		t.Error("an equal vote is written, or a new one is not")
	}
	now = now.Add(2500 * time.Millisecond)
	if !say(fleet.Vote{Target: at[1], State: verdict.Down, Reason: "refused"}, "other") {
		t.Error("an answer that is news is not written")
	}
	now = now.Add(700 * time.Millisecond)
	if say(fleet.Vote{Target: at[2], State: verdict.Unchecked}, "other") || len(answers) != 1 || answers[0].to != "other" {
		t.Errorf("that it cannot be probed is written for all: %v", answers)
	}
	if !say(fleet.Vote{Target: at[1]}, "") || say(fleet.Vote{Target: at[1]}, "") {
		t.Error("a withdrawal is not written, or twice")
	}
	all, _, _ := votesIn(p.raw, 7)
	if len(all) != 1 || all[0].Age != time.Hour+3200*time.Millisecond || all[0].Holds != 7*time.Second {
		t.Errorf("%+v", all)
	}
	if !say(fleet.Vote{Target: at[0]}, "") || len(p.raw) != 0 {
		t.Errorf("the last vote is withdrawn, and the value is %q", p.raw)
	}
	// What another process has changed is written, whatever was said.
	p.force = true
	if next, again := p.revise(7, nil, now, answer); !again || next.force {
		t.Errorf("%t, %+v", again, next)
	}
}

// A value has an end, whatever is said.
func TestPartIsBounded(t *testing.T) {
	said := make(map[fleet.Target]pendingVote)
	owner := string(bytes.Repeat([]byte("a"), 250))
	for n := 0; len(said) < 6000; n++ {
		at := fleet.Target{Group: fleet.Group{1}, Addr: netip.MustParseAddrPort("192.0.2.1:1"), Owner: owner[:240] + fmt.Sprint(n)}
		if partOf(at) == 3 {
			said[at] = pendingVote{vote: fleet.Vote{Target: at, State: verdict.Up}}
		}
	}
	p, again := (&ownPart{}).revise(3, said, time.Now(), nil)
	if !again || len(p.raw) > maxPart || len(p.raw) < maxPart/2 {
		t.Errorf("%t, %d bytes", again, len(p.raw))
	}
}

// The first write is made at once, later ones with growing gaps, and after some calm one is made at once again.
func TestPace(t *testing.T) {
	var p pace
	now := time.Now()
	gaps := ""
	for range 9 {
		due := p.due(now, 3)
		gaps += fmt.Sprint(due.Milliseconds(), " ")
		now = now.Add(due)
		p.wrote(now, 1000, 3)
	}
	if want := "0 0 10 20 40 80 160 250 250 "; gaps != want {
		t.Errorf("%s, want %s", gaps, want)
	}
	now = now.Add(time.Second)
	if due := p.due(now, 3); due > 0 {
		t.Errorf("after some calm: %s", due)
	}
	if p.wrote(now, 1000, 3); p.due(now, 3) > 0 {
		t.Errorf("and then: %s", p.due(now, 3))
	}
}

// Ten members that write all the time write together no more than one can read, after what each may write at once.
func TestPaceOfBytes(t *testing.T) {
	var p pace
	began := time.Now()
	now, bytes := began, 0
	for now.Sub(began) < time.Minute {
		now = now.Add(p.due(now, 10))
		p.wrote(now, 200<<10, 10)
		bytes += 200 << 10
	}
	if most := burst + 60*fleetRate/10 + 400<<10; bytes > most || bytes < most/2 {
		t.Errorf("%d bytes in a minute, want about %d", bytes, most)
	}
	if now = now.Add(time.Hour); p.due(now, 10) > 0 {
		t.Errorf("after an hour of calm: %s", p.due(now, 10))
	}
	for range 5 {
		if due := p.due(now, 10); due > maxGap {
			t.Errorf("what may be written at once waits for %s", due)
		}
		p.wrote(now, 200<<10, 10)
		now = now.Add(maxGap)
	}
}

// After failures it takes longer and longer, within bounds.
func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, most: 5 * time.Second}
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := b.failed(); got < want*time.Second/2 || got > want*time.Second {
			t.Errorf("%s, want about %ds", got, want)
		}
	}
	if b.worked(); b.failed() > time.Second {
		t.Error("a success changes nothing")
	}
}

// The pool takes at least as much of an author as is told of it, even if its loop is late by two seconds.
func TestPaceOfThePool(t *testing.T) {
	now := time.Now()
	r := fleet.NewRoster(fleet.Member{Name: "self"}, now)
	r.Meet(fleet.Member{Name: "author"}, now)
	a := &author{}
	for range 300 {
		a.grant(now)
		n := max(0, int(a.allowed))
		a.allowed -= float64(n)
		if got := r.Admit("author", n, now); got != n {
			t.Fatalf("%d of %d are taken", got, n)
		}
		now = now.Add(100 * time.Millisecond)
	}
}

// Keys are what their names say, and no others count.
func TestKeys(t *testing.T) {
	k := keysOf("/a/", "x/y")
	if k.base != "/a/x%2Fy/" {
		t.Error(k.base)
	}
	if k := keysOf("", "n"); k.base != "/multivalue/n/" {
		t.Error(k.base)
	}
	id := newID("0123abcd")
	for _, c := range []struct {
		key  string
		kind keyKind
		id   string
		part uint8
	}{
		{k.memberKey(id), keyMember, id, 0},
		{k.wants(id), keyWants, id, 0},
		{k.part(id, 0xa7), keyVotes, id, 0xa7},
		{k.base + "members/", keyOther, "", 0},
		{k.base + "members/a/b", keyOther, "", 0},
		{k.base + "members/A", keyOther, "", 0},
		{k.base + "votes/a/A7", keyOther, "", 0},
		{k.base + "votes/a/7", keyOther, "", 0},
		{k.base + "votes/a/100", keyOther, "", 0},
		{k.base + "votes/a", keyOther, "", 0},
		{k.base + "other/a", keyOther, "", 0},
		{"/a/z/members/a", keyOther, "", 0},
		{k.base + "members/" + string(bytes.Repeat([]byte("a"), maxID+1)), keyOther, "", 0},
	} {
		if kind, id, part := k.split([]byte(c.key)); kind != c.kind || id != c.id || part != c.part {
			t.Errorf("%s: %d %q %d", c.key, kind, id, part)
		}
	}
	if !isID(id) {
		t.Error(id)
	}
}

// What a member says of itself and beside its votes is read as it was written.
func TestValues(t *testing.T) {
	f := fact{epoch: 1 << 63, isolated: true, behind: true, uptime: 90 * time.Second, site: "here", version: "1.0", term: 300, groups: listOf(fleet.Groups{{1}: {}, {2}: {}})}
	if got, ok := readFact(f.encode()); !ok || got != f {
		t.Errorf("%+v, %t", got, ok)
	}
	if got, ok := readFact(append(f.encode(), "more"...)); !ok || got != f {
		t.Errorf("of a later version: %+v, %t", got, ok)
	}
	if len(groupsOf(f.groups)) != 2 {
		t.Error(groupsOf(f.groups))
	}
	for i := range f.encode() {
		if _, ok := readFact(f.encode()[:i]); ok {
			t.Errorf("cut off after %d bytes it is read", i)
		}
	}
	var n notes
	want := func(port uint16) func(b *fleet.Batch) bool {
		return func(b *fleet.Batch) bool {
			return b.Want(fleet.Want{Target: fleet.Target{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}})
		}
	}
	n.addTo([]string{"a", "b"}, want(1))
	n.addTo([]string{"b"}, want(2))
	n.addTo(nil, want(3))
	n.addTo([]string{"a", "b"}, want(4))
	for self, ports := range map[string]string{"a": "[1 4 3]", "b": "[1 4 2 3]", "c": "[3]"} {
		var got []uint16
		ok := readNotes(n.encode(), self, func(batch []byte) {
			fleet.Decode(batch, fleet.Reader{Want: func(w fleet.Want) { got = append(got, w.Target.Addr.Port()) }})
		})
		if !ok || fmt.Sprint(got) != ports {
			t.Errorf("%s: %v, %t", self, got, ok)
		}
	}
	// It has an end.
	added := 0
	for port := uint16(1); n.addTo([]string{fmt.Sprint("member-", port)}, want(port)); port++ {
		added++
	}
	if size := len(n.encode()); size > maxNotes || size < maxNotes/2 {
		t.Errorf("%d bytes with %d wants", size, added)
	}
}

// What waits beside votes has an end, too.
func TestOutboxIsBounded(t *testing.T) {
	o := newOutbox()
	for n := range 300_000 {
		o.ask([]string{"a", "b", "c"}, fleet.Want{Target: fleet.Target{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n))}})
	}
	written, size := 0, 0
	for value := o.takeNotes(); value != nil; value = o.takeNotes() {
		written++
		size += len(value)
		if len(value) > maxNotes {
			t.Errorf("%d bytes", len(value))
		}
	}
	asks, lost := o.takeAsks()
	if size > maxWaiting+2*maxNotes || size < maxWaiting/2 || o.bytes != 0 || len(asks) != maxAsks || lost == 0 {
		t.Errorf("%d writes of %d bytes, %d asks, %d lost, %d bytes left", written, size, len(asks), lost, o.bytes)
	}
}

// What could not be written waits again, unless something newer was said meanwhile.
func TestPutBack(t *testing.T) {
	o, now, at := newOutbox(), time.Now(), inPart(7, 3)
	o.say([]fleet.Vote{{Target: at[0], State: verdict.Up}, {Target: at[1], State: verdict.Up}}, now)
	taken := o.takeSaid(7)
	o.say([]fleet.Vote{{Target: at[1], State: verdict.Down}, {Target: at[2], State: verdict.Down}}, now)
	o.putBack(7, taken)
	got := o.takeSaid(7)
	for i, want := range []verdict.State{verdict.Up, verdict.Down, verdict.Down} {
		if s := got[at[i]].vote.State; s != want {
			t.Errorf("target %d: %s, want %s", i, s, want)
		}
	}
	if o.settle(now); !o.bearing(now).since.IsZero() {
		t.Error("something seems to wait")
	}
}

// FuzzValues reads what others may have written.
func FuzzValues(f *testing.F) {
	f.Add(fact{epoch: 1, site: "here", groups: listOf(fleet.Groups{{1}: {}})}.encode())
	at := inPart(7, 2)
	f.Add(value(fleet.Vote{Target: at[0], State: verdict.Up}, fleet.Vote{Target: at[1], State: verdict.Down, Reason: "refused"}))
	var n notes
	n.addTo([]string{"a", "b"}, func(b *fleet.Batch) bool { return b.Want(fleet.Want{Target: at[0]}) })
	n.addTo(nil, func(b *fleet.Batch) bool { return b.Call(fleet.Call{Target: at[0]}) })
	f.Add(n.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, ok := readFact(data); ok {
			again, ok := readFact(got.encode())
			if !ok || again != got {
				t.Errorf("%+v, %+v", got, again)
			}
			if len(groupsOf(got.groups)) > maxGroups {
				t.Error("too many groups")
			}
		}
		told := 0
		readNotes(data, "a", func(batch []byte) { told += len(batch) })
		if told > len(data) {
			t.Error("more is told than there is")
		}
		changed := differences(nil, data, 7)
		if back := differences(data, nil, 7); len(back) != len(changed) {
			t.Errorf("%d votes come, and %d go", len(changed), len(back))
		}
		next, _ := (&ownPart{raw: data, force: true}).revise(7, nil, time.Time{}, nil)
		if n := len(differences(data, next.raw, 7)); n > 0 {
			t.Errorf("%d votes change by themselves", n)
		}
	})
}

// FuzzKey takes keys apart.
func FuzzKey(f *testing.F) {
	k := keysOf("", "test")
	for _, key := range []string{k.memberKey("a"), k.wants("a"), k.part("a", 255), k.base} {
		f.Add([]byte(key))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		kind, id, part := k.split(key)
		want := map[keyKind]string{keyMember: k.memberKey(id), keyWants: k.wants(id), keyVotes: k.part(id, part)}[kind]
		if kind != keyOther && (want != string(key) || !isID(id)) {
			t.Errorf("%q: %d %q %d", key, kind, id, part)
		}
	})
}
