package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// A run has four parts, always in this order: members start and get to know each other and the targets, they rest, one target at a
// time dies and returns, and then many do. What a part measures is in figures, which print.go puts beside those of the other run.

const (
	// maxRate is how many probes a second the machine is expected to stand.
	maxRate = 12_000
	// readyWithin is how long members may take to know each other and all targets.
	readyWithin = 6 * time.Minute
	// votesWithin is how long they may take after that to have more than one vote on each target.
	votesWithin = 2 * time.Minute
	// settle is how long members are left alone after that: they have seats after 10 seconds, and probe at their pace after two
	// more intervals.
	settle = 10*time.Second + 2*interval
)

// figures are those of one run.
type figures struct {
	ready, whole  time.Duration // until all know all targets and all members, and all votes
	probes, least float64       // a target and interval, in the mean and at the target that had the fewest
	rest          rates
	memory, heap  float64   // bytes a member
	lags          []float64 // of one transition, in milliseconds behind the first member
	lostOnes      int       // how often a member never knew of one
	deaths        []death
	gaps, thin    float64 // what members have counted of what went wrong
	drops         map[string]float64

	storeMemory, storeData float64 // bytes of an etcd
}

// rates are what a member uses a second: a share of a core, bytes of the fleet, and packets. A packet that is received is one that
// another member has sent, so only the sent ones are printed.
type rates struct {
	cpu, sent, received, packets float64
	server                       serverUsage // all of an etcd
}

// death is what many deaths at once have cost.
type death struct {
	what        string
	count, lost int
	lags        []float64     // as in figures, of a sample of the names
	last        time.Duration // since they died, until the last member knew the last name of the sample
	rates
	bytes float64 // that a member has sent, in all
}

// since returns what a member has used a second since an earlier moment. Queries of this program are left out of the packets.
func (u usage) since(before usage, members, queries int) rates {
	seconds := u.at.Sub(before.at).Seconds()
	n := float64(members) * seconds
	return rates{(u.cpu - before.cpu) / n, (u.sent - before.sent) / n, (u.received - before.received) / n,
		(u.packets - before.packets - 2*float64(queries)) / n, u.server.since(before.server, seconds)}
}

// measure starts the members of a run and measures them.
func (w workload) measure(ctx context.Context) (*figures, error) {
	// Targets that the last run has left dead are alive again.
	began := time.Now()
	w.backend.reset()
	if err := w.backend.revive(); err != nil {
		return nil, err
	}
	if w.shared && w.etcd != "" {
		var err error
		if w.store, err = startStore(ctx, w.etcd, w.dir); err != nil {
			return nil, err
		}
		defer w.store.quit() // after the members, which say that they leave
	}
	members, err := w.startMembers()
	defer func() { stopAll(members) }()
	if err != nil {
		return nil, err
	}
	// What members do until now is not measured, apart from how long it takes: to read a zone and to start costs the same in both runs.
	f := new(figures)
	if err := w.awaitAll(ctx, members, false, readyWithin); err != nil {
		return nil, err
	}
	f.ready = time.Since(began)
	w.tell(began, "all know all targets")
	switch err := w.awaitAll(ctx, members, true, votesWithin); {
	case ctx.Err() != nil:
		return nil, err
	case err != nil: // it is a figure, and no reason to give up
		w.tell(began, err.Error())
	default:
		f.whole = time.Since(began)
	}
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}
	for i, part := range []func(context.Context, []*member, *figures) error{w.measureRest, w.measureOnes, w.measureMany} {
		if err := part(ctx, members, f); err != nil {
			return nil, err
		}
		w.tell(began, [...]string{"measured at rest", "measured single transitions", "measured many"}[i])
	}
	return f, w.takeFaults(members, f)
}

// tell tells what happens, since a run takes minutes.
func (w workload) tell(began time.Time, what string) {
	fmt.Printf("  %s: %s after %.0f s, load %s\n", w.word(), what, time.Since(began).Seconds(), load())
}

// Members that start together probe everything for themselves at first, and share when they have found each other. So all of them
// know all targets before they have seats.

// awaitAll returns when all members know that all targets are up, and know all others; if told so, only when no verdict rests on a
// single vote. While some do, members disagree on targets that are about to change. Then a member that lacks votes is early: it
// believes the first vantage point that finds a target down, and the others wait for the last one.
func (w workload) awaitAll(ctx context.Context, members []*member, votes bool, within time.Duration) error {
	began := time.Now()
	for {
		all := true
		var why string
		for _, m := range members {
			values, err := m.metrics()
			if err != nil {
				return err
			}
			up, alive, thin := int(values[`targets{state="up"}`]), int(values[`fleet_members{state="alive"}`]), int(values["fleet_thin_targets"])
			if up != w.targets() || w.shared && alive != len(members)-1 || votes && thin > 0 {
				all, why = false, fmt.Sprintf("%s has %d targets that are up, %d with one vote, and %d other members", m.address, up, thin, alive)
				break
			}
		}
		// The first member that is not ready is enough to go on waiting, so no more of them are asked.
		if all {
			return nil
		}
		if time.Since(began) > within {
			return fmt.Errorf("not ready after %s: %s", within, why)
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// Between parts members are left alone for a while. An interrupt ends the wait, and with it the run: its members are stopped, and
// nothing is printed of it.

// sleep waits, or returns early with the reason if the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// measureRest measures members that have nothing to say.
func (w workload) measureRest(ctx context.Context, members []*member, f *figures) error {
	w.backend.reset() // so that the target with the fewest probes is that of this time, which begins with what is taken next
	before, err := w.takeUsage(members)
	if err != nil {
		return err
	}
	if err := sleep(ctx, *rest); err != nil {
		return err
	}
	after, err := w.takeUsage(members)
	if err != nil {
		return err
	}
	// Waits are shortened by up to a tenth, so there are a little more probes than members that probe, in both runs.
	intervals := after.at.Sub(before.at).Seconds() / interval.Seconds()
	f.probes, f.least = float64(after.probes)/float64(w.targets())/intervals, float64(after.least)/intervals
	f.rest = after.since(before, len(members), 0)
	if *profile != "" {
		if err := members[0].saveProfile(filepath.Base(fmt.Sprintf("rest-%s-%d", w.word(), len(members))), *rest); err != nil {
			return err
		}
	}
	// A heap is collected when it has doubled, so the memory that the kernel sees depends on the moment. The heap after a
	// collection does not.
	var memory, heaps []float64
	for _, m := range members {
		bytes, err := measure.Memory(m.process.Process.Pid)
		if err != nil {
			return err
		}
		heap, err := m.heap()
		if err != nil {
			return err
		}
		memory, heaps = append(memory, float64(bytes)), append(heaps, heap)
	}
	f.memory, f.heap = measure.Median(memory), measure.Median(heaps)
	if w.store != nil {
		return w.store.weigh(f)
	}
	return nil
}

// measureOnes measures how long it takes until all know that one target has died, or returned: each time two at once, of
// different names. Without a fleet, a few are enough.
func (w workload) measureOnes(ctx context.Context, members []*member, f *figures) error {
	rounds := max(1, *transitions/4)
	if !w.shared {
		rounds = 1
	}
	for round := range rounds {
		// Each round has other targets: their vantage points are other members.
		first := 2 * round % max(1, w.names-1)
		names := []int{first, first + 1}
		for _, want := range []int{perName - 1, perName} {
			since := time.Now()
			err := w.backend.revive()
			if want < perName {
				err = w.backend.kill([]int{first * perName, (first + 1) * perName})
			}
			if err != nil {
				return err
			}
			// How long it takes to notice a death depends on when in the interval it comes, so the time is counted from the first
			// member whose answer changes. That is the last vantage point to notice, since it waits for no other vote.
			times, _, err := watch(ctx, members, names, want, since)
			if err != nil {
				return err
			}
			if w.shared {
				tellOutliers(members, names, times, want)
			}
			late, lost := lags(times)
			f.lags, f.lostOnes = append(f.lags, late...), f.lostOnes+lost
			if err := sleep(ctx, time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellOutliers prints who knew of a transition much earlier, or much later, than most others, if there is a fleet: these are what
// needs a reason. Members that have the votes of fewer vantage points than others are early.
func tellOutliers(members []*member, names []int, times [][]time.Duration, want int) {
	for i, name := range names {
		var all []float64
		for _, of := range times {
			all = append(all, of[i].Seconds())
		}
		half := measure.Median(slices.Clone(all))
		for m, at := range all {
			if at < half-1 || at > half+1 {
				fmt.Printf("    %s has %d addresses at %s after %.1f s, at most members after %.1f s\n", nameOf(name), want, members[m].address, at, half)
			}
		}
	}
}

// measureMany measures what happens when 1 000 targets, and then all, die at once and return.
func (w workload) measureMany(ctx context.Context, members []*member, f *figures) error {
	// Names are whole: a thousand are as many names as have a thousand targets that can die.
	sizes := []int{w.names}
	if some := (1000 + mortalPerName - 1) / mortalPerName; some < w.names {
		sizes = []int{some, w.names}
	}
	for _, names := range sizes {
		var dead []int
		for i := range names * perName {
			if i%perName != mortalPerName {
				dead = append(dead, i)
			}
		}
		for _, dies := range []bool{true, false} {
			d, err := w.measureDeath(ctx, members, names, dead, dies)
			if err != nil {
				return err
			}
			f.deaths = append(f.deaths, *d)
			w.tell(time.Now().Add(-d.last), fmt.Sprintf("%d targets %s", d.count, d.what))
			// After an interval all targets are probed at their usual pace again.
			if err := sleep(ctx, interval); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureDeath measures one such change. A sample of the names is watched all the time. When all members know the sample, all
// names are asked for, so that nothing that was lost stays unseen.
func (w workload) measureDeath(ctx context.Context, members []*member, names int, dead []int, dies bool) (*death, error) {
	// Whether targets die or return, all names are asked for the number of addresses that they have when all is over.
	d := &death{what: "return", count: len(dead)}
	want, change := perName, w.backend.revive
	if dies {
		d.what, want = "die", perName-mortalPerName
		change = func() error { return w.backend.kill(dead) }
	}
	before, err := w.takeUsage(members)
	if err != nil {
		return nil, err
	}
	since := time.Now()
	if err := change(); err != nil {
		return nil, err
	}
	// A profile begins with the deaths. Most are noticed within an interval and the fast probes that follow.
	var profiling sync.WaitGroup
	if *profile != "" {
		profiling.Go(func() {
			_ = members[0].saveProfile(fmt.Sprintf("%s-%d-%s-%d", d.what, d.count, w.word(), len(members)), interval+5*time.Second)
		})
	}
	// The sample is as large as can be asked for twice a second without keeping the members busy.
	var sample, all []int
	step := max(1, names*len(members)*2/queriesASecond)
	for i := range names {
		if all = append(all, i); i%step == 0 {
			sample = append(sample, i)
		}
	}
	times, queries, err := watch(ctx, members, sample, want, since)
	if err != nil {
		return nil, err
	}
	d.lags, _ = lags(times)
	d.last = latest(times)
	times, more, err := watch(ctx, members, all, want, since)
	if err != nil {
		return nil, err
	}
	_, d.lost = lags(times)
	after, err := w.takeUsage(members)
	if err != nil {
		return nil, err
	}
	profiling.Wait()
	// The time goes from the deaths to the end of the last query, so it is about the same in both runs.
	d.rates = after.since(before, len(members), queries+more)
	d.bytes = (after.sent - before.sent) / float64(len(members))
	return d, nil
}

// takeFaults takes what members have counted of what went wrong.
func (w workload) takeFaults(members []*member, f *figures) error {
	// Gaps are filled and drops may be copies, so none of this need be a fault. It is where to look if something was lost.
	f.drops = make(map[string]float64)
	for _, m := range members {
		values, err := m.metrics()
		if err != nil {
			return err
		}
		f.gaps += values["fleet_gaps_total"]
		f.thin = max(f.thin, values["fleet_thin_targets"])
		for series, n := range values {
			if reason, ok := strings.CutPrefix(series, "fleet_dropped_total"); ok && n > 0 {
				f.drops[reason] += n
			}
		}
	}
	return nil
}
