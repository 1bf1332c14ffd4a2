// Package config holds the configuration in force as the status page shows it, as plain data.
//
// InForce is the main type. The rules and the inspection fill it in from what was parsed, and plugin/status/web shows it; the JSON
// tags are its public format. The package starts nothing, and it imports no other package of this module.
package config

// InForce is the configuration of the running Corefile.
type InForce struct {
	ReloadFailed bool     `json:"reload_failed"` // a newer Corefile could not be started, so this is an older one
	Stanzas      []Stanza `json:"stanzas"`       // in the order of the server blocks
}

// Stanza is one stanza with the values in effect. There are no secrets in it: of checks, it has the text without them, and of
// keys and credentials the names of files.
type Stanza struct {
	At         string     `json:"at"`    // file and line
	Block      string     `json:"block"` // the keys of the server block
	Zones      string     `json:"zones"`
	Text       string     `json:"text"` // as written, without comments
	Properties []Property `json:"properties"`
}

// Property is one property of a stanza. One that may repeat has an entry for each line.
type Property struct {
	Name    string `json:"name"`
	Value   string `json:"value"`        // as in a Corefile; on for a word alone, empty for nothing
	Default bool   `json:"default"`      // the Corefile does not say it
	At      string `json:"at,omitempty"` // file and line; empty for a default
}
