package follow

import "sync"

// Set is the files of one kind that one Corefile names. Files is one.
type Set interface {
	AwaitRead()
	Watch()
	Release()
	AwaitReleased()
}

// Group is all files that one Corefile names, of several kinds. Each method does what that of Files does; waits go on beside
// each other, so they last as long as one.
type Group []Set

// AwaitRead waits until the files have been read for the first time.
func (g Group) AwaitRead() { g.together(Set.AwaitRead) }

// Watch begins to watch the files.
func (g Group) Watch() {
	for _, s := range g {
		s.Watch()
	}
}

// Release stops watching.
func (g Group) Release() {
	for _, s := range g {
		s.Release()
	}
}

// AwaitReleased waits until no file is watched any more.
func (g Group) AwaitReleased() { g.together(Set.AwaitReleased) }

// together does the same for all sets at once.
func (g Group) together(do func(Set)) {
	var all sync.WaitGroup
	for _, s := range g {
		all.Go(func() { do(s) })
	}
	all.Wait()
}
