package web

import (
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

func TestPlot(t *testing.T) {
	var h status.History
	for i := range status.HistoryLength {
		h.Add(time.Duration(i)*time.Millisecond, i%2 == 0)
	}
	h.Add(-time.Second, false)
	h.Add(24*time.Hour, true)
	d := plainPlot(h)
	if len(d.Bars) != status.HistoryLength || !strings.Contains(d.Text, "16 failed") {
		t.Errorf("%d bars: %s", len(d.Bars), d.Text)
	}
	for _, b := range d.Bars {
		if b.Y < 0 || b.Height < 1 || b.Y+b.Height > d.Height {
			t.Errorf("a bar lies outside: %+v", b)
		}
	}
}

func TestLastProbe(t *testing.T) {
	for probes, want := range map[string]string{
		"": "", "++": "last 1.7 ms", "--": "2 of 2 failed", "+-": "1 of 2 failed, including the last", "-+": "1 of 2 failed, last 1.7 ms",
	} {
		var h status.History
		for _, sign := range probes {
			h.Add(1700*time.Microsecond, sign == '-')
		}
		if got := probeSummary(h); got != want {
			t.Errorf("%s: %q, want %q", probes, got, want)
		}
	}
}
