package membership

import (
	"context"
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

// Config is how this process takes part in a fleet: over a store, or else member to member. The zero value is for no fleet.
type Config struct {
	Store     Store    // that carries what members say; then the next four are empty
	Peers     []string // hosts, each with a port, to begin with: addresses, or names that stand for all their addresses
	Key       string   // the file with the keys
	Listen    string   // host and port, of which the host may be empty
	Advertise string   // address and port where others reach this process; empty for what it listens on
	Name      string   // of the fleet
	Site      string   // where this process stands; empty if it does not say
	Version   string   // of this program, for people
}

// Store is an etcd. The zero value is none.
type Store struct {
	Endpoints   []string // hosts, each with a port
	TLS         bool     // whether it is asked over TLS
	Cert, Key   string   // files with the certificate of this process and its key; empty for none
	CA          string   // the file with the authorities that its certificates are of; empty for those of the system
	Credentials string   // the file with user and password; empty for none
	Prefix      string   // of all keys of the fleet
}

// UsesStore reports whether the fleet is one over a store.
func (c Config) UsesStore() bool { return len(c.Store.Endpoints) > 0 }

// isNone reports whether the configuration is for no fleet.
func (c Config) isNone() bool { return c.Listen == "" && !c.UsesStore() }

// Opener opens a membership. It fails if the key cannot be used or the port is taken. The engine says nothing before its Start, and it is
// Leave that ends it then, too.
type Opener func(c Config, host Host) (Engine, error)

// Host is what an engine needs of the process around it. Its functions may be called from any goroutine.
type Host struct {
	// Resolve returns the addresses of a name; none and no error if it has none.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Warnf and Infof log a line.
	Warnf, Infof func(format string, args ...any)
}

// Contact is what an engine knows of the way to another member, for people.
type Contact struct {
	Name      string // as in Member
	Site      string
	Address   string        // where it is reached
	Version   string        // of its program
	RoundTrip time.Duration // of the last exchange that was timed; 0 if none was
	Heard     time.Duration // since the last message; negative if there was none
	Gone      bool          // it has left or died
}

// Engine is an engine of a fleet with its life: it outlives a Corefile, so that a reload keeps this process in the fleet.
type Engine interface {
	fleet.Engine
	// Self is this process as the others know it. It is the same from the opening on.
	Self() fleet.Member
	// Start joins the fleet, and goes on trying for ever. The listener is told from then on.
	Start(groups fleet.Groups, to fleet.Listener)
	// Check reports what Update would refuse, and an address to listen on that this machine does not have. It changes nothing.
	Check(c Config) error
	// Update changes what of the configuration can be changed while it runs: the peers and the file with the keys; of a store, all but
	// the prefix. If a file cannot be used, what was read before stays in force, and the engine goes on trying.
	Update(c Config) error
	// Contacts are the other members, by name. It may be called from any goroutine.
	Contacts() []Contact
}
