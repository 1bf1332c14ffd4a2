package state

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// entry is a record with its key, as a program without this package would save it.
type entry struct {
	Key
	Record
}

// usual returns records as a process has them: some checks, two families, one target in twenty down, and results of the
// last ten seconds.
func usual(n int) []entry {
	var all []entry
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if i%4 == 0 {
			addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: byte(i >> 16), 6: byte(i >> 8), 15: byte(i)})
		}
		e := entry{
			Key{fmt.Sprintf("http://:8080/healthz%d expect 200 interval 10s fast 2s timeout 2s rise 2 fall 3", i%20), "", netip.AddrPortFrom(addr, 8080)},
			Record{State: verdict.Up, Since: noon.Add(-time.Duration(i) * time.Minute), At: noon.Add(-time.Duration(i*7919%10000) * time.Millisecond)},
		}
		if i%5 == 0 {
			e.Owner = fmt.Sprintf("service-%d.example.org.", i/50)
		}
		if i%20 == 0 {
			e.State, e.Reason = verdict.Down, []string{"connection refused", "timed out", `status "503 Service Unavailable"`}[i/20%3]
		}
		e.Since = e.Since.Truncate(time.Millisecond)
		all = append(all, e)
	}
	return all
}

func sequence(all []entry) iter.Seq2[Key, Record] {
	return func(yield func(Key, Record) bool) {
		for _, e := range all {
			if !yield(e.Key, e.Record) {
				return
			}
		}
	}
}

const many = 100_000

// others are the encoders that were rejected. They are the fastest way to use each.
var others = map[string]struct {
	write func(io.Writer, []entry) error
	read  func(io.Reader) ([]entry, error)
}{
	"gob": {
		func(w io.Writer, all []entry) error { return gob.NewEncoder(w).Encode(all) },
		func(r io.Reader) (all []entry, err error) { return all, gob.NewDecoder(r).Decode(&all) },
	},
	"json": {
		func(w io.Writer, all []entry) error { return json.NewEncoder(w).Encode(all) },
		func(r io.Reader) (all []entry, err error) { return all, json.NewDecoder(r).Decode(&all) },
	},
}

// timed is how long f takes on average, in the rounds of a benchmark.
type timed struct{ total time.Duration }

func (d *timed) do(b *testing.B, f func() error) {
	began := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	d.total += time.Since(began)
}

// BenchmarkEncode writes 100,000 records to memory, beside gob and JSON. The ratios say how many times as long they take,
// and how many times as large they are.
func BenchmarkEncode(b *testing.B) {
	all := usual(many)
	var ours timed
	times, sizes := map[string]*timed{}, map[string]int{}
	var size int
	for b.Loop() {
		var out bytes.Buffer
		ours.do(b, func() error { return write(context.Background(), &out, sequence(all)) })
		size = out.Len()
		for name, other := range others {
			if times[name] == nil {
				times[name] = new(timed)
			}
			var out bytes.Buffer
			times[name].do(b, func() error { return other.write(&out, all) })
			sizes[name] = out.Len()
		}
	}
	b.ReportMetric(float64(ours.total.Milliseconds())/float64(b.N), "ms")
	b.ReportMetric(float64(size)/many, "B/target")
	for name := range others {
		b.ReportMetric(float64(times[name].total)/float64(ours.total), name+"-time-ratio")
		b.ReportMetric(float64(sizes[name])/float64(size), name+"-size-ratio")
	}
}

// BenchmarkDecode reads 100,000 records from memory, beside gob and JSON, which check nothing and make no table.
func BenchmarkDecode(b *testing.B) {
	all := usual(many)
	data := encoded(b, sequence(all))
	texts := make(map[string][]byte)
	for name, other := range others {
		var out bytes.Buffer
		if err := other.write(&out, all); err != nil {
			b.Fatal(err)
		}
		texts[name] = out.Bytes()
	}
	var ours timed
	times := map[string]*timed{"gob": new(timed), "json": new(timed)}
	for b.Loop() {
		ours.do(b, func() error {
			records, err := parse(data, noon)
			if err == nil && len(records) != many {
				err = fmt.Errorf("%d records", len(records))
			}
			return err
		})
		for name, other := range others {
			times[name].do(b, func() error { _, err := other.read(bytes.NewReader(texts[name])); return err })
		}
	}
	b.ReportMetric(float64(ours.total.Milliseconds())/float64(b.N), "ms")
	for name := range others {
		b.ReportMetric(float64(times[name].total)/float64(ours.total), name+"-time-ratio")
	}
}

// BenchmarkSave saves 100,000 records to the disk, in place of the last file.
func BenchmarkSave(b *testing.B) {
	path, all := filepath.Join(b.TempDir(), "state"), usual(many)
	b.ReportAllocs()
	for b.Loop() {
		if err := Save(context.Background(), path, sequence(all)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a file with 100,000 records.
func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state")
	if err := Save(context.Background(), path, sequence(usual(many))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if records, err := Read(path, noon); err != nil || len(records) != many {
			b.Fatal(len(records), err)
		}
	}
}
