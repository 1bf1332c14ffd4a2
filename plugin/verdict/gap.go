package verdict

// Gap says why no check covers an address.
type Gap uint8

const (
	// Outside is an address that within does not include, which is as it should be.
	Outside Gap = iota
	// Special is an address in a special range, such as loopback, that no network in within was meant for.
	Special
	// Full is an address that a limit of targets keeps out.
	Full
	// NoPort is an address in a record that names no port, of a check that names none either.
	NoPort
	// NoAddress is a host that a record names, and whose addresses are not known, too many, or not for this stanza to judge.
	NoAddress
	// Elsewhere is the target of an alias that leads out of the stanza's zones, where within would have to allow it.
	Elsewhere
	// Single is the only address of a set, which is served whatever its health is.
	Single
	// Rest is what a set has beyond the addresses that are judged.
	Rest
	// Gaps is how many there are, for tables by gap.
	Gaps
)

// gaps are the values of the label in metrics, which are stable.
var gaps = [Gaps]string{"within", "special", "max_targets", "port", "host", "alias", "single", "size"}

// String returns the value that metrics use.
func (g Gap) String() string { return gaps[g] }

// Brief is the verdict on an address that is not checked for that reason. The reason takes the place of the time when the state
// was entered, which such an address has not.
func (g Gap) Brief() Brief { return Brief(Unchecked)<<stateShift | Brief(g) }

// Gap is why the address is unchecked. It is for addresses in that state alone.
func (b Brief) Gap() Gap { return Gap(b.Since()) }
