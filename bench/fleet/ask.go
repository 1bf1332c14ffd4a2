package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// What a member knows is asked by DNS: a death is known when it has left the answers, whatever the member says of itself. Nothing
// of the member's own figures is read while a change spreads, because to gather them would cost it more than some queries do.

const (
	// inFlight is how many queries are sent to a member before their answers are read, and answersWithin how long these may take.
	inFlight      = 32
	answersWithin = time.Second
	// queriesASecond is how many queries are sent to all members together, about: they must not be what keeps the machine busy.
	queriesASecond = 4000
	// knownWithin is how long to wait until all know, before a death counts as lost.
	knownWithin = 90 * time.Second
)

// watch waits until the answers of all members for some names have as many addresses as wanted. It returns for each member and
// name when that was, as time since a moment; and the number of queries. A negative time is a name that a member never knew.
func watch(ctx context.Context, members []*member, names []int, want int, since time.Time) (times [][]time.Duration, queries int, err error) {
	pause := time.Duration(len(members)*len(names)) * time.Second / queriesASecond
	times = make([][]time.Duration, len(members))
	errs, counts := make([]error, len(members)), make([]int, len(members))
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	// Each member has a goroutine of its own, so that one that is slow does not hold back what is known of the others.
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			times[i], counts[i], errs[i] = m.watch(ctx, names, want, since, max(pause, 10*time.Millisecond), time.Duration(i)*pause/time.Duration(len(members)))
		})
	}
	all.Wait()
	for i := range members {
		queries += counts[i]
		if errs[i] != nil {
			err = errs[i]
		}
	}
	return times, queries, err
}

// watch does that for one member. It asks for all names that are not as wanted yet, then pauses. The first time it waits, so that
// not all members are asked at the same moments.
func (m *member) watch(ctx context.Context, names []int, want int, since time.Time, pause, first time.Duration) (times []time.Duration, queries int, err error) {
	conn, err := net.Dial("udp", m.on(dnsPort))
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	times = make([]time.Duration, len(names))
	open := make([]int, len(names)) // indexes of names
	for i := range names {
		times[i], open[i] = -1, i
	}
	// Names leave the list when they are as wanted, so the pauses get shorter than the time that the queries take.
	for wait := first; len(open) > 0; wait = pause {
		select {
		case <-ctx.Done():
			return times, queries, nil
		case <-time.After(wait):
		}
		var still []int
		for some := range slices.Chunk(open, inFlight) {
			known, err := ask(conn, names, some, want)
			if err != nil {
				return times, queries, fmt.Errorf("%s: %w", m.address, err)
			}
			queries += len(some)
			for _, i := range some {
				if slices.Contains(known, i) {
					times[i] = time.Since(since)
				} else {
					still = append(still, i)
				}
			}
		}
		open = still
	}
	return times, queries, nil
}

// The more members and names there are, the more seldom each is asked, and the less exact the times are. A time is too long by up to
// a pause: 10 milliseconds for two names and ten members, 25 for fifty members, and half a second for a sample of many names.

// ask sends a query for each of some names, reads the answers, and returns those that have as many addresses as wanted. An answer
// that is lost is a name that is not known yet.
func ask(conn net.Conn, names, some []int, want int) (known []int, err error) {
	for _, i := range some {
		q := new(dns.Msg).SetQuestion(nameOf(names[i]), dns.TypeA)
		q.Id = uint16(i)
		packet, err := q.Pack()
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(packet); err != nil {
			return nil, err
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(answersWithin))
	// An answer that comes too late is read in the next turn, as one of a name that is asked for again, or is known.
	buffer := make([]byte, 4096)
	for range some {
		n, err := conn.Read(buffer)
		if err != nil {
			return known, nil
		}
		// The header is enough: the number of records in the answer, and the number of the query.
		id, records := int(buffer[0])<<8|int(buffer[1]), int(buffer[6])<<8|int(buffer[7])
		if n >= 12 && records == want {
			known = append(known, id)
		}
	}
	return known, nil
}

// lags returns how much later than the first member each of the others knew each name, in milliseconds, and how many never did.
func lags(times [][]time.Duration) (all []float64, lost int) {
	for name := range times[0] {
		first := time.Duration(math.MaxInt64)
		for _, of := range times {
			if of[name] >= 0 {
				first = min(first, of[name])
			}
		}
		skipped := false // the first itself is none of the others
		for _, of := range times {
			switch {
			case of[name] < 0:
				lost++
			case of[name] == first && !skipped:
				skipped = true
			default:
				all = append(all, float64((of[name]-first).Microseconds())/1e3)
			}
		}
	}
	return all, lost
}

// latest is the end of it: when the last member knew the last name.
func latest(times [][]time.Duration) (last time.Duration) {
	for _, of := range times {
		last = max(last, slices.Max(of))
	}
	return last
}
