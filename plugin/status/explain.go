package status

import (
	"net/netip"
	"time"
)

// Question is the query whose answer is explained.
type Question struct {
	Name   string       // fully qualified, in lower case
	Type   string       // such as A
	Client netip.Prefix // where the query comes from; the zero value if it is not known
	DNSSEC bool         // the query has the DO bit, so signatures are in the answer
}

// Explanation says how one server block would answer a question now, and why. Nothing in it is cached, and making it
// changes nothing: it does not count as a query.
type Explanation struct {
	Block   string   `json:"server_block"` // the keys of the server block
	Stanza  string   `json:"stanza"`       // its file and line; empty if the stanza exempts the name
	Zone    string   `json:"zone"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Rcode   string   `json:"rcode"`             // of the answer as it is served; empty if nothing was asked
	Outcome string   `json:"outcome"`           // of the worst set
	Checked bool     `json:"checked"`           // a check said of any address whether it is up or down
	Health  string   `json:"health,omitempty"`  // as in Last; of the worst set
	DryRun  bool     `json:"dry_run"`           // the outcome is what would have become of the answer, and no set has a worse one
	Site    string   `json:"site,omitempty"`    // of the client, if a stanza goes by sites (select nearest)
	SiteBy  string   `json:"site_by,omitempty"` // what decided that: a network or a label
	Steps   []string `json:"steps"`             // sentences, in the order in which the answer comes about
	Sets    []Set    `json:"sets"`
	Records []string `json:"records"` // of the answer section as it is served, as in a zone file
	// Message is the whole answer as dig prints it, with its header; empty if nothing was asked. Text is the stanza as it is
	// written, without comments and secrets.
	Message string `json:"message,omitempty"`
	Text    string `json:"stanza_text,omitempty"`
}

// Set says what happens to the records of one name and type.
type Set struct {
	Owner   string   `json:"owner"`
	Type    string   `json:"type"`
	Outcome string   `json:"outcome"`
	Checked bool     `json:"checked"`
	Health  string   `json:"health,omitempty"` // as in Last
	Why     string   `json:"why"`
	Kept    int      `json:"kept"`  // members that are served
	Total   int      `json:"total"` // members that are different
	DryRun  bool     `json:"dry_run"`
	Sites   []Site   `json:"sites,omitempty"` // of its members, the nearest one first
	Policy           // by which it was decided
	Members []Member `json:"members"`
	// Fallback is the name whose addresses are served in place of the members, none of which is up; empty in other cases.
	Fallback string `json:"fallback,omitempty"`
	More     int    `json:"more,omitempty"` // members that are not listed, since an explanation has a limit
}

// Policy is how many members of a set are served, and what that means here. The zero value is that of a set that was not judged.
type Policy struct {
	Limit     int      `json:"limit,omitempty"`     // greatest number of members that are served; 0 for all
	MinUp     int      `json:"min_up,omitempty"`    // if fewer primaries are fit, others are served too
	Primaries int      `json:"primaries,omitempty"` // members that are neither backup nor drained, fit or not
	Fit       int      `json:"fit,omitempty"`       // of these, the ones that are not down
	Meaning   []string `json:"meaning,omitempty"`   // sentences
}

// Site says what a set has in one site.
type Site struct {
	Site  string `json:"site"` // empty for addresses in no site
	Fit   int    `json:"fit"`  // members that are not down
	Kept  int    `json:"kept"` // members that are served
	Total int    `json:"total"`
}

// Member is one address of a set, or one record that names a host.
type Member struct {
	Member string `json:"member"` // the address, or the data of the record
	Served bool   `json:"served"`
	Why    string `json:"why"` // it is served, or not
	Site   string `json:"site,omitempty"`
	Tier   string `json:"tier"`
	Rank   int    `json:"rank,omitempty"` // of a backup that is fit
	State  string `json:"state"`          // after forced states and the quorum of its checks
	Force
	Weight   int      `json:"weight,omitempty"`          // in the draw, as are the next two; 0 if nothing was drawn
	Warmup   float64  `json:"warmup,omitempty"`          // how much of its weight it has reached, from 0.01 to 1
	First    float64  `json:"first,omitempty"`           // how likely it is to be the first address of its tier
	Share    *float64 `json:"share,omitempty"`           // how likely it is to be in an answer; nil if that is not known
	Leads    *float64 `json:"first_share,omitempty"`     // how likely it is to be the first in an answer; nil if its order is not drawn
	Reported *uint8   `json:"reported_weight,omitempty"` // how much of its weight the backend wants, in per cent; nil for all
	Within   bool     `json:"within"`                    // the address may be probed (within)
	// Since is when it came to be down; zero for one that is not, or if that is not known. Recovery says what brings back one that
	// is left out, or served although it is down, and when at the earliest; empty for others.
	Since    time.Time `json:"since,omitzero"`
	Recovery string    `json:"recovery,omitempty"`
	Checks   []Asked   `json:"checks"`
	More     int       `json:"more,omitempty"` // addresses of the host whose checks are not listed, for the same reason
}

// Asked is the result of one check of a member.
type Asked struct {
	Address netip.AddrPort `json:"address"`
	Check   string         `json:"check"`
	State   string         `json:"state"`
	Watched bool           `json:"watched"` // false if no query has returned the address yet
	Since   time.Time      `json:"since,omitzero"`
	Reason  string         `json:"reason,omitempty"`
	Streak  int            `json:"streak"` // as in Target
	Needed  int            `json:"needed"`
	Next    time.Time      `json:"next_probe,omitzero"` // of this process
	UpAt    time.Time      `json:"up_at,omitzero"`      // the earliest time at which one that is down can be up, if every probe succeeds
	Weight  *uint8         `json:"weight,omitempty"`    // as in Target, as are the next two
	Drained bool           `json:"drained,omitempty"`
	Said    string         `json:"said,omitempty"`
	Role    string         `json:"role,omitempty"`   // of this process in the fleet, as in Shared; empty for a check that is not shared
	Quorum  string         `json:"quorum,omitempty"` // as in Shared
	Fleet   string         `json:"fleet,omitempty"`  // how many of the votes find that state, in words
}
