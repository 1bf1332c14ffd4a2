package inspect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// A set with many shared addresses has steps for some of them, those that are down first, and the number of the others (B113).
func TestVotesOnManyAddresses(t *testing.T) {
	set := status.Set{Members: []status.Member{{}}}
	for i := range maxVoteSteps + 3 {
		a := status.Asked{Check: fmt.Sprint("tcp://:", i), State: "up", Role: "seat", Fleet: "3 of 3 vantage points", Quorum: "18%"}
		switch i {
		case 5:
			a.State, a.Reason = "down", "timed out"
		case 6:
			a.State = "unknown"
		}
		set.Members[0].Checks = append(set.Members[0].Checks, a, status.Asked{Check: "udp", State: "down"})
	}
	var s sentences
	s.addVotes(&set)
	if len(s.Steps) != maxVoteSteps+1 || !strings.HasPrefix(s.Steps[0], "tcp://:5 ") || !strings.HasSuffix(s.Steps[0], "is down: 3 of 3 vantage points, timed out (quorum 18%)") ||
		!strings.HasPrefix(s.Steps[1], "tcp://:6 ") || s.Steps[maxVoteSteps] != "3 more addresses are shared with the fleet as well" {
		t.Errorf("%q", s.Steps)
	}
}
