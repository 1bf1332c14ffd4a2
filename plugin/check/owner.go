package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// ownerOptions are those of the schemes that can ask for the owner of a record.
var ownerOptions = []string{"host"}

func setHost(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] != "owner" {
		return nil, nil, errors.New("write host owner, for the name of the record; any other host stands in the url")
	}
	s.askOwner = true
	return v, nil, nil
}

// judgeOwner refuses another host beside the owner.
func (s *spec) checkOwner() error {
	switch {
	case s.askOwner && s.host != "":
		return s.optionError("host", errors.New("cannot be used with a host in the url: remove one of the two"))
	case s.askOwner && s.tls.serverName != "":
		return s.optionError("server_name", errors.New("cannot be used together with host owner: remove one of the two"))
	}
	return nil
}

// AsksOwner reports whether the check is to ask for the owner of the record that the address is in. Then it is asked by
// what [Check.For] returns.
func (c *Check) AsksOwner() bool { return c.ownerSpec != nil }

// For is the check as it asks for that name: its host is that, and the certificate must be for it. All of it that may be
// wrong was found when the check was made; only the name may be no host's, and then the probe abstains. It costs what
// building a check costs, without reading a file, and is for one probe.
func (c *Check) For(owner string) *Check {
	s := *c.ownerSpec
	var err error
	if s.host, err = parseHost(owner); err == nil {
		var asked Check
		if asked.prober, err = s.scheme.build(&s); err == nil {
			asked.text, asked.port, asked.portNamed, asked.invert = c.text, c.port, c.portNamed, c.invert
			return &asked
		}
	}
	return &Check{text: c.text, prober: proberFunc(func(context.Context, netip.AddrPort) error {
		return fmt.Errorf("%w: %w", ErrAbstain, err)
	})}
}
