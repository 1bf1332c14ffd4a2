package fleet

import (
	"cmp"
	"slices"
	"time"
)

// maxSeated is how many members of a group have seats at all. More vantage points add no knowledge, and what members say to each
// other grows with the number of those who say it.
const maxSeated = 64

// Seats says which members probe the targets of a shard for all: those with the highest hash of shard and member, one of each site
// before a second of any. Each member computes it for itself. If two differ in who is there, a target has a vantage point too many
// or too few for a while, which does no harm.
//
// The members that are seated do not change, but whether their votes count does, so it belongs to the loop of its roster.
type Seats struct {
	roster  *Roster
	vantage int
	self    int       // this process among the members, or -1
	members []*author // by name, at most maxSeated
	placed  []string  // their sites when the table was made
	width   int       // members in a row of order
	order   []uint8   // for each shard a row of members, best first: the vantage points, then their substitutes
	used    time.Time
}

// Seats returns the seats of a group with so many vantage points (1 to MaxVantage). Groups with the same members share a table, and
// it is computed only when those have changed. Call it once a second at most for each group.
func (r *Roster) Seats(g Group, vantage int, now time.Time) *Seats {
	members := limitSeated(r.eligible(g, now))
	key := mix(uint64(vantage))
	for _, a := range members {
		key = mix(key ^ a.hash)
	}
	s := r.seats[key]
	if s == nil || s.vantage != vantage || !slices.Equal(s.members, members) || !s.current() {
		s = newSeats(r, members, vantage)
		r.seats[key] = s
	}
	s.used = now
	for key, other := range r.seats { // a few
		if now.Sub(other.used) > time.Minute {
			delete(r.seats, key)
		}
	}
	return s
}

// limitSeated leaves out members if there are more than may be seated: those with the lowest hash, of the sites with the most.
func limitSeated(all []*author) []*author {
	if len(all) <= maxSeated {
		return all
	}
	slices.SortFunc(all, func(a, b *author) int {
		return cmp.Or(cmp.Compare(mix(b.hash), mix(a.hash)), compareNames(a, b))
	})
	place := make(map[*author]int, len(all)) // in its site
	inSite := make(map[string]int)
	for _, a := range all {
		place[a] = inSite[a.Site]
		inSite[a.Site]++
	}
	slices.SortStableFunc(all, func(a, b *author) int { return cmp.Compare(place[a], place[b]) })
	all = all[:maxSeated]
	slices.SortFunc(all, compareNames)
	return all
}

func compareNames(a, b *author) int { return cmp.Compare(a.Name, b.Name) }

// newSeats computes the table.
func newSeats(r *Roster, members []*author, vantage int) *Seats {
	s := &Seats{roster: r, vantage: vantage, self: slices.Index(members, r.self), members: members, width: min(vantage+substitutes, len(members))}
	s.order = make([]uint8, Shards*s.width)
	sites, count := s.sites()
	for shard := range Shard(Shards) {
		s.seat(shard, sites, count)
	}
	return s
}

// sites notes and numbers the sites of the members.
func (s *Seats) sites() (of [maxSeated]uint8, count int) {
	numbers := make(map[string]uint8)
	for i, a := range s.members {
		s.placed = append(s.placed, a.Site)
		if _, ok := numbers[a.Site]; !ok {
			numbers[a.Site] = uint8(len(numbers))
		}
		of[i] = numbers[a.Site]
	}
	return of, len(numbers)
}

// seat fills the row of one shard: the best member of each site, the best site first, then the others.
func (s *Seats) seat(shard Shard, sites [maxSeated]uint8, count int) {
	var score [maxSeated]uint64
	var first [maxSeated]uint8 // the best member of each site
	var known [maxSeated]bool
	key := mix(uint64(shard))
	for i, a := range s.members {
		score[i] = mix(key ^ a.hash)
		if site := sites[i]; !known[site] || score[i] > score[first[site]] {
			first[site], known[site] = uint8(i), true
		}
	}
	row := s.order[int(shard)*s.width:][:s.width]
	filled := insertBest(row, 0, first[:count], &score)
	if filled == len(row) {
		return
	}
	var others [maxSeated]uint8
	n := 0
	for i := range s.members {
		if first[sites[i]] != uint8(i) {
			others[n] = uint8(i)
			n++
		}
	}
	insertBest(row, filled, others[:n], &score)
}

// insertBest puts the members with the highest scores into the row behind those that are there, the best first. It returns how many
// are there then.
func insertBest(row []uint8, from int, members []uint8, score *[maxSeated]uint64) int {
	end := from
	for _, m := range members {
		at := end
		for at > from && score[row[at-1]] < score[m] {
			at--
		}
		if at == len(row) {
			continue
		}
		end = min(end+1, len(row))
		copy(row[at+1:end], row[at:])
		row[at] = m
	}
	return end
}

// current reports whether the members still stand where the table has them.
func (s *Seats) current() bool {
	for i, a := range s.members {
		if s.placed[i] != a.Site {
			return false
		}
	}
	return true
}

// row is the members that have a say on a shard, best first, as numbers in members.
func (s *Seats) row(at Shard) []uint8 { return s.order[int(at)*s.width:][:s.width] }

// HasSay reports whether this process is among the vantage points of a shard or their substitutes: then it takes wants.
func (s *Seats) HasSay(at Shard) bool {
	return s.self >= 0 && slices.Contains(s.row(at), uint8(s.self))
}

// Others are the names of the other vantage points of a shard, whether they have voted or not.
func (s *Seats) Others(at Shard) (names []string) {
	for _, i := range s.row(at)[:min(s.vantage, s.width)] {
		if int(i) != s.self {
			names = append(names, s.members[i].Name)
		}
	}
	return names
}

// HasSpare reports whether there are members that could take a seat which another cannot fill.
func (s *Seats) HasSpare() bool { return s.width > s.vantage }

// First reports whether this process is the best vantage point of a shard, which does for all what only one has to do.
func (s *Seats) First(at Shard) bool { return s.width > 0 && int(s.row(at)[0]) == s.self }

// Moved tells of a shard whether it has other vantage points or substitutes in s than in before, or in another order. All have if
// before is nil.
func (s *Seats) Moved(before *Seats) func(Shard) bool {
	var moved [Shards]bool
	for at := range Shard(Shards) {
		moved[at] = before == nil || !slices.EqualFunc(s.row(at), before.row(at), func(a, b uint8) bool { return s.members[a].Name == before.members[b].Name })
	}
	return func(at Shard) bool { return moved[at] }
}
