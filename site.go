package multivalue

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// site is a key of a server block on an address that it listens on.
type site struct {
	listener string
	zone     string
	block    int  // its place in the Corefile
	filtered bool // a view decides what it gets
}

// sitesOf are those of all server blocks of a Corefile, also of those without multivalue. They are known when the servers are
// made. CoreDNS gives a config to whoever asks for one that is not there, with no zone in it; nobody takes it for one then.
func sitesOf(c *caddy.Controller) (all []site) {
	at := *c
	for block := 0; ; block++ {
		for key := 0; ; key++ {
			at.ServerBlockIndex, at.ServerBlockKeyIndex = block, key
			config := dnsserver.GetConfig(&at)
			if config.Zone == "" && key == 0 {
				return all
			}
			if config.Zone == "" {
				break
			}
			for _, host := range config.ListenHosts {
				all = append(all, site{config.Transport + "://" + host + ":" + config.Port, config.Zone, block, len(config.FilterFuncs) > 0})
			}
		}
	}
}

// gets reports whether queries for a name come to the block on any listener: CoreDNS gives them to the one with the longest
// zone, but for views, which may have them go on to a shorter one.
func (b *block) gets(name string) bool {
	if len(b.sites) == 0 {
		return true
	}
	longest := make(map[string]int) // what comes to these zones stays there, by listener
	for _, s := range b.sites {
		if !s.filtered && dns.IsSubDomain(s.zone, name) {
			longest[s.listener] = max(longest[s.listener], len(s.zone))
		}
	}
	for _, s := range b.sites {
		if s.block == b.place && dns.IsSubDomain(s.zone, name) && len(s.zone) >= longest[s.listener] {
			return true
		}
	}
	return false
}
