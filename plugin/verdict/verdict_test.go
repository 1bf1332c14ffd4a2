package verdict

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestIdentity(t *testing.T) {
	a, b := Identify("tcp://:80 every 10s", 0), Identify(strings.Clone("tcp://:80 every 10s"), 0)
	if a != b {
		t.Error("the same text gives two identities")
	}
	if a == Identify("tcp://:80 every 10s", 1) {
		t.Error("two secrets give one identity")
	}
	if a == Identify("tcp://:81 every 10s", 0) {
		t.Error("two texts give one identity")
	}
	target := Target{Identity: a, Addr: netip.MustParseAddrPort("[2001:db8::1]:80")}
	if got, want := target.String(), "[2001:db8::1]:80 tcp://:80 every 10s"; got != want {
		t.Errorf("target prints as %q, want %q", got, want)
	}
	if got := (Identity{}).String(); got != "" {
		t.Errorf("the zero identity prints as %q", got)
	}
}

func TestStates(t *testing.T) {
	for state, want := range map[State]string{Unknown: "unknown", Unchecked: "unchecked", Up: "up", Down: "down"} {
		if state.String() != want {
			t.Errorf("state %d prints as %q, want %q", state, state, want)
		}
		if state.Fit() != (state != Down) {
			t.Errorf("%s: fit is %t", state, state.Fit())
		}
	}
}

func TestPace(t *testing.T) {
	good := Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 3 * time.Second, Rise: 2, Fall: 3}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	if got, want := good.String(), "every 10s/2s timeout 3s rise 2 fall 3"; got != want {
		t.Errorf("pace prints as %q, want %q", got, want)
	}
	// interval + 2 × max(fast, timeout) + timeout
	if got, want := good.Bound(), 19*time.Second; got != want {
		t.Errorf("bound is %s, want %s", got, want)
	}
	for _, tc := range []struct {
		want string
		edit func(*Pace)
	}{
		{"interval 0s", func(p *Pace) { p.Interval = 0 }},
		{"interval 25h", func(p *Pace) { p.Interval = 25 * time.Hour }},
		{"must not exceed the first", func(p *Pace) { p.Fast = 11 * time.Second }},
		{"the fast interval, must be at least", func(p *Pace) { p.Fast = 0 }},
		{"timeout 0s", func(p *Pace) { p.Timeout = 0 }},
		{"must not exceed the interval", func(p *Pace) { p.Timeout = 11 * time.Second }},
		{"rise or fall", func(p *Pace) { p.Rise = 0 }},
		{"rise or fall", func(p *Pace) { p.Rise = 65536 }},
		{"rise or fall", func(p *Pace) { p.Fall = -1 }},
		{"rise or fall", func(p *Pace) { p.Fall = 65536 }},
	} {
		bad := good
		tc.edit(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want one that says %q", bad, err, tc.want)
		}
	}
}
