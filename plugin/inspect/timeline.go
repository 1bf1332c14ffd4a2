package inspect

import (
	"context"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// History reads the timelines of targets of a snapshot, in their order, and what was recorded of the whole. A target that has none
// has nil.
func (v *Source) History(ctx context.Context, targets []*status.Target) (history.Reading, error) {
	if !v.pool.Running() {
		return history.Reading{Lines: make([]*history.Line, len(targets))}, nil
	}
	handles := make([]any, len(targets))
	for i, t := range targets {
		handles[i] = t.Handle
	}
	return v.pool.History(ctx, handles)
}
