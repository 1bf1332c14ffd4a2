package multivalue

import (
	"math"
	"time"
)

// Instant is an instant by the monotonic clock, in nanoseconds since the process began: a third of a time.Time, of which a
// hundred thousand targets have several each.
type Instant int64

// LongAgo is before all of them.
const LongAgo Instant = math.MinInt64 / 2

var Started = time.Now()

func At(t time.Time) Instant                      { return Instant(t.Sub(Started)) }
func (m Instant) Add(d time.Duration) Instant     { return m + Instant(d) }
func (m Instant) Sub(other Instant) time.Duration { return time.Duration(m - other) }

// Steady is t by the system clock as it would read if nobody had set it since the process began. What is compared with it
// later then stays so far apart.
func Steady(t time.Time) time.Time { return Started.Add(t.Sub(Started)) }

// Time is the instant by the system clock as it would read if nobody had set it since the process began.
func (m Instant) Time() time.Time { return Started.Add(time.Duration(m)) }
