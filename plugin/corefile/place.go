package corefile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/idn"
)

// Here is how hosts with ports are read: where members of a fleet are, and where this one listens.

// place is a host, and its port if one was written.
type place struct{ host, port string }

// What is right, at the end of errors. It is shorter than what may be wrong.
var (
	errNotAHost    = errors.New("use a host name or an address, such as dns-fleet.example.org or 192.0.2.17")
	errNotAnOwn    = errors.New("use the address where other members reach this server, such as 192.0.2.17 or [2001:db8::7]:9254")
	errNotAListen  = errors.New("use a port, with or without an address of this server before it, such as :9254 or 192.0.2.17:9254")
	errNotAURL     = errors.New("a member is not a URL: use a host name or an address, such as dns-fleet.example.org or 192.0.2.17")
	errNeedsSquare = errors.New("put an IPv6 address in brackets before a port, and nothing else, such as [2001:db8::7]:9254")
)

// parsePeer reads a member: a name or an address. A URL is not quoted in errors, because it may hold a password.
func parsePeer(arg string) (place, error) {
	if isWebURL(arg) {
		return place{}, errWebURL
	}
	if strings.ContainsAny(arg, "/@") {
		return place{}, errNotAURL
	}
	p, err := splitPlace(arg)
	if err == nil {
		p.host, err = canonicalHost(p.host)
	}
	if err != nil {
		return place{}, fmt.Errorf("invalid member %q: %w", arg, err)
	}
	return p, nil
}

// canonicalHost is a name or an address in the form in which duplicates are found. What is not an address may be a name.
func canonicalHost(host string) (string, error) {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return hostName(host)
	}
	return addr.String(), checkReachable(addr)
}

// parseListen reads where this member listens. The address is optional, and the port is not. A name is refused, since what it stands
// for may change, and a member that listens elsewhere is lost to the others.
func parseListen(f *Fleet, value string) error {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("invalid listen %q: %w", value, errNotAListen)
	}
	if port, err = parsePort(port); err != nil {
		return fmt.Errorf("invalid listen %q: %w", value, err)
	}
	if host != "" {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return fmt.Errorf("invalid listen %q: %w", value, errNotAListen)
		}
		if err := checkReachable(addr); err != nil && !addr.IsUnspecified() {
			return fmt.Errorf("invalid listen %q: %w", value, err)
		}
		host = addr.String()
	}
	f.Listen = net.JoinHostPort(host, port)
	return nil
}

// parseAdvertise reads the address where others reach this member. Its port may be that of listen, which is not known yet.
func parseAdvertise(f *Fleet, value string) error {
	p, err := splitPlace(value)
	if err != nil {
		return fmt.Errorf("invalid advertise %q: %w", value, err)
	}
	addr, err := netip.ParseAddr(p.host)
	if err != nil {
		return fmt.Errorf("invalid advertise %q: %w", value, errNotAnOwn)
	}
	if err := checkReachable(addr); err != nil {
		return fmt.Errorf("invalid advertise %q: %w", value, err)
	}
	f.Advertise = net.JoinHostPort(addr.String(), p.port)
	return nil
}

// splitPlace takes HOST[:PORT] apart. Only an IPv6 address may have brackets, and needs them only before a port. What the host is
// remains to be seen.
func splitPlace(value string) (p place, err error) {
	// An IPv6 address alone has colons, too. One with a port and without brackets may be a valid address, which nothing can tell.
	if _, err := netip.ParseAddr(value); err == nil || !strings.ContainsAny(value, ":[]") {
		return place{host: value}, nil
	}
	inner, bracketed := strings.CutPrefix(value, "[")
	if alone, ends := strings.CutSuffix(inner, "]"); bracketed && ends {
		p.host = alone
	} else {
		if p.host, p.port, err = net.SplitHostPort(value); err != nil {
			return place{}, errNeedsSquare
		}
		if p.port, err = parsePort(p.port); err != nil {
			return place{}, err
		}
	}
	// SplitHostPort takes off brackets around anything.
	if addr, err := netip.ParseAddr(p.host); bracketed && (err != nil || !addr.Is6()) {
		return place{}, errNeedsSquare
	}
	return p, nil
}

// parsePort is the canonical form of a port. Names of services are none: another system may know another port by one.
func parsePort(value string) (string, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("invalid port %q: use one from 1 to 65535", value)
	}
	return strconv.FormatUint(n, 10), nil
}

// checkReachable looks for an address that another member could not connect to. Loopback is fine: members may share a host.
func checkReachable(addr netip.Addr) error {
	switch {
	case addr.Zone() != "":
		return errors.New("the address has a zone, which other hosts do not know: leave it out")
	case addr.Is4In6():
		return fmt.Errorf("this is an IPv4 address in IPv6 form: use %s", addr.Unmap())
	case !single(addr):
		return errors.New("this is not the address of one host: use that of one server")
	}
	return nil
}

// hostName is the canonical form of the name of a host. Letters beyond ASCII are converted. A dot at the end stays: without one,
// the resolver of the system may look below other names. A name that ends in a number would be a mistyped address.
func hostName(value string) (string, error) {
	name, err := idn.ToASCII(value)
	if err != nil {
		return "", err
	}
	// Hosts are stricter than domain names, in which nearly every byte may be.
	name = strings.ToLower(name)
	bare := strings.TrimSuffix(name, ".")
	last := ""
	for label := range strings.SplitSeq(bare, ".") {
		if !isHostLabel(label) {
			return "", errNotAHost
		}
		last = label
	}
	if len(bare) > 253 || strings.Trim(last, "0123456789") == "" {
		return "", errNotAHost
	}
	return name, nil
}

// isHostLabel reports whether this may be a label in the name of a host, in lower case. The underscore is that of names which
// Docker makes.
func isHostLabel(label string) bool {
	return label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
		strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// isLoopback reports whether only this machine can reach HOST:PORT.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || err == nil && addr.Unmap().IsLoopback()
}
