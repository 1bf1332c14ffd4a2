package web

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// A target that no answer led to belongs to the stanzas that name its check, some stanzas are listed and the others counted, and a
// change that all stanzas read has no note (B118).
func TestUnreadNotes(t *testing.T) {
	snap := &status.Snapshot{
		Targets: []status.Target{{Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Check: "tcp://", Pace: "p"}},
		Checks:  []status.Check{{Check: "tcp://", Pace: "p"}, {Check: "tcp://", Pace: "other", Stanzas: []string{"Corefile:99"}}},
	}
	made := func(state string, networks ...string) *acting.File {
		return &acting.File{File: "/f", Made: &acting.Line{State: state, Networks: networks}}
	}
	for i := range 6 {
		snap.Checks[0].Stanzas = append(snap.Checks[0].Stanzas, fmt.Sprint("Corefile:", i))
		snap.Summary.Stanzas = append(snap.Summary.Stanzas, status.Stanza{At: fmt.Sprint("Corefile:", i)})
	}
	notes := unreadNotes(snap, made("down", "2001:db8::/32"))
	if len(notes) != maxNotices+1 || notes[0] != "the stanza at Corefile:0 judges 2001:db8::/32, too, and does not read /f: nothing changes there" ||
		notes[maxNotices] != "the same holds for 2 more stanzas" {
		t.Errorf("%q", notes)
	}
	if got, want := strings.Join(unreadNotes(snap, made("drain", "192.0.2.1")), "; "), "nothing changes for names of stanzas that do not read /f: those at Corefile:0, Corefile:1, Corefile:2, Corefile:3 and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range snap.Summary.Stanzas {
		snap.Summary.Stanzas[i].Force = "/f"
	}
	for _, file := range []*acting.File{made("down", "2001:db8::1"), made("up", "192.0.2.1"), {File: "/f"}} {
		if got := unreadNotes(snap, file); got != nil {
			t.Errorf("%q", got)
		}
	}
	snap.Summary.Stanzas[1].Force = "/g"
	if got := unreadNotes(snap, made("release", "2001:db8::1")); got != nil {
		t.Errorf("nothing of the file was in force there: %q", got)
	}
	if got := unreadNotes(snap, made("up", "2001:db8::1")); len(got) != 1 || !strings.Contains(got[0], "Corefile:1 judges 2001:db8::1, too, and reads /g, and not /f") {
		t.Errorf("%q", got)
	}
}
