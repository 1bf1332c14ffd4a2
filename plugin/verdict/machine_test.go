package verdict

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var pace = Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}

var errRefused = errors.New("connection refused")

// play steps a new machine through outcomes, `+` for a success and `-` for a failure. It writes the state after each: U up,
// D down, ? unknown, in lower case while a result speaks against the state. It returns the waits, too.
func play(p Pace, outcomes string) (states string, waits []time.Duration) {
	var m Machine
	var line strings.Builder
	now := time.Unix(1e9, 0)
	for _, o := range strings.Fields(outcomes) {
		var outcome error
		if o == "-" {
			outcome = errRefused
		}
		v, wait := m.Step(p, outcome, now)
		letter := map[State]string{Unknown: "?", Up: "U", Down: "D"}[v.State]
		if wait == p.Fast {
			letter = strings.ToLower(letter)
		}
		line.WriteString(" " + letter)
		waits = append(waits, wait)
		now = now.Add(wait)
	}
	return strings.TrimSpace(line.String()), waits
}

func TestMachine(t *testing.T) {
	one := Pace{Interval: time.Second, Fast: time.Second / 2, Timeout: time.Second / 2, Rise: 1, Fall: 1}
	for _, tc := range []struct {
		name, outcomes, want string
		pace                 Pace
	}{
		{"unknown is up at its first success", "+ +", "U U", pace},
		{"unknown is down only after fall failures", "- - - -", "? ? D D", pace},
		{"one success ends a doubt at the start", "- - + +", "? ? U U", pace},
		{"an up target goes down at the third failure", "+ - - - -", "U u u D D", pace},
		{"failures add up over a single success", "+ - - + -", "U u u u D", pace},
		{"rise successes in a row wipe the failures", "+ - - + + - - -", "U u u u U u u D", pace},
		{"every other probe failing does go down", "+ - + - + -", "U u u u u D", pace},
		{"a down target needs rise successes in a row", "- - - + - + +", "? ? D d D d U", pace},
		{"up again with a clean slate", "- - - + + - - + + +", "? ? D d U u u u U U", pace},
		{"rise 1 fall 1", "+ - + -", "U D U D", one},
		{"fall 65535", "+ " + strings.Repeat("- ", 65534), "U" + strings.Repeat(" u", 65534), with(pace, 2, 65535)},
		{"the 65535th failure", strings.Repeat("- ", 65535), strings.Repeat("? ", 65534) + "D", with(pace, 2, 65535)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, _ := play(tc.pace, tc.outcomes); got != tc.want {
				t.Errorf("outcomes %s\n     got %s\n    want %s", tc.outcomes, got, tc.want)
			}
		})
	}
}

func with(p Pace, rise, fall int) Pace {
	p.Rise, p.Fall = rise, fall
	return p
}

// A target that answers every other probe may change its state, but not with every probe.
func TestMachineFlapping(t *testing.T) {
	states, _ := play(pace, strings.Repeat("+ - ", 1000))
	if !strings.HasSuffix(states, "D") {
		t.Fatalf("a target that fails every other probe ends up %q, want down", states[len(states)-3:])
	}
	upper := strings.ToUpper(states)
	if changes := strings.Count(upper, "U D") + strings.Count(upper, "D U"); changes != 1 {
		t.Errorf("%d transitions in 2000 probes, want 1", changes)
	}
}

func TestMachineReason(t *testing.T) {
	var m Machine
	now := time.Unix(1e9, 0)
	step := func(outcome error) Verdict {
		v, _ := m.Step(pace, outcome, now)
		now = now.Add(time.Second)
		return v
	}
	if v := step(errRefused); v.State != Unknown || v.Reason != "connection refused" || !v.Since.IsZero() {
		t.Errorf("after the first failure: %+v", v)
	}
	step(errors.New("second"))
	down := step(errors.New("third"))
	if down.State != Down || down.Reason != "third" || !down.Since.Equal(time.Unix(1e9+2, 0)) {
		t.Errorf("after three failures: %+v", down)
	}
	if v := step(nil); v.State != Down || v.Reason != "third" || v.Since != down.Since {
		t.Errorf("a single success of a down target: %+v, want it down for the same reason since the same time", v)
	}
	if v := step(nil); v.State != Up || v.Reason != "" || !v.Since.Equal(time.Unix(1e9+4, 0)) {
		t.Errorf("back up: %+v", v)
	}
	if v := step(errRefused); v.State != Up || v.Reason != "connection refused" {
		t.Errorf("up in doubt: %+v", v)
	}
	step(nil)
	if v := step(nil); v.Reason != "" {
		t.Errorf("the doubt is over, but the reason is still %q", v.Reason)
	}
}

func TestHolds(t *testing.T) {
	for _, tc := range []struct {
		outcomes string
		want     time.Duration
	}{
		{"-", 1800 * time.Millisecond},                 // unknown: the next probe may decide
		{"+", 9*time.Second + 2*1800*time.Millisecond}, // three failures from down
		{"+ -", 2 * 1800 * time.Millisecond},           // two
		{"+ - -", 1800 * time.Millisecond},             // one
		{"- - -", 9*time.Second + 1800*time.Millisecond},
		{"- - - +", 1800 * time.Millisecond},
	} {
		var m Machine
		var v Verdict
		for _, o := range strings.Fields(tc.outcomes) {
			var outcome error
			if o == "-" {
				outcome = errRefused
			}
			v, _ = m.Step(pace, outcome, time.Unix(1e9, 0))
		}
		if v.Holds != tc.want {
			t.Errorf("after %s: holds for %s, want %s", tc.outcomes, v.Holds, tc.want)
		}
	}
}

// No sequence of outcomes changes a state before the time that the last verdict promised, however jitter shortens the waits.
func TestHoldsIsAPromise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := Pace{Interval: 10 * time.Second, Fast: time.Duration(1+rng.IntN(10)) * time.Second, Timeout: time.Second,
			Rise: 1 + rng.IntN(4), Fall: 1 + rng.IntN(4)}
		var m Machine
		now := time.Unix(1e9, 0)
		state, sure := Unknown, now
		for range 40 {
			var outcome error
			if rng.IntN(2) == 0 {
				outcome = errRefused
			}
			v, wait := m.Step(p, outcome, now)
			if v.State != state && now.Before(sure) {
				t.Fatalf("pace %s: %s became %s %s before it could", p, state, v.State, sure.Sub(now))
			}
			if held := now.Add(v.Holds); v.State != state || held.After(sure) {
				sure = held
			}
			state = v.State
			now = now.Add(wait * time.Duration(100-rng.IntN(Jitter+1)) / 100)
		}
	}
}

func TestResume(t *testing.T) {
	since := time.Unix(1e9, 0)
	m := Resume(Verdict{State: Down, Since: since, Reason: "connection refused"})
	v, wait := m.Step(pace, nil, since.Add(time.Hour))
	if v.State != Down || v.Since != since || wait != pace.Fast {
		t.Errorf("one success after resuming a down target: %+v, next in %s", v, wait)
	}
}
