package multivalue

import (
	"math"
	"time"
)

// moment is an instant by the monotonic clock, in nanoseconds since the process began: a third of a time.Time, of which a
// hundred thousand targets have several each.
type moment int64

// longAgo is before all of them.
const longAgo moment = math.MinInt64 / 2

var began = time.Now()

func when(t time.Time) moment                   { return moment(t.Sub(began)) }
func (m moment) add(d time.Duration) moment     { return m + moment(d) }
func (m moment) sub(other moment) time.Duration { return time.Duration(m - other) }

// steady is t by the system clock as it would read if nobody had set it since the process began. What is compared with it
// later then stays so far apart.
func steady(t time.Time) time.Time { return began.Add(t.Sub(began)) }

// time is the instant by the system clock as it would read if nobody had set it since the process began.
func (m moment) time() time.Time { return began.Add(time.Duration(m)) }
