// Package clock has monotonic instants that are small, and the system clock as it would read if it had never been set.
//
// Instant is the main type. The pool keeps several of them for each target, and compares nothing else; what is shown to
// people or written down goes through Steady, so that two such times are as far apart as the instants were.
package clock

import (
	"math"
	"time"
)

// Instant is a point in time by the monotonic clock, in nanoseconds since the process began. It is a third of the size
// of a time.Time.
type Instant int64

// LongAgo is before every instant that At returns.
const LongAgo Instant = math.MinInt64 / 2

// Started is when the process began, by the system clock.
var Started = time.Now()

// At returns the instant of t, which must have a monotonic reading, as what time.Now returns has.
func At(t time.Time) Instant { return Instant(t.Sub(Started)) }

// Add returns the instant after the duration, which may be negative.
func (m Instant) Add(d time.Duration) Instant { return m + Instant(d) }

// Sub returns how much later the instant is than the other one.
func (m Instant) Sub(other Instant) time.Duration { return time.Duration(m - other) }

// Time returns the instant by the system clock as it would read if it had never been set since the process began.
func (m Instant) Time() time.Time { return Started.Add(time.Duration(m)) }

// Steady returns t by the system clock as it would read if it had never been set since the process began. Times that are
// compared later must all come from here: then a clock that is set in between does not matter.
func Steady(t time.Time) time.Time { return Started.Add(t.Sub(Started)) }
