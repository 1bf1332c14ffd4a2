package etcd

import (
	"sync/atomic"
	"testing"
	"time"
)

// Of a member that was not heard for a while counts what it has written since then, or what has outlived its lease. It may be late with
// what it has found out since it wrote, so what this process found out alone counts for as long.
func TestWhoIsBack(t *testing.T) {
	const lease = leaseTime*time.Second + backMargin
	now := time.Now()
	for _, tt := range []struct {
		rev       int64 // of the key; what was known before the loss is 10
		away      time.Duration
		term      uint64 // etcd's is 2
		want      bool
		newcomers bool // nothing was lost
	}{
		{rev: 11, away: 0, term: 2},
		{rev: 11, away: lateTime, term: 2},
		{rev: 11, away: lateTime + 1, term: 2, want: true},
		{rev: 11, away: lateTime + 1, term: 1},
		{rev: 10, away: lateTime + 1, term: 2},
		{rev: 10, away: lease, term: 2},
		{rev: 10, away: lease + 1, term: 1, want: true},
		{rev: 1, term: 2, newcomers: true, want: true},
	} {
		l := &loop{granted: new(atomic.Int64), term: 2, termAt: now, lostRev: 10, lostAt: now}
		if tt.newcomers {
			l.lostRev, l.lostAt = 0, time.Time{}
		}
		if got := l.isBack(&author{rev: tt.rev, fact: fact{term: tt.term}}, now.Add(tt.away)); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}
