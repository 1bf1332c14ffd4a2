package test

import (
	"fmt"
	"strings"
	"testing"
)

const ranked = `
example.org:0 {
    bind 127.0.0.1
    metadata
    log . "{type} by rank {/multivalue/rank}."
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        backup 2 127.0.0.13/32
        backup 127.0.0.12/31
        status 127.0.0.1:STATUS
    }
}`

// The second rank of backups takes over when the first has failed too, and gives way when it is back. Metadata, a metric, the log and
// explanations name the rank (B99).
func TestBackupRanks(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v, base := s.shown(ranked)
	v.comesTo("www.example.org A", "11")
	v.settled(3, 0)
	mark := logs.Mark()
	first := metric("coredns_multivalue_backup_answers_total", "rank=1")
	s.kill(11)
	v.comesTo("www.example.org A", "12")
	if n := metric("coredns_multivalue_backup_answers_total", "rank=1"); n <= first {
		t.Errorf("%v answers with backups of rank 1 were counted, and %v before", n, first)
	}
	before := metric("coredns_multivalue_backup_answers_total", "rank=2")
	s.kill(12)
	v.comesTo("www.example.org A", "13")
	v.ask("www.example.org A")
	for _, want := range []string{
		"A by rank 0.", "A by rank 1.", "A by rank 2.",
		"www.example.org.: 1 of 3 addresses are down, so backups of rank 1 are served too (backup, min_up and dry_run of zone example.org. decide)",
	} {
		s.eventually(func() bool { return strings.Contains(logs.Since(mark), want) },
			func() string { return fmt.Sprintf("the log lacks %q: %s", want, logs.Since(mark)) })
	}
	if n := metric("coredns_multivalue_backup_answers_total", "rank=2"); n <= before {
		t.Errorf("%v answers with backups of rank 2 were counted, and %v before", n, before)
	}
	e := s.explain(base, "www.example.org A")
	if got, want := e.brief(), "NOERROR backup, +13 backup of rank 2, needed, -12 connection refused, -11 connection refused"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if steps := fmt.Sprint(e.Explanations[0].Steps); !strings.Contains(steps, "0 of 1 are up, and min_up asks for 1: backups of rank 2 are served too") {
		t.Error(steps)
	}
	s.start(12)
	v.comesTo("www.example.org A", "12")
	s.start(11)
	v.comesTo("www.example.org A", "11")
}
