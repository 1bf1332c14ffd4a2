package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// noon is the time at which these tests begin.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

var somePace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}

var someTerms = Terms{Check: "tcp://:80", Pace: somePace, Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
	Vantage: 3, Quorum: Defaults().Quorum}

// someGroup is the group of the members in these tests.
var someGroup = someTerms.Group()

// at is when, so many seconds after noon.
func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// target is a target of someGroup.
func target(i int) Target {
	return Target{Group: someGroup, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80)}
}

// here is a member that has been there for an hour, and shares someGroup. Its name may have a site: "a@ams".
func here(name string) Member {
	_, site, _ := strings.Cut(name, "@")
	return Member{Name: name, Epoch: 1, Site: site, Joined: at(-3600), Groups: Groups{someGroup: {}}}
}

// fleetOf is the roster of the first of these members, which has heard all others.
func fleetOf(names ...string) *Roster {
	r := NewRoster(here(names[0]), noon)
	for _, name := range names[1:] {
		r.Meet(here(name), noon)
		r.Heard(name, 1, false, noon)
	}
	return r
}

// numbered is a fleet of n members.
func numbered(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("member-%d", i))
	}
	return names
}

// seated are the names of the vantage points of a shard, best first.
func (s *Seats) seated(at Shard) (names []string) {
	row := s.row(at)
	for _, i := range row[:min(len(row), s.vantage)] {
		names = append(names, s.members[i].Name)
	}
	return names
}

// Each of the terms makes another group; the order of networks, their host bits and repeats do not. The value is the same in every process.
func TestGroup(t *testing.T) {
	if got := fmt.Sprintf("%x", someGroup); got != "eb69dcbff8451d29144ac17a2a2426e8" {
		t.Errorf("the group of the terms is %s: members of another version would have none in common with us", got)
	}
	same := someTerms
	same.Within = []netip.Prefix{netip.MustParsePrefix("2001:db8::1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/8")}
	if same.Group() != someGroup {
		t.Error("the order of the networks makes another group")
	}
	seen := map[Group]string{someGroup: "nothing"}
	for what, change := range map[string]func(*Terms){
		"check":       func(o *Terms) { o.Check = "tcp://:81" },
		"interval":    func(o *Terms) { o.Pace.Interval++ },
		"fall":        func(o *Terms) { o.Pace.Fall++ },
		"one network": func(o *Terms) { o.Within = o.Within[:1] },
		"no networks": func(o *Terms) { o.Within = nil },
		"vantage":     func(o *Terms) { o.Vantage = 2 },
		"share":       func(o *Terms) { o.Quorum.Percent = 51 },
		"count":       func(o *Terms) { o.Quorum = answer.Quorum{Count: 18} },
		"a line":      func(o *Terms) { o.Check += "\nvantage" },
	} {
		other := someTerms
		change(&other)
		if before, ok := seen[other.Group()]; ok {
			t.Errorf("a change of %s has the group of a change of %s", what, before)
		}
		seen[other.Group()] = what
	}
}

// Vantage and quorum have to make sense together.
func TestTermsValid(t *testing.T) {
	for _, tc := range []struct {
		vantage, count, percent int
		want                    string
	}{
		{3, 0, 18, ""}, {1, 1, 0, ""}, {3, 3, 0, ""}, {16, 0, 100, ""},
		{0, 0, 18, "invalid vantage 0: use a count from 1 to 16"},
		{17, 0, 18, "invalid vantage 17: use a count from 1 to 16"},
		{3, 0, 200, "invalid quorum 200%: use a share from 1% to 100%"},
		{3, 0, 0, "invalid quorum 0: use a count from 1, or a share, such as 18%"},
		{3, -1, 0, "invalid quorum -1: use a count from 1, or a share, such as 18%"},
		{3, 5, 0, "invalid quorum 5: there are 3 vantage points; use a count up to that, or a share, such as 18%"},
	} {
		terms := Terms{Vantage: tc.vantage, Quorum: answer.Quorum{Count: tc.count, Percent: tc.percent}}
		got := ""
		if err := terms.Valid(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("vantage %d quorum %s: %q, want %q", tc.vantage, terms.Quorum, got, tc.want)
		}
	}
}

// Every part of a target counts for its shard, targets are spread evenly, and a shard is the same in every process.
func TestShard(t *testing.T) {
	one := Target{Group: someGroup, Addr: netip.MustParseAddrPort("192.0.2.1:80"), Owner: "www.example.org."}
	if got := one.Shard(); got != 2914 {
		t.Errorf("shard %d: members of another version would disagree", got)
	}
	mapped := one
	mapped.Addr = netip.MustParseAddrPort("[::ffff:192.0.2.1]:80")
	if mapped.Shard() != one.Shard() {
		t.Error("an IPv4 address in IPv6 form has another shard")
	}
	hashes := map[uint64]string{one.hash(): "nothing"}
	for what, change := range map[string]func(*Target){
		"first half of the group":  func(o *Target) { o.Group[0]++ },
		"second half of the group": func(o *Target) { o.Group[15]++ },
		"address":                  func(o *Target) { o.Addr = netip.MustParseAddrPort("192.0.2.2:80") },
		"prefix":                   func(o *Target) { o.Addr = netip.MustParseAddrPort("[2001:db8::1]:80") },
		"port":                     func(o *Target) { o.Addr = netip.MustParseAddrPort("192.0.2.1:81") },
		"owner":                    func(o *Target) { o.Owner = "example.org." },
		"no owner":                 func(o *Target) { o.Owner = "" },
	} {
		other := one
		change(&other)
		if before, ok := hashes[other.hash()]; ok {
			t.Errorf("a change of %s has the hash of a change of %s", what, before)
		}
		hashes[other.hash()] = what
	}
	counts := make([]int, Shards)
	const each = 64
	for i := range each * Shards {
		counts[target(i).Shard()]++
	}
	if low, high := slices.Min(counts), slices.Max(counts); low < each/3 || high > 2*each {
		t.Errorf("shards have %d to %d targets, and %d in the mean", low, high, each)
	}
}

// What many would do at once they do at different times.
func TestSpread(t *testing.T) {
	const tenth = 200 * time.Millisecond
	var counts [10]int
	for _, name := range numbered(20) {
		r := fleetOf(name)
		for i := range 100 {
			counts[r.Spread(target(i), 10*tenth)/tenth]++
		}
	}
	for i, n := range counts {
		if n < 150 || n > 250 {
			t.Errorf("%d of 2000 come in tenth %d", n, i)
		}
	}
	one, again := fleetOf("a"), fleetOf("a", "b")
	if one.Spread(target(1), 0) != 0 || one.Spread(target(1), time.Second) != again.Spread(target(1), time.Second) {
		t.Error("the time is not the same each time")
	}
}
