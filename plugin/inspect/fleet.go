package inspect

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// Where a check is shared with a fleet, the votes of its vantage points make the state. These sentences say how many of them agree with
// the state, why those that find an address down do so, and what this server does about the address itself. They are made of what the
// pool shows of a target: nothing is counted here that the fold did not count.

// maxVoteSteps is how many targets of a set have a step that says how the votes on them count.
const maxVoteSteps = 8

// addShared adds to what is known of a check how the fleet judges the target.
func addShared(a *status.Asked, t *status.Target) {
	if t.Shared != nil {
		a.Role, a.Quorum, a.Fleet = t.Role, t.Quorum, t.VoteText()
	}
}

// addVotes says how the votes on the targets of a set count, for those first that are not up. A set may have hundreds of targets, and most
// of them are up by all votes, so that only the first ones get a step of their own.
func (s *sentences) addVotes(set *status.Set) {
	var shared []*status.Asked
	for i := range set.Members {
		for j := range set.Members[i].Checks {
			if a := &set.Members[i].Checks[j]; a.Fleet != "" {
				shared = append(shared, a)
			}
		}
	}
	rank := map[string]int{"down": -1, "up": 1} // what is not decided is in between
	slices.SortStableFunc(shared, func(a, b *status.Asked) int { return cmp.Compare(rank[a.State], rank[b.State]) })
	for i, a := range shared {
		if i == maxVoteSteps {
			s.step("%s shared with the fleet as well", text.Counted(len(shared)-i, "more address is", "more addresses are"))
			return
		}
		s.step("%s", voteStep(a))
	}
}

// fleetPrefix is what comes before the reason why a target is down: how many of the votes say so, if any counts.
func fleetPrefix(a *status.Asked) string {
	if a.Fleet == "" || a.Role == "alone" {
		return ""
	}
	return a.Fleet + ", "
}

// voteStep says how the votes on one target count. The quorum tells how many of them must find it up; where no vote is heard, it has no
// part in the state.
func voteStep(a *status.Asked) string {
	words := fmt.Sprintf("%s at %s is %s: %s", a.Check, a.Address, a.State, a.FleetText())
	if a.Role == "alone" {
		return words
	}
	return fmt.Sprintf("%s (quorum %s)", words, a.Quorum)
}
