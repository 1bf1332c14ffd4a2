package fleet

// Engine carries what members say. It knows nothing of seats, folds or probes. How it finds members, says things twice, numbers
// them or keeps them is its own business: what arrives at the listeners of the others is what Listener says.
//
// Its methods do not wait: what cannot be sent is lost, and it is the engine that tells the others of a gap in votes. They are
// called by one goroutine, and keep no part of their arguments.
type Engine interface {
	// Announce says which groups this process shares from now on.
	Announce(groups Groups)
	// Say adds to the stream of this process, for all members that share the groups.
	Say(votes []Vote)
	// Answer repeats votes for one member that asked for them, as part of the stream.
	Answer(to string, votes []Vote)
	// Ask sends a want to vantage points. It may be lost: who still has no vote asks again.
	Ask(of []string, want Want)
	// Call sends a last call to all. It may be lost.
	Call(call Call)
	// Turn shows that the loop of this process turns and its probes are on time. Without it, the others hear it as silent. isolated
	// is whether this process doubts its own probes.
	Turn(isolated bool)
	// Leave says to all that this process stops, and ends the engine. It waits for that, for half a second at most. Nothing is told to
	// the listener after it has returned.
	Leave()
}

// Listener is told what happens in the fleet. An engine calls it from one goroutine, in the order in which things happened, and the
// listener must not wait.
//
// The votes of one author are a complete and ordered stream: those between two Heard are all that it said, in order. If one may be
// missing, the engine tells of Silent first, and of Heard once all that was missing has been told, or of Restarted and then of all
// the votes that the author has. Hearing a vote twice does no harm, if a later one of the same target follows again.
type Listener interface {
	// Met tells of a member that is there, or of what has changed of it.
	Met(Member)
	// Left tells that a member has left or died.
	Left(name string)
	// Heard tells that a member is well, and that its stream is complete up to now. It comes at least once a Beat.
	Heard(name string, epoch uint64, isolated bool)
	// Silent tells that nothing is heard of a member, or not all.
	Silent(name string)
	// Restarted tells that an author begins again: what it voted before is void.
	Restarted(name string, epoch uint64)
	// Said tells of a batch of what a member said (Decode).
	Said(name string, epoch uint64, batch []byte)
}
