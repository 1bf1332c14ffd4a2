package verdict

import (
	"errors"
	"fmt"
	"time"
)

// Pace says how often a target is probed, and how many results change its state.
type Pace struct {
	Interval time.Duration // from the start of one probe to the start of the next
	Fast     time.Duration // the same while the state is undecided, or the last results speak against it
	Timeout  time.Duration // for a whole probe: connect, handshake and answer
	Rise     int           // successes in a row that take a down target up
	Fall     int           // failures that take an up target down
}

// Limits of a pace. MinInterval keeps a typing error from flooding the targets with probes.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = 24 * time.Hour
	MinTimeout  = time.Millisecond
	MaxCount    = 65535
)

// Jitter is the most by which a wait may be shortened, in per cent. A wait is never lengthened, so Bound stays true.
const Jitter = 10

// Check returns what is wrong with the pace, in the words of the Corefile, or nil. Every pace in use has passed it.
func (p Pace) Check() error {
	switch {
	case p.Interval < MinInterval || p.Interval > MaxInterval:
		return fmt.Errorf("invalid interval %s: use a duration from %s to %s", p.Interval, MinInterval, MaxInterval)
	case p.Fast < MinInterval:
		return fmt.Errorf("invalid interval %s %s: the second duration, the fast interval, must be at least %s", p.Interval, p.Fast, MinInterval)
	case p.Fast > p.Interval:
		return fmt.Errorf("invalid interval %s %s: the second duration, the fast interval, must not exceed the first", p.Interval, p.Fast)
	case p.Timeout < MinTimeout:
		return fmt.Errorf("invalid timeout %s: use at least %s", p.Timeout, MinTimeout)
	case p.Timeout > p.Interval:
		return fmt.Errorf("invalid timeout %s: it must not exceed the interval of %s, since a probe ends before the next one starts", p.Timeout, p.Interval)
	case p.Rise < 1 || p.Rise > MaxCount || p.Fall < 1 || p.Fall > MaxCount:
		return errors.New("invalid rise or fall: use counts from 1 to 65535")
	}
	return nil
}

// String returns the pace as it is part of an Identity. The text must stay stable: a change loses the history of targets
// over a reload.
func (p Pace) String() string {
	return fmt.Sprintf("every %s/%s timeout %s rise %d fall %d", p.Interval, p.Fast, p.Timeout, p.Rise, p.Fall)
}

// Bound is the longest that a target stays up after it stops answering: one interval until the next probe, then Fall
// failures. Each failure may take the whole timeout, and a probe starts a fast wait after the start of the last one, or
// when the last one ended, if that is later.
func (p Pace) Bound() time.Duration {
	return p.Interval + time.Duration(p.Fall-1)*max(p.Fast, p.Timeout) + p.Timeout
}

// Early is the wait between the first probes of a target without a state: a quarter of the fast interval, but at least
// MinInterval, so that a new address that is dead is known soon after it was learned.
func (p Pace) Early() time.Duration { return max(p.Fast/4, MinInterval) }

// Idle is the interval for a target that no query asks for: ten times as long, but five minutes at most, and never shorter
// than the interval itself.
func (p Pace) Idle() time.Duration { return max(p.Interval, min(10*p.Interval, 5*time.Minute)) }

// LongestHold is an upper bound of Verdict.Holds at this pace. Use it to say which TTLs are possible at all.
func (p Pace) LongestHold() time.Duration {
	return p.Interval + time.Duration(max(p.Rise, p.Fall)-1)*p.Fast
}
