package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// noon is the time of these tests.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

var (
	someKey = Key{Check: "tcp://:80 10s 2s", Addr: netip.MustParseAddrPort("192.0.2.1:80")}
	isUp    = Record{State: verdict.Up, Since: noon.Add(-time.Hour), At: noon.Add(-time.Second)}
	isDown  = Record{State: verdict.Down, Since: noon.Add(-time.Hour), At: noon.Add(-time.Second), Reason: "refused"}
)

// one is a sequence of one record.
func one(k Key, r Record) iter.Seq2[Key, Record] { return maps.All(map[Key]Record{k: r}) }

// both is a sequence of two records of one target.
func both(k Key, a, b Record) iter.Seq2[Key, Record] {
	return func(yield func(Key, Record) bool) { _ = yield(k, a) && yield(k, b) }
}

// encoded returns the content of a file with these records.
func encoded(t testing.TB, records iter.Seq2[Key, Record]) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := write(context.Background(), &out, records); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decoded returns the records of a file at noon.
func decoded(t testing.TB, data []byte) map[Key]Record {
	t.Helper()
	records, err := parse(data, noon)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// A file is as its description says, byte by byte: what one version writes, the next one has to read.
func TestFormat(t *testing.T) {
	k := Key{Check: "c", Owner: "o.", Addr: netip.MustParseAddrPort("192.0.2.1:80")}
	r := Record{State: verdict.Down, Since: timeOf(1000), At: timeOf(1064), Reason: "r"}
	want := []byte("multivalue state 2\n" +
		"t\x01c" + "t\x02o." + "t\x01r" +
		"d\x01\x02\x06\xc0\x00\x02\x01\x50\x00\xd0\x10\x80\x01\x03" +
		"e\x01")
	want = seal(want)
	if got := encoded(t, one(k, r)); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	records, err := parse(want, timeOf(2000))
	if err != nil || !maps.Equal(records, map[Key]Record{k: r}) {
		t.Errorf("%v, %v", records, err)
	}
	old := seal(bytes.Replace(want[:len(want)-sumSize], []byte("state 2"), []byte("state 1"), 1))
	if records, err = parse(old, timeOf(2000)); err != nil || !maps.Equal(records, map[Key]Record{k: r}) {
		t.Errorf("version 1: %v, %v", records, err)
	}
	r.Said = report.Said{Shed: 70, Health: "fail", Admin: "maint", Reason: "s"}
	want = seal([]byte("multivalue state 2\n" +
		"t\x04fail" + "t\x05maint" + "t\x01s" + "s\x46\x01\x02\x03" +
		"t\x01c" + "t\x02o." + "t\x01r" +
		"d\x04\x05\x06\xc0\x00\x02\x01\x50\x00\xd0\x10\x80\x01\x06" +
		"e\x01"))
	if got := encoded(t, one(k, r)); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if records, err = parse(want, timeOf(2000)); err != nil || !maps.Equal(records, map[Key]Record{k: r}) {
		t.Errorf("%v, %v", records, err)
	}
	if got, want := encoded(t, maps.All(map[Key]Record{})), seal([]byte("multivalue state 2\ne\x00")); !bytes.Equal(got, want) {
		t.Errorf("without records: %q, want %q", got, want)
	}
}

// seal adds the checksum to a file.
func seal(data []byte) []byte {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return append(data, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
}

// hostile are texts that a format may stumble on.
var hostile = []string{
	"", "x", "a\x00b", "\xff\xfe", "\n", "t\x01c", "e\x00", "\"quoted\" \\", magic + "1\n", "…", "\u202e", strings.Repeat("é", maxReason/2), strings.Repeat("x", maxReason),
}

// random returns records of about n targets, with all texts, addresses and ages that a file may have.
func random(rng *rand.Rand, n int) map[Key]Record {
	pick := func() string { return hostile[rng.IntN(len(hostile))] }
	records := make(map[Key]Record)
	for range n {
		bits := [16]byte{}
		for i := range bits {
			bits[i] = byte(rng.Uint32())
		}
		addr := []netip.Addr{
			netip.AddrFrom4([4]byte(bits[:4])), netip.AddrFrom16(bits), netip.AddrFrom16(bits).WithZone("eth0"),
			netip.AddrFrom16(netip.AddrFrom4([4]byte(bits[:4])).As16()), netip.IPv4Unspecified(), netip.IPv6Unspecified(),
		}[rng.IntN(6)]
		at := noon.Add(-time.Duration(rng.Int64N(int64(MaxAge))).Truncate(time.Millisecond))
		since := at.Add(-time.Duration(rng.Int64N(int64(1000 * time.Hour))).Truncate(time.Millisecond))
		r := Record{State: verdict.Up, Since: since, At: at}
		if rng.IntN(2) == 0 {
			r.State, r.Reason = verdict.Down, pick()
		}
		if rng.IntN(2) == 0 {
			r.Said = report.Said{Shed: uint8(rng.IntN(101)), Health: []string{"", "down", "fail", "stopped"}[rng.IntN(4)], Admin: []string{"", "drain", "maint"}[rng.IntN(3)], Reason: pick()}
		}
		records[Key{"c" + pick(), pick(), netip.AddrPortFrom(addr, uint16(rng.Uint32()))}] = r
	}
	return records
}

// What is written is read, whatever the texts, addresses and times.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		records := random(rand.New(rand.NewPCG(seed, 1)), int(seed))
		if got := decoded(t, encoded(t, maps.All(records))); !maps.Equal(got, records) {
			t.Fatalf("seed %d:\ngot  %v\nwant %v", seed, got, records)
		}
	}
}

// More texts than the encoder remembers are written and read as well.
func TestRoundTripOfManyTexts(t *testing.T) {
	records := make(map[Key]Record)
	for i := range maxNumbers + 1000 {
		k, r := someKey, isDown
		k.Addr = netip.AddrPortFrom(k.Addr.Addr(), uint16(i))
		r.Reason = fmt.Sprint("reason ", i)
		records[k] = r
	}
	if got := decoded(t, encoded(t, maps.All(records))); !maps.Equal(got, records) {
		t.Errorf("%d records, want %d, or they differ", len(got), len(records))
	}
}

// A record is read while it is younger than ten minutes, and one from the future is not. One that is not of a target that
// was decided is in no file.
func TestReadsWhatIsFresh(t *testing.T) {
	for _, tc := range []struct {
		what   string
		change func(*Key, *Record)
		want   bool
	}{
		{"as it is", func(*Key, *Record) {}, true},
		{"now", func(_ *Key, r *Record) { r.At = noon }, true},
		{"almost ten minutes ago", func(_ *Key, r *Record) { r.At = noon.Add(-10*time.Minute + time.Millisecond) }, true},
		{"ten minutes ago", func(_ *Key, r *Record) { r.At = noon.Add(-10 * time.Minute) }, false},
		{"years ago", func(_ *Key, r *Record) { r.At, r.Since = timeOf(1), timeOf(0) }, false},
		{"in a moment", func(_ *Key, r *Record) { r.At = noon.Add(time.Millisecond) }, false},
		{"in the year 9999", func(_ *Key, r *Record) { r.At = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, false},
		{"unknown", func(_ *Key, r *Record) { r.State = verdict.Unknown }, false},
		{"unchecked", func(_ *Key, r *Record) { r.State = verdict.Unchecked }, false},
		{"no state", func(_ *Key, r *Record) { r.State = 77 }, false},
		{"since its last result", func(_ *Key, r *Record) { r.Since = r.At }, true},
		{"since later", func(_ *Key, r *Record) { r.Since = r.At.Add(time.Millisecond) }, false},
		{"since 1970", func(_ *Key, r *Record) { r.Since = timeOf(0) }, true},
		{"since before that", func(_ *Key, r *Record) { r.Since = timeOf(-1) }, false},
		{"since never", func(_ *Key, r *Record) { r.Since = time.Time{} }, false},
		{"without a check", func(k *Key, _ *Record) { k.Check = "" }, false},
		{"the longest check", func(k *Key, _ *Record) { k.Check = strings.Repeat("c", maxCheck) }, true},
		{"a longer check", func(k *Key, _ *Record) { k.Check = strings.Repeat("c", maxCheck+1) }, false},
		{"the longest owner", func(k *Key, _ *Record) { k.Owner = strings.Repeat("o", maxOwner) }, true},
		{"a longer owner", func(k *Key, _ *Record) { k.Owner = strings.Repeat("o", maxOwner+1) }, false},
		{"without an address", func(k *Key, _ *Record) { k.Addr = netip.AddrPort{} }, false},
		{"without a port", func(k *Key, _ *Record) { k.Addr = netip.AddrPortFrom(k.Addr.Addr(), 0) }, true},
		{"a long zone", func(k *Key, _ *Record) {
			k.Addr = netip.MustParseAddrPort("[fe80::1%" + strings.Repeat("z", maxZone+1) + "]:1")
		}, false},
	} {
		k, r := someKey, isUp
		tc.change(&k, &r)
		if _, got := decoded(t, encoded(t, one(k, r)))[k]; got != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, got, tc.want)
		}
	}
}

// A record that was read with others is too old later: a caller that keeps records asks again.
func TestFreshLater(t *testing.T) {
	r := decoded(t, encoded(t, one(someKey, isUp)))[someKey]
	if at := noon.Add(MaxAge - 2*time.Second); !r.Fresh(at) || r.Fresh(at.Add(time.Second)) {
		t.Error("it is fresh for another time than ten minutes")
	}
}

// The first of several records of a target counts if they agree, and none if they do not.
func TestTwoRecordsOfOneTarget(t *testing.T) {
	other := isUp
	other.Since = noon.Add(-time.Minute)
	for _, tc := range []struct {
		what string
		a, b Record
		want map[Key]Record
	}{
		{"they agree", isUp, other, map[Key]Record{someKey: isUp}},
		{"they differ", isUp, isDown, map[Key]Record{}},
		{"they differ the other way", isDown, isUp, map[Key]Record{}},
		{"one is too old", Record{State: verdict.Down, Since: timeOf(0), At: timeOf(0)}, isUp, map[Key]Record{someKey: isUp}},
	} {
		if got := decoded(t, encoded(t, both(someKey, tc.a, tc.b))); !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.what, got, tc.want)
		}
	}
}

// A reason is cut to 255 bytes, between two characters. An up target has none.
func TestReasons(t *testing.T) {
	for _, tc := range []struct{ reason, want string }{
		{strings.Repeat("x", 255), strings.Repeat("x", 255)},
		{strings.Repeat("x", 256), strings.Repeat("x", 252) + "…"},
		{strings.Repeat("é", 200), strings.Repeat("é", 126) + "…"},
		{"x" + strings.Repeat("é", 200), "x" + strings.Repeat("é", 125) + "…"},
		{strings.Repeat("\x80", 300), "…"},
	} {
		r := isDown
		r.Reason = tc.reason
		got := decoded(t, encoded(t, one(someKey, r)))[someKey].Reason
		if got != tc.want || len(got) > 255 || !utf8.ValidString(got) {
			t.Errorf("%q: %q, want %q", tc.reason, got, tc.want)
		}
	}
	r := isDown
	r.State = verdict.Up
	if got := decoded(t, encoded(t, one(someKey, r)))[someKey]; got != isUp {
		t.Errorf("an up target: %v", got)
	}
}

// A file has at most as many records as a process has targets, and the largest such file is one that is read.
func TestLimits(t *testing.T) {
	if maxRecords != 262144 {
		t.Errorf("%d records, but a process has up to 262144 targets", maxRecords)
	}
	var checks []string
	for i := range 8000 {
		checks = append(checks, fmt.Sprintf("%04d%s", i, strings.Repeat("c", maxCheck-4)))
	}
	longest := func(n int) iter.Seq2[Key, Record] {
		return func(yield func(Key, Record) bool) {
			pad, zone := strings.Repeat("x", maxReason-8), strings.Repeat("z", maxZone)
			for i := range n {
				var ip [16]byte
				ip[0], ip[13], ip[14], ip[15] = 0x20, byte(i>>16), byte(i>>8), byte(i)
				addr := netip.AddrFrom16(ip).WithZone(zone)
				k := Key{checks[i%len(checks)], fmt.Sprintf("%08d%s", i, pad), netip.AddrPortFrom(addr, 65535)}
				r := isDown
				r.Reason = fmt.Sprintf("%08d%s", -i, pad)
				if i%2 == 0 {
					r.At, r.Since = noon.Add(-MaxAge+time.Millisecond), timeOf(0)
				}
				if !yield(k, r) {
					return
				}
			}
		}
	}
	data := encoded(t, longest(maxRecords+10))
	if got := len(decoded(t, data)); got != maxRecords || len(data) > maxSize {
		t.Errorf("%d records in %d bytes", got, len(data))
	}
	t.Logf("the largest file has %d bytes, of %d", len(data), maxSize)
}

// A file that is cut anywhere, or has one wrong bit, is refused as a whole.
func TestDamaged(t *testing.T) {
	records := random(rand.New(rand.NewPCG(1, 2)), 25)
	data := encoded(t, maps.All(records))
	refused := func(what string, data []byte) {
		t.Helper()
		if got, err := parse(data, noon); err == nil || got != nil {
			t.Fatalf("%s: %d records, %v", what, len(got), err)
		}
	}
	for n := range data {
		refused(fmt.Sprintf("the first %d of %d bytes", n, len(data)), data[:n])
		refused(fmt.Sprintf("without byte %d", n), append(bytes.Clone(data[:n]), data[n+1:]...))
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[n] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, n), damaged)
		}
	}
	refused("one more byte", append(bytes.Clone(data), 0))
	refused("twice", append(bytes.Clone(data), data...))
}

// A file whose checksum is right, but whose entries are not, is refused as a whole.
func TestMalformed(t *testing.T) {
	const addr = "\x06\xc0\x00\x02\x01\x50\x00"
	for _, body := range []string{
		"", "e", "e\x01", "e\x00e\x00", "e\x00x", "x", "t\x00e\x00", "t\x02c", "t\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01c",
		"u\x01\x00" + addr + "\x00\x00e\x01",                                         // a text that is not there
		"t\x01cu\x02\x00" + addr + "\x00\x00e\x01",                                   // the same
		"t\x01cu\x01\x00\x05\xc0\x00\x02\x01\x50e\x01",                               // half a port
		"t\x01cu\x01\x00\x00\x00\x00e\x01",                                           // no address
		"t\x01cu\x01\x00" + addr + "\x00\x00e\x00",                                   // a wrong count
		"t\x01cu\x01\x00" + addr + "\x00",                                            // no end
		"t\x01cd\x01\x00" + addr + "\x00\x00e\x01",                                   // no reason
		"s\x01\x00\x00\x00e\x00",                                                     // said by no target
		"t\x01cs\x65\x00\x00\x00u\x01\x00" + addr + "\x00\x00e\x01",                  // more than all of a weight
		"t\x01cs\x01\x00\x00\x00s\x01\x00\x00\x00u\x01\x00" + addr + "\x00\x00e\x01", // said twice
		"t\x01cs\x01\x02\x00\x00u\x01\x00" + addr + "\x00\x00e\x01",                  // in a text that is not there
		"t\x01cu\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",                            // a number that is too large
	} {
		if got, err := parse(seal([]byte(magic+"1\n"+body)), noon); err == nil || got != nil {
			t.Errorf("%q: %v, %v", body, got, err)
		}
	}
	many := bytes.Repeat([]byte("t\x01x"), 5*maxRecords+1)
	if _, err := parse(seal(append(append([]byte(magic+"1\n"), many...), "e\x00"...)), noon); err == nil {
		t.Error("more texts than records can use")
	}
	for n, want := range map[int]bool{maxRecords: true, maxRecords + 1: false} {
		body := magic + "1\nt\x01c" + strings.Repeat("u\x01\x00"+addr+"\x00\x00", n) + "e"
		if _, err := parse(seal(binary.AppendUvarint([]byte(body), uint64(n))), noon); (err == nil) != want {
			t.Errorf("%d records: %v", n, err)
		}
	}
}

// FuzzRead reads any input as a file, as it is and with the right checksum. There is no panic, every record follows the
// rules, and a file with these records is read as the same.
func FuzzRead(f *testing.F) {
	at := string(binary.AppendVarint(nil, noon.UnixMilli()))
	f.Add([]byte(magic + "1\n"))
	f.Add(encoded(f, maps.All(random(rand.New(rand.NewPCG(3, 4)), 10))))
	for _, body := range []string{
		"e\x00", "t\x01ce\x00", "t\x05drains\x32\x00\x01\x00t\x01cu\x02\x00\x06\xc0\x00\x02\x01\x50\x00" + at + "\x00e\x01", "t\x01cd\x01\x01\x06\xc0\x00\x02\x01\x50\x00" + at + "\x02\x01e\x01",
		"t\x01cu\x01\x00\x06\xc0\x00\x02\x01\x50\x00" + at + "\x00d\x01\x00\x06\xc0\x00\x02\x01\x50\x00\x00\x00\x01e\x02",
	} {
		f.Add([]byte(magic + "1\n" + body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, seal(bytes.Clone(data))} {
			records, err := parse(data, noon)
			if err != nil {
				if records != nil {
					t.Fatal("records in spite of an error")
				}
				continue
			}
			for k, r := range records {
				age := noon.Sub(r.At)
				if r.State != verdict.Up && r.State != verdict.Down || age < 0 || age >= 10*time.Minute || r.Since.After(r.At) || r.Since.Year() < 1970 ||
					r.State == verdict.Up && r.Reason != "" || len(r.Reason) > 255 || k.Check == "" || len(k.Check) > 4096 || len(k.Owner) > 255 || !k.Addr.IsValid() || !r.Said.Valid() || len(r.Said.Reason) > 255 {
					t.Fatalf("%v: %v", k, r)
				}
			}
			if again := decoded(t, encoded(t, maps.All(records))); !maps.Equal(again, records) {
				t.Fatalf("got  %v\nwant %v", again, records)
			}
		}
	})
}
