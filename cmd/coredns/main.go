// Command coredns is CoreDNS with all its standard plugins, and multivalue in its place directly above cache.
package main

import (
	"log"

	"github.com/coredns-multivalue/multivalue"
	_ "github.com/coredns-multivalue/multivalue/annotated" // the property annotations

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // all standard plugins
	"github.com/coredns/coredns/coremain"
)

func main() {
	if err := dnsserver.SetDirectives(multivalue.Directives(dnsserver.Directives)); err != nil {
		log.Fatal(err)
	}
	caddy.AppVersion += " multivalue-" + multivalue.Version // as -version prints it
	coremain.Run()
}
