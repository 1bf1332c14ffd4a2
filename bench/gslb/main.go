// Command gslb is CoreDNS with CoreDNS-GSLB, for bench/qps to compare with. It is a module of its own, so that what that plugin
// needs is no concern of ours. Clone the plugin, and build it:
//
//	git clone https://github.com/dmachard/coredns-gslb ../coredns-gslb
//	go -C bench/gslb build -o /tmp/coredns-gslb .
//	go run ./bench/qps -gslb /tmp/coredns-gslb
//
// The plugin stands before file, and behind cache, as in the image that its authors publish.
package main

import (
	"slices"

	_ "github.com/dmachard/coredns-gslb"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // all standard plugins
	"github.com/coredns/coredns/coremain"
)

func main() {
	dnsserver.Directives = slices.Insert(dnsserver.Directives, slices.Index(dnsserver.Directives, "file"), "gslb")
	coremain.Run()
}
