package rules

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// ServerKey is a key of a server block on an address that it listens on.
type ServerKey struct {
	listener string
	zone     string
	block    int  // its index in the Corefile
	filtered bool // a view decides which queries it gets
}

// ServerKeys are those of all server blocks of a Corefile, also of those without multivalue. They are known when the
// servers are made. CoreDNS gives a config to a caller that asks for one that does not exist, with no zone in it; at that
// point nothing takes it for a real one.
func ServerKeys(c *caddy.Controller) (all []ServerKey) {
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
				all = append(all, ServerKey{config.Transport + "://" + host + ":" + config.Port, config.Zone, block, len(config.FilterFuncs) > 0})
			}
		}
	}
}

// Receives reports whether queries for a name come to the block on any listener: CoreDNS gives them to the block with the
// longest zone, except for views, which may have them go on to a shorter one.
func (b *Block) Receives(name string) bool {
	if len(b.ServerKeys) == 0 {
		return true
	}
	longest := make(map[string]int) // what comes to these zones stays there, by listener
	for _, s := range b.ServerKeys {
		if !s.filtered && dns.IsSubDomain(s.zone, name) {
			longest[s.listener] = max(longest[s.listener], len(s.zone))
		}
	}
	for _, s := range b.ServerKeys {
		if s.block == b.Index && dns.IsSubDomain(s.zone, name) && len(s.zone) >= longest[s.listener] {
			return true
		}
	}
	return false
}
