package verdict

import (
	"errors"
	"fmt"
	"time"
)

// Pace says how often a target is asked, and how many answers change a mind.
type Pace struct {
	Interval time.Duration // from the start of a probe to the start of the next, while nothing is in doubt
	Fast     time.Duration // the same while a change of mind is in the air
	Timeout  time.Duration // for a whole probe: connect, handshake and answer
	Rise     int           // successes in a row that make a down target up
	Fall     int           // failures that make an up target down
}

// Limits of a pace. The lower one keeps a typing error from turning a DNS server into a flood.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = 24 * time.Hour
	MinTimeout  = time.Millisecond
	MaxCount    = 65535
)

// Jitter is the largest share, in per cent, by which a wait is shortened. A wait is never lengthened, so that what is
// promised of the time to notice a dead target holds.
const Jitter = 10

// Check says what is wrong with the pace, in the Corefile's words.
func (p Pace) Check() error {
	switch {
	case p.Interval < MinInterval || p.Interval > MaxInterval:
		return fmt.Errorf("interval %s: want a duration from %s to %s", p.Interval, MinInterval, MaxInterval)
	case p.Fast < MinInterval:
		return fmt.Errorf("interval %s %s: the second duration, the fast one, is at least %s", p.Interval, p.Fast, MinInterval)
	case p.Fast > p.Interval:
		return fmt.Errorf("interval %s %s: the second duration, the fast one, is at most the first", p.Interval, p.Fast)
	case p.Timeout < MinTimeout:
		return fmt.Errorf("timeout %s: want at least %s", p.Timeout, MinTimeout)
	case p.Timeout > p.Interval:
		return fmt.Errorf("timeout %s is over the interval of %s: a probe ends before the next one is due", p.Timeout, p.Interval)
	case p.Rise < 1 || p.Rise > MaxCount || p.Fall < 1 || p.Fall > MaxCount:
		return errors.New("rise and fall are counts from 1 to 65535")
	}
	return nil
}

// String is the pace as it stands in an Identity.
func (p Pace) String() string {
	return fmt.Sprintf("every %s/%s timeout %s rise %d fall %d", p.Interval, p.Fast, p.Timeout, p.Rise, p.Fall)
}

// Bound is the longest that a target which answers no more stays up: one interval until it is asked, then Fall
// failures, each of which may take the whole timeout and the next of which starts a fast wait after the last.
func (p Pace) Bound() time.Duration {
	return p.Interval + time.Duration(p.Fall-1)*max(p.Fast, p.Timeout) + p.Timeout
}

// LongestHold is the longest that a verdict at this pace can be sure to hold.
func (p Pace) LongestHold() time.Duration {
	return p.Interval + time.Duration(max(p.Rise, p.Fall)-1)*p.Fast
}
