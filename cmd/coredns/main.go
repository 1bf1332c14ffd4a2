// Command coredns is CoreDNS with all its standard plugins, and with multivalue directly above cache.
//
// The order matters: above cache, multivalue filters each answer by the verdicts of the moment. Below it, the cache would
// serve an address for its TTL after the address went down. Package full adds what the property annotations needs.
package main

import (
	"log"

	"github.com/coredns-multivalue/multivalue"
	_ "github.com/coredns-multivalue/multivalue/full" // for the property annotations

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // all standard plugins
	"github.com/coredns/coredns/coremain"
)

func main() {
	if err := dnsserver.SetDirectives(multivalue.Directives(dnsserver.Directives)); err != nil {
		log.Fatal(err)
	}
	caddy.AppVersion += " multivalue-" + multivalue.Version // what -version prints
	coremain.Run()
}
