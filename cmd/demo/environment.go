package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	_ "github.com/coredns-multivalue/multivalue" // the plugin

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"   // where to listen
	_ "github.com/coredns/coredns/plugin/errors" // what goes wrong
	_ "github.com/coredns/coredns/plugin/file"   // the zone
)

// environment is everything that the demo runs: two web servers, and CoreDNS in this process. close ends it.
type environment struct {
	*setting
	webs     []*web
	instance *caddy.Instance // nil until CoreDNS is started
	dns      string          // address and port of the DNS server
	corefile string          // as it is printed, with the port that is really used
	dir      string          // has the zone file, and is removed at the end
}

// build starts the web servers and CoreDNS. After an error nothing is left running. The web servers are first, because the
// Corefile or the zone has their ports.
func build(opts options) (e *environment, err error) {
	e = new(environment)
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err := e.startWebs(opts.hosts); err != nil {
		return e, err
	}
	if e.dir, err = os.MkdirTemp("", "multivalue-demo-"); err != nil {
		return e, err
	}
	zone := filepath.Join(e.dir, "db.example.org")
	if err := os.WriteFile(zone, []byte(e.zone()), 0o600); err != nil {
		return e, err
	}
	return e, e.startDNS(opts.port, zone)
}

// startWebs starts the two web servers. If it can, each has an address of its own and an A record. If not, each has a port
// of its own on 127.0.0.1 and an SRV record. Linux and Windows have all addresses of 127.0.0.0/8; macOS and the BSDs have
// only 127.0.0.1 until others are configured.
func (e *environment) startWebs(hosts []string) error {
	webs, err := onOnePort(hosts...)
	if err == nil {
		e.webs, e.setting = webs, byAddress(webs)
		return nil
	}
	return e.shareAddress(err)
}

// shareAddress starts the web servers on one address. because is why they cannot have one each; it is printed, so that a
// reader on Linux learns what is unusual.
func (e *environment) shareAddress(because error) (err error) {
	if e.webs, err = startAll(0, "127.0.0.1", "127.0.0.1"); err != nil {
		return err
	}
	slices.SortFunc(e.webs, func(a, b *web) int { return a.at.Compare(b.at) }) // in the order in which answers are printed
	e.setting = byPort(e.webs)
	e.remark = fmt.Sprintf("This machine has no second loopback address (%v),\n"+
		"as is usual on macOS and the BSDs. So both web servers are on 127.0.0.1, and SRV records name their ports.\n", because)
	return nil
}

// startDNS starts CoreDNS with only the plugins that the demo needs, so that it is quick to build. The pace is in the
// Corefile, and within is needed because loopback addresses are not probed by default.
func (e *environment) startDNS(port int, zone string) error {
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives([]string{"bind", "errors", "multivalue", "file"}); err != nil {
		return err
	}
	e.corefile = fmt.Sprintf(`example.org:%d {
    bind 127.0.0.1
    errors
    multivalue {
        %s
        interval %s %s
        timeout %s
        within 127.0.0.0/8
    }
    file %s
}
`, port, e.check, pace.Interval, pace.Fast, pace.Timeout, zone)
	var err error
	e.instance, err = caddy.Start(caddy.CaddyfileInput{
		Filepath: "Corefile", Contents: []byte(e.corefile), ServerTypeName: "dns",
	})
	if err != nil {
		return fmt.Errorf("CoreDNS does not start; if port %d is in use, choose another with -port: %w", port, err)
	}
	e.dns = e.instance.Servers()[0].LocalAddr().String()
	// The Corefile is printed, and has to work if it is copied: replace port 0 with the port that the system chose.
	e.corefile = strings.Replace(e.corefile, "example.org:0", "example.org:"+e.dns[strings.LastIndexByte(e.dns, ':')+1:], 1)
	return nil
}

// close ends everything that build started, and waits until it has ended. It may be called when build has failed halfway.
func (e *environment) close() {
	if e.instance != nil && e.dns != "" {
		e.instance.ShutdownCallbacks()
		_ = e.instance.Stop()
	}
	stopAll(e.webs)
	if e.dir != "" {
		_ = os.RemoveAll(e.dir)
	}
}
