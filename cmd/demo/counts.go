package main

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Here is how the scene with a fleet counts probes. It does not ask CoreDNS, whose own figures it would have to believe: the web
// servers count what arrives. Each member sends its name in a header, so they know who probes.

// counts are how often each web server was probed by each member, at a moment.
type counts struct {
	at   time.Time
	webs []map[string]int
}

// probesSoFar takes the counters of all web servers.
func (f *fleet) probesSoFar() counts {
	c := counts{at: time.Now()}
	for _, w := range f.webs {
		c.webs = append(c.webs, w.probes())
	}
	return c
}

// window is what has arrived between two moments.
type window struct {
	lasts time.Duration
	webs  []map[string]int // without members that have not probed
}

// minus returns what has arrived since an earlier count.
func (c counts) minus(earlier counts) window {
	w := window{lasts: c.at.Sub(earlier.at)}
	for i, now := range c.webs {
		probes := make(map[string]int)
		for name, n := range now {
			if n -= earlier.webs[i][name]; n > 0 {
				probes[name] = n
			}
		}
		w.webs = append(w.webs, probes)
	}
	return w
}

// isShared reports whether each web server was probed by as many members as there are vantage points, and by each of them as
// often as the interval says: waits are shortened by up to a tenth, and a probe may be late at either end.
func (f *fleet) isShared(w window) bool {
	// Half an interval is not counted: a window is a little longer than countFor.
	intervals := int(w.lasts / pace.Interval)
	return !slices.ContainsFunc(w.webs, func(probes map[string]int) bool {
		few := func(n int) bool { return n < intervals-1 || n > intervals+2 }
		return len(probes) != vantage || slices.ContainsFunc(slices.Collect(maps.Values(probes)), few)
	})
}

// printProbes prints a table of who has probed each web server, and how often that is an interval.
func (f *fleet) printProbes(w window) {
	f.printLine("Probes in the last %.1f s:", w.lasts.Seconds())
	for i, probes := range w.webs {
		line, sum := "", 0
		for _, m := range f.members {
			line += fmt.Sprintf("   by %s: %d", m.name, probes[m.name])
			sum += probes[m.name]
		}
		f.printLine("  of %-17s%s   = %.1f an interval of %s", f.webs[i].addr(), line, float64(sum)*pace.Interval.Seconds()/w.lasts.Seconds(), pace.Interval)
	}
}

// probesBy is how many probes of a member have arrived at all web servers.
func (f *fleet) probesBy(name string) (sum int) {
	for _, w := range f.webs {
		sum += w.probes()[name]
	}
	return sum
}
