package inspect

import (
	"fmt"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// Backends may say how much of their weight they want, and that they want no clients. These sentences tell that from what the
// Corefile and the force file say.

// wantedText says how much of the weight of a member its backend wants, if that is not all of it.
func wantedText(m *status.Member) string {
	if m.Reported == nil {
		return ""
	}
	return fmt.Sprintf(", of which its backend wants %d%%", *m.Reported)
}

// drainText says why a member is drained, unless a file forces it.
func drainText(m *status.Member) string {
	if m.Tier != "drained" || m.Forced == "drain" {
		return ""
	}
	for _, a := range m.Checks {
		if a.Drained && a.Said != "" {
			return ": " + a.Said
		}
	}
	return ""
}

// addReport adds to what is known of a check what the backend has said in answer to it.
func addReport(a *status.Asked, t *status.Target) {
	a.Weight, a.Drained, a.Said = t.Weight, t.Drained, t.Said
}
