package status

import (
	"net/netip"
	"time"
)

// Question is what to explain the answer to.
type Question struct {
	Name   string
	Type   string       // such as A
	Client netip.Prefix // who asks; the zero value for nobody in particular
	DNSSEC bool         // with the signatures (the DO bit)
}

// Explanation is how an answer of one server block comes about, as it would go out now.
type Explanation struct {
	Block   string   `json:"server_block"` // its keys
	Stanza  string   `json:"stanza"`       // file and line; empty if none judges the name
	Zone    string   `json:"zone"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Rcode   string   `json:"rcode"` // as it goes out
	Outcome string   `json:"outcome"`
	Steps   []string `json:"steps"` // in the order in which they are taken
	Sets    []Set    `json:"sets"`
	Records []string `json:"records"` // of the answer section that goes out
}

// Set is what became of the records of one name and type.
type Set struct {
	Owner   string   `json:"owner"`
	Type    string   `json:"type"`
	Outcome string   `json:"outcome"`
	Why     string   `json:"why"`
	Kept    int      `json:"kept"`
	Total   int      `json:"total"`
	DryRun  bool     `json:"dry_run"`
	Members []Member `json:"members"`
	More    int      `json:"more,omitempty"` // members that are not listed, for there are too many
}

// Member is an address of a set, or a record of a host, and what is believed of it.
type Member struct {
	Member string  `json:"member"`
	Served bool    `json:"served"`
	Why    string  `json:"why"` // it goes out, or does not
	Tier   string  `json:"tier"`
	State  string  `json:"state"` // what it counts as
	Forced string  `json:"forced,omitempty"`
	Within bool    `json:"within"` // it may be probed
	Checks []Asked `json:"checks"`
	More   int     `json:"more,omitempty"` // addresses of a host whose checks are not listed
}

// Asked is what one check says of a member.
type Asked struct {
	Address netip.AddrPort `json:"address"`
	Check   string         `json:"check"`
	State   string         `json:"state"`
	Watched bool           `json:"watched"`
	Since   time.Time      `json:"since,omitzero"`
	Reason  string         `json:"reason,omitempty"`
	Streak  int            `json:"streak"`
	Needed  int            `json:"needed"`
}
