package etcd

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// maxPart is the longest value of a part, in bytes. Etcd takes requests of 1.5 MiB.
const maxPart = 1 << 20

// opinion is what makes a vote another one than before. Its age grows by itself, and how long it holds is no news.
type opinion struct {
	state       verdict.State
	shed, doubt uint8
	drained     bool
	reason      string
}

func opinionOf(v *fleet.Vote) opinion { return opinion{v.State, v.Shed, v.Doubt, v.Drained, v.Reason} }

// votesIn are the votes in the value of a part, each target once. What makes no sense, or is no target of this part, is left out; ok
// is false for a value that is damaged as a whole.
func votesIn(raw []byte, part uint8) (all []fleet.Vote, places map[fleet.Target]int, ok bool) {
	if len(raw) == 0 {
		return nil, nil, true
	}
	places = make(map[fleet.Target]int)
	err := fleet.Decode(raw, fleet.Reader{Vote: func(v fleet.Vote) {
		if partOf(v.Target) != part || v.State == verdict.Unknown {
			return
		}
		if i, known := places[v.Target]; known {
			all[i] = v
			return
		}
		places[v.Target] = len(all)
		all = append(all, v)
	}})
	return all, places, err == nil
}

// differences are the votes that are other ones in the value after than in the one before, and those that it lacks, as votes that are
// withdrawn.
func differences(before, after []byte, part uint8) (changed []fleet.Vote) {
	old, oldPlaces, _ := votesIn(before, part)
	all, places, _ := votesIn(after, part)
	for i := range all {
		if at, known := oldPlaces[all[i].Target]; !known || opinionOf(&old[at]) != opinionOf(&all[i]) {
			changed = append(changed, all[i])
		}
	}
	for i := range old {
		if _, still := places[old[i].Target]; !still {
			changed = append(changed, fleet.Vote{Target: old[i].Target})
		}
	}
	return changed
}

// pendingVote is a vote of this process that is not written yet.
type pendingVote struct {
	vote fleet.Vote
	at   time.Time // when it was said
	to   string    // who has asked for it; empty if it is for all
}

// ownPart is a part of what this process says. It belongs to the writer.
type ownPart struct {
	raw   []byte    // as it was written last; empty for no votes
	aged  time.Time // up to when the ages in it are counted
	spent time.Time // up to when the times that votes hold are counted, in whole seconds
	rev   int64     // of the last write; 0 if there was none
	force bool      // another process has changed it
}

// revise returns the value of the part with votes that are new. again is whether it has to be written: nothing is written for votes
// that are as before. What cannot be a vote for all is given to answer.
func (p *ownPart) revise(part uint8, said map[fleet.Target]pendingVote, now time.Time, answer func(pendingVote)) (next ownPart, again bool) {
	all, places, _ := votesIn(p.raw, part)
	// Times that votes hold are in seconds, and would lose the rest of one with each write.
	whole := now.Sub(p.spent) / time.Second * time.Second
	for i := range all {
		all[i].Age += now.Sub(p.aged)
		all[i].Holds = max(0, all[i].Holds-whole)
	}
	again = p.force
	for t, s := range said {
		v := s.vote
		v.Age, v.Holds = v.Age+now.Sub(s.at), max(0, v.Holds-now.Sub(s.at))
		i, known := places[t]
		switch {
		case known && opinionOf(&all[i]) == opinionOf(&v):
		case known:
			all[i], again = v, true
		case v.State == verdict.Unknown:
		case s.to != "" && v.State == verdict.Unchecked:
			answer(s) // nothing would take it back
		default:
			all, again = append(all, v), true
		}
	}
	if !again {
		return *p, false
	}
	// Each group is named once.
	slices.SortStableFunc(all, func(a, b fleet.Vote) int { return a.Target.Group.Compare(b.Target.Group) })
	batch := fleet.Batch{Max: maxPart}
	for i := range all {
		if all[i].State != verdict.Unknown {
			batch.Vote(all[i]) // what has no room has no vote here
		}
	}
	next = ownPart{raw: batch.Bytes(), aged: now, spent: p.spent.Add(whole), rev: p.rev}
	if len(p.raw) == 0 {
		next.spent = now
	}
	return next, true
}
