package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// ownerOptions are the options of the schemes that can ask for the owner of a record.
var ownerOptions = []string{"host"}

// setHost parses the option host. The only value is owner; a fixed host belongs in the URL.
func setHost(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] != "owner" {
		return nil, nil, errors.New("write host owner, for the name of the record; any other host stands in the url")
	}
	s.askOwner = true
	return v, nil, nil
}

// checkOwner refuses host owner together with another host.
func (s *spec) checkOwner() error {
	switch {
	case s.askOwner && s.host != "":
		return s.optionError("host", errors.New("cannot be used with a host in the url: remove one of the two"))
	case s.askOwner && s.tls.serverName != "":
		return s.optionError("server_name", errors.New("cannot be used together with host owner: remove one of the two"))
	}
	return nil
}

// AsksOwner reports whether the host to ask for is the owner name of the record. Such a check must
// not be probed itself: probe what [Check.For] returns.
func (c *Check) AsksOwner() bool { return c.ownerSpec != nil }

// ForOwner is the check for records of owner: that is the host to ask for, and the name in the
// certificate. Everything else was validated by [New]. If owner is not a valid host name, the
// returned check abstains. It costs as much as building a check, but reads no file, and is meant
// for one probe.
func (c *Check) ForOwner(owner string) *Check {
	// The builder changes its spec, so it gets a copy.
	s := *c.ownerSpec
	var err error
	if s.host, err = parseHost(owner); err == nil {
		var asked Check
		if asked.prober, err = s.scheme.build(&s); err == nil {
			asked.text, asked.port, asked.portNamed, asked.invert, asked.repeater = c.text, c.port, c.portNamed, c.invert, s.repeater
			return &asked
		}
	}
	// The name of a record need not be that of a host: an SRV record has one such as _sip._tcp.
	return &Check{text: c.text, prober: proberFunc(func(context.Context, netip.AddrPort) error {
		return fmt.Errorf("%w: %w", ErrAbstain, err)
	})}
}
