package corefile

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxStatusHosts is how many names a page may be asked by.
const maxStatusHosts = 32

// parseStatusHosts reads the names by which clients ask for the status page: those that a proxy, or the DNS, leads to it. They are
// compared with what a request says, so each is a name alone, in lower case and without a dot at its end. A wildcard is refused: with
// one, the owner of any name below it could let a browser read the page (DNS rebinding).
func parseStatusHosts(words []string) ([]string, error) {
	var hosts []string
	for _, word := range words {
		// Most mistakes are a whole URL, or the address of the page once more: each gets the error that helps.
		name := strings.ToLower(strings.TrimSuffix(word, "."))
		_, valid := dns.IsDomainName(name)
		switch {
		case strings.Contains(word, "://") || strings.Contains(word, "/"):
			return nil, fmt.Errorf("invalid host %q: use the name alone, without a scheme and a path", word)
		case strings.Contains(word, "*"):
			return nil, fmt.Errorf("invalid host %q: name each host, because a page of any other below it could read the status", word)
		case net.ParseIP(strings.Trim(name, "[]")) != nil:
			return nil, fmt.Errorf("invalid host %q: use a name; the address in status is accepted by itself, and :9253 accepts all addresses", word)
		case strings.Contains(word, ":"):
			return nil, fmt.Errorf("invalid host %q: use the name alone, without a port", word)
		case name == "" || !valid || strings.ContainsFunc(name, func(r rune) bool { return !isHostRune(r) }):
			return nil, fmt.Errorf("invalid host %q: use a name such as dns1.example.org", word)
		case slices.Contains(hosts, name):
			return nil, fmt.Errorf("duplicate host %s", name)
		}
		hosts = append(hosts, name)
	}
	if len(hosts) > maxStatusHosts {
		return nil, fmt.Errorf("host has %d names: use at most %d", len(hosts), maxStatusHosts)
	}
	return hosts, nil
}

// isHostRune reports whether a name in a request can have a character: names in other scripts are written in their ASCII form there.
func isHostRune(r rune) bool {
	return r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z'
}
