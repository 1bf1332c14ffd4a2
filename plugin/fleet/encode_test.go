package fleet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// said is what is in a batch.
type said struct {
	votes []Vote
	wants []Want
	calls []Call
}

// read decodes a batch.
func read(data []byte) (s said, err error) {
	err = Decode(data, Reader{
		Vote: func(v Vote) { s.votes = append(s.votes, v) },
		Want: func(w Want) { s.wants = append(s.wants, w) },
		Call: func(c Call) { s.calls = append(s.calls, c) },
	})
	return s, err
}

// batch encodes all of it.
func (s said) batch() []byte {
	b := Batch{Max: 1 << 20}
	for _, v := range s.votes {
		b.Vote(v)
	}
	for _, w := range s.wants {
		b.Want(w)
	}
	for _, c := range s.calls {
		b.Call(c)
	}
	return b.Bytes()
}

var (
	four = Target{Group: someGroup, Addr: netip.MustParseAddrPort("192.0.2.1:80")}
	six  = Target{Group: Group{7}, Addr: netip.MustParseAddrPort("[2001:db8::1]:0"), Owner: "www.example.org."}
)

// everything has each field at least once.
var everything = said{
	votes: []Vote{
		{Target: four, State: verdict.Up, Age: 90 * time.Second, Holds: 12 * time.Second, Shed: 30, Drained: true, Doubt: 1},
		{Target: six, State: verdict.Down, Age: time.Millisecond, Holds: 2 * time.Second, Reason: "connection refused"},
		{Target: six}, {Target: four, State: verdict.Unchecked},
	},
	wants: []Want{{six, 15 * time.Minute}, {four, 0}},
	calls: []Call{{four, false}, {four, true}},
}

// What one member says is what another reads, and each entry is as short as it can be.
func TestRoundTrip(t *testing.T) {
	got, err := read(everything.batch())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(everything) {
		t.Errorf("%v\nwant %v, %v", got, everything, err)
	}
	usual := said{votes: []Vote{{Target: four, State: verdict.Up, Age: time.Hour, Holds: 12 * time.Second}}}
	if n := len(usual.batch()) - 19; n > 20 {
		t.Errorf("a vote has %d bytes, want 20 at most", n)
	}
}

// A batch is as its description says, byte by byte: members of different versions read each other's.
func TestFormat(t *testing.T) {
	s := said{votes: []Vote{{Target: Target{Group: Group{15: 1}, Addr: four.Addr, Owner: "o."}, State: verdict.Down, Age: 300 * time.Millisecond,
		Holds: 2 * time.Second, Doubt: 1, Reason: "r"}}}
	want := []byte("\x01" + "\x11g\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x19v" + "\x03\x04\xc0\x00\x02\x01" + "\x04\x50" + "\x07\x02o." + "\x08\x03" + "\x0a\xac\x02" + "\x0c\x02" + "\x12\x01" + "\x15\x01r")
	if got := s.batch(); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What a later version adds is skipped: entries of unknown kinds, and fields of unknown numbers, of both forms.
func TestUnknownIsSkipped(t *testing.T) {
	entry := func(text string) string { return string(binary.AppendUvarint(nil, uint64(len(text)))) + text }
	addr := "\x03\x04\xc0\x00\x02\x01"
	group := entry("g" + string(someGroup[:]))
	head := string([]byte{Protocol})
	for what, tc := range map[string]struct {
		batch string
		votes int
	}{
		"a field that is a number":     {head + group + entry("v"+addr+"\x08\x02\xf8\x07\x05"), 1},
		"a field that is a text":       {head + group + entry("v\xf9\x07\x03abc"+addr+"\x08\x02"), 1},
		"an entry":                     {head + entry("?") + group + entry("z"+addr) + entry("v"+addr), 1},
		"a state":                      {head + group + entry("v"+addr+"\x08\x04") + entry("v"+addr), 1},
		"an entry without a group":     {head + entry("v"+addr) + group + entry("v"+addr), 1},
		"a group that is too short":    {head + group + entry("g123") + entry("v"+addr) + group + entry("v"+addr), 1},
		"an entry without an address":  {head + group + entry("v\x04\x50") + entry("v"+addr), 1},
		"an address of five bytes":     {head + group + entry("v\x03\x0512345") + entry("v"+addr), 1},
		"a field that is cut off":      {head + group + entry("v"+addr+"\x15\x0aabc") + entry("v"+addr+"\x08") + entry("v"+addr+"\x80") + entry("v"+addr), 1},
		"an owner that is too long":    {head + group + entry("v"+addr+"\x07\x80\x02"+strings.Repeat("a", 256)) + entry("v"+addr), 1},
		"nothing":                      {head, 0},
		"numbers that are much larger": {head + group + entry("v"+addr+"\x04\xff\xff\x7f\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0e\xff\x7f"), 1},
	} {
		got, err := read([]byte(tc.batch))
		if err != nil || len(got.votes) != tc.votes {
			t.Errorf("%s: %d votes, want %d, %v", what, len(got.votes), tc.votes, err)
		}
	}
}

// A reason that others say is cut and cleaned as our own are.
func TestReasonOfALiar(t *testing.T) {
	entry := "v\x03\x04\xc0\x00\x02\x01\x08\x03\x15\x80\x02" + strings.Repeat("a\n", 128)
	group := string(append([]byte{Protocol, 17, 'g'}, someGroup[:]...))
	got, err := read([]byte(group + string(binary.AppendUvarint(nil, uint64(len(entry)))) + entry))
	if err != nil || len(got.votes) != 1 || got.votes[0].Reason != strings.Repeat("a?", 30) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A batch of another protocol or one that is cut off is refused as a whole.
func TestRefused(t *testing.T) {
	whole := everything.batch()
	other := append([]byte{Protocol + 1}, whole[1:]...)
	if got, err := read(other); err == nil || err.Error() != "protocol 2: this program has 1" || len(got.votes) > 0 {
		t.Errorf("%d votes, %v", len(got.votes), err)
	}
	ends := map[int]bool{len(whole): true}
	for rest := whole[1:]; len(rest) > 0; _, rest, _ = taken(rest) {
		ends[len(whole)-len(rest)] = true
	}
	for n := range len(whole) {
		got, err := read(whole[:n])
		if ends[n] != (err == nil) || err != nil && len(got.votes)+len(got.wants)+len(got.calls) > 0 {
			t.Errorf("%d of %d bytes: %d votes, %v", n, len(whole), len(got.votes), err)
		}
	}
	for _, empty := range []string{"", "\x01\x00", "\x01\x80"} {
		if _, err := read([]byte(empty)); err == nil {
			t.Errorf("%q is read", empty)
		}
	}
	if err := Decode(whole, Reader{}); err != nil {
		t.Errorf("a reader that takes nothing: %v", err)
	}
}

// A batch is never larger than was said, each entry is in one of them, and a batch that is reset names the group again.
func TestBatchesAreBounded(t *testing.T) {
	b := Batch{Max: 1100}
	var got []Vote
	send := func() {
		if len(b.Bytes()) > 1100 || len(b.Bytes()) < 1000 {
			t.Errorf("a batch has %d bytes", len(b.Bytes()))
		}
		s, err := read(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s.votes...)
		b.Reset()
	}
	var want []Vote
	for i := range 1000 {
		v := Vote{Target: target(i), State: verdict.Up, Holds: time.Duration(i) * time.Second}
		if i%10 == 0 {
			v.Target.Group[3]++
		}
		want = append(want, v)
		if !b.Vote(v) {
			send()
			if !b.Vote(v) {
				t.Fatal("an empty batch is full")
			}
		}
	}
	s, _ := read(b.Bytes())
	if len(b.Bytes()) > b.Max {
		t.Errorf("the last batch has %d bytes", len(b.Bytes()))
	}
	if got = append(got, s.votes...); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d votes arrive of %d, or others", len(got), len(want))
	}
	largest := Vote{Target: six, State: verdict.Down, Age: maxAge * 2, Holds: maxAge, Shed: 255, Drained: true, Doubt: 255, Reason: strings.Repeat("x", 999)}
	largest.Target.Owner = strings.Repeat("o", maxOwner)
	if n := len(said{votes: []Vote{largest}}.batch()); n > maxEntry {
		t.Errorf("the largest vote has %d bytes", n)
	}
}

// What means nothing to others is not said.
func TestUnsayable(t *testing.T) {
	for _, odd := range []Target{
		{}, {Group: someGroup, Addr: netip.MustParseAddrPort("[fe80::1%eth0]:80")}, {Group: someGroup, Addr: four.Addr, Owner: strings.Repeat("a", 256)},
	} {
		b := Batch{Max: 1100}
		if !b.Vote(Vote{Target: odd}) || !b.Want(Want{Target: odd}) || !b.Call(Call{Target: odd}) || b.Bytes() != nil {
			t.Errorf("%v is said as %q", odd, b.Bytes())
		}
	}
}

// What cannot be a name, or is one in another spelling, is left out: names go to logs, and tell targets apart.
func TestOddOwner(t *testing.T) {
	for owner, fine := range map[string]bool{"www.example.org.": true, "a\\032b. c.": true, "a\nb.": false, "WWW.example.org.": false, "a\x7f.": false, "ü.": false} {
		b := Batch{Max: 1100}
		b.Want(Want{Target: Target{Group: someGroup, Addr: four.Addr, Owner: owner}})
		n := 0
		if err := Decode(b.Bytes(), Reader{Want: func(Want) { n++ }}); err != nil || n == 1 != fine {
			t.Errorf("%q is read %d times, %v", owner, n, err)
		}
	}
}

// Reasons are cut between characters, and cannot break a line of a log.
func TestCut(t *testing.T) {
	for reason, want := range map[string]string{
		"refused": "refused", "a\nb\x00\xff": "a?b??", strings.Repeat("ü", 31): strings.Repeat("ü", 30), "x" + strings.Repeat("€", 20): "x" + strings.Repeat("€", 19),
		strings.Repeat("a", 60): strings.Repeat("a", 60), strings.Repeat("a", 61): strings.Repeat("a", 60), "": "",
	} {
		if got := cut(reason); got != want {
			t.Errorf("%q is cut to %q, want %q", reason, got, want)
		}
	}
}

// Any bytes are read or refused without harm: what comes out is within bounds, is not more than the bytes can hold, and is the same
// when it is said again. A ballot takes all of it.
func FuzzDecode(f *testing.F) {
	f.Add(everything.batch())
	f.Add([]byte{Protocol})
	f.Add([]byte{Protocol, 1, '?'})
	rng := rand.New(rand.NewPCG(5, 6))
	for range 10 {
		data := everything.batch()
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		f.Add(data)
	}
	r := fleetOf(numbered(8)...)
	s := r.Seats(someGroup, 3, noon)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := read(data)
		if n := len(got.votes) + len(got.wants) + len(got.calls); err != nil && n > 0 || n*8 > len(data) {
			t.Fatalf("%d entries from %d bytes, %v", n, len(data), err)
		}
		b := new(Ballot)
		for i, v := range got.votes {
			if !v.Target.Addr.IsValid() || len(v.Target.Owner) > maxOwner || v.State > verdict.Down || v.Shed > 100 || v.Age < 0 || v.Age > maxAge ||
				v.Holds < 0 || v.Holds > maxAge || len(v.Reason) > maxReason || !utf8.ValidString(v.Reason) {
				t.Fatalf("%+v", v)
			}
			a := s.members[i%len(s.members)]
			b.Put(s, a.stream, &v, noon, longest)
			s.Fold(b, v.Target.Shard(), Defaults().Quorum)
		}
		for _, w := range got.wants {
			if w.For < 0 || w.For > maxAge {
				t.Fatalf("%+v", w)
			}
		}
		again := got.batch()
		back, err := read(again)
		if again != nil && (err != nil || fmt.Sprint(back) != fmt.Sprint(got)) {
			t.Fatalf("%+v\nis said again as %+v, %v", got, back, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	batch, v := Batch{Max: 1100}, Vote{Target: four, State: verdict.Up, Age: time.Hour, Holds: 12 * time.Second}
	b.ReportAllocs()
	for b.Loop() {
		if !batch.Vote(v) {
			batch.Reset()
		}
	}
}

// BenchmarkDecode is for one vote of a batch.
func BenchmarkDecode(b *testing.B) {
	batch := Batch{Max: 1100}
	n := 0
	for batch.Vote(Vote{Target: target(n), State: verdict.Up, Age: time.Hour, Holds: 12 * time.Second}) {
		n++
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%n == 0 {
			Decode(batch.Bytes(), Reader{Vote: func(Vote) {}})
		}
	}
}
