package corefile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/idn"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// Here is how names in a Corefile are read: zones, watched and exempt names. What is taken for a name and could never match
// a query is refused, because nothing else would show the mistake.

// errNotAName is what is left to say about a word of which no part looks like a name.
var errNotAName = errors.New("use a domain name")

// parseName is the canonical form of a domain name without a scheme or a port. Letters beyond ASCII are converted.
func parseName(text string) (string, error) {
	if err := refuseURL(text); err != nil {
		return "", err
	}
	if err := refuseWildcard(text); err != nil {
		return "", err
	}
	text, err := idn.ToASCII(text)
	if err != nil {
		return "", err
	}
	names := plugin.Host(text).NormalizeExact()
	if _, ok := dns.IsDomainName(text); !ok || len(names) != 1 || names[0] != dns.Fqdn(strings.ToLower(text)) {
		return "", errNotAName
	}
	return names[0], nil
}

// refuseURL refuses a URL, or a part of one, where a name is expected. Without this, CoreDNS takes a scheme that it does not
// know for a label. Only names of reverse zones may have a slash (RFC 2317).
func refuseURL(text string) error {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		rest = text
	}
	if !strings.Contains(text, "/") || strings.HasSuffix(strings.ToLower(strings.TrimSuffix(text, ".")), ".arpa") {
		return nil
	}
	host := rest[:strings.IndexAny(rest+":", ":/?#")]
	if _, ok := dns.IsDomainName(host); !ok || host == "" {
		return errNotAName
	}
	return fmt.Errorf("use a domain name, not a URL, such as %s", host)
}

// refuseWildcard refuses a name with an asterisk. A zone or an exempt name holds all names below it in any case.
func refuseWildcard(text string) error {
	switch parent, leads := strings.CutPrefix(text, "*."); {
	case !strings.Contains(text, "*"):
		return nil
	case leads && !strings.Contains(parent, "*") && parent != "":
		return fmt.Errorf("a wildcard matches nothing here; use %s, which includes all names below it", strings.TrimSuffix(parent, "."))
	default:
		return errors.New("a wildcard matches nothing here; use a domain name without *")
	}
}

// parseZone reads one of the stanza's zones. A network in CIDR form becomes its reverse zones.
func parseZone(text string) ([]string, error) {
	if err := refuseWildcard(text); err != nil {
		return nil, err
	}
	text, err := idn.ToASCII(text)
	if err != nil {
		return nil, err
	}
	names := plugin.Host(text).NormalizeExact()
	if len(names) == 0 {
		return nil, errNotAName
	}
	return names, refuseURL(names[0]) // the schemes that CoreDNS knows are gone
}

// checkInherited looks for zones of the server block that no query could match. CoreDNS accepts them, and converts none.
func checkInherited(c *caddy.Controller, zones []string) error {
	for _, zone := range zones {
		if err := refuseWildcard(zone); err != nil {
			return c.Errf("invalid zone %q of this server block: %v", zone, err)
		}
		if ascii, err := idn.ToASCII(zone); err != nil || ascii != zone {
			return c.Errf("invalid zone %q of this server block, which no query can match: use %s", zone, ascii)
		}
	}
	return nil
}

// suggestFull is the end of an error about a name outside the zones that may be meant below one of them.
func (s *Config) suggestFull(name string) string {
	label := strings.TrimSuffix(name, ".")
	if label == "" || strings.Contains(label, ".") {
		return ""
	}
	return fmt.Sprintf(": did you mean %s.%s?", label, strings.TrimSuffix(s.Zones[0], "."))
}
