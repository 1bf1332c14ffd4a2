// Package acting is what people ask of a page that may change a file of forced states, and what it tells them of that file.
//
// A Change is what they ask for, a File what they see, and a Refusal why a change was not made. Package web has them from a request,
// package force makes the change, and neither knows the other. The JSON tags are the format of /v1/force.
package acting

import "time"

// File is a file of forced states that the page may change, as /v1/force shows it.
type File struct {
	File      string   `json:"file,omitempty"`
	Admin     bool     `json:"admin"`           // the page may change it; if not, the rest is empty
	Writable  bool     `json:"writable"`        // this process can replace it, as far as it can tell without doing so
	ReadOnly  string   `json:"why,omitempty"`   // why it cannot, and what to do
	Fleet     bool     `json:"fleet"`           // this process is a member of a fleet
	Scope     string   `json:"scope,omitempty"` // that a change is about this replica only, if there are others
	Lines     []Line   `json:"lines"`
	MoreLines int      `json:"more_lines,omitempty"` // how many more it has, which are not listed
	Notes     []string `json:"notes,omitempty"`      // what the last change does not do, and why, such as another line that wins
	ETag      string   `json:"-"`                    // of the content
	Made      *Line    `json:"-"`                    // the change that was made, as the file has it; its state may be release
}

// Line is one line of a File.
type Line struct {
	Line     int       `json:"line"`
	State    string    `json:"state"`
	Networks []string  `json:"networks"`
	Until    time.Time `json:"until,omitzero"`
	Ended    bool      `json:"ended,omitempty"` // its time is over, so it does not count
	Reason   string    `json:"reason,omitempty"`
}

// Change is what a person asks for.
type Change struct {
	State    string   `json:"state"`    // down, drain, up, or release
	Networks []string `json:"networks"` // or addresses
	Until    string   `json:"until"`    // a time (RFC 3339), or how long from now, such as +2h; empty for no end
	Reason   string   `json:"reason"`
}

// Refusal is why a change was not made. Its text says what is wrong, then what to do.
type Refusal struct {
	Kind Kind
	Err  error
}

// Kind says whose fault it is that a change was not made.
type Kind int

const (
	// Invalid is a change that no file could take.
	Invalid Kind = iota
	// Stale is a change of content that is not what the file has now.
	Stale
	// Unchangeable is a change that this file, or the place where it is, does not allow.
	Unchangeable
)

// Error is the text of the refusal.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error.
func (r *Refusal) Unwrap() error { return r.Err }
