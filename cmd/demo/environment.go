package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coredns/caddy"
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
	if err := e.prepare(opts.hosts); err != nil {
		return e, err
	}
	return e, e.startDNS(opts.port)
}

// prepare starts the web servers and writes the zone file. After an error, close ends what it has started.
func (e *environment) prepare(hosts []string) (err error) {
	if err := e.startWebs(hosts); err != nil {
		return err
	}
	if e.dir, err = os.MkdirTemp("", "multivalue-demo-"); err != nil {
		return err
	}
	return os.WriteFile(e.zonePath(), []byte(e.zone()), 0o600)
}

// zonePath is where the zone file is.
func (e *environment) zonePath() string { return filepath.Join(e.dir, "db.example.org") }

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

// startDNS starts CoreDNS in this process.
func (e *environment) startDNS(port int) error {
	e.corefile = e.stanza(port, "")
	var err error
	if e.instance, err = startCoreDNS(e.corefile); err != nil {
		return fmt.Errorf("CoreDNS does not start; if port %d is in use, choose another with -port: %w", port, err)
	}
	e.dns = e.instance.Servers()[0].LocalAddr().String()
	e.corefile = withPort(e.corefile, e.dns)
	return nil
}

// stanza returns a Corefile. The pace is in it, and within is needed because loopback addresses are not probed by default. A
// property and options of the check may be added.
func (e *environment) stanza(port int, property string, options ...string) string {
	lines := append([]string{strings.Join(append([]string{e.check}, options...), " "), fmt.Sprintf("interval %s %s", pace.Interval, pace.Fast),
		fmt.Sprintf("timeout %s", pace.Timeout), "within 127.0.0.0/8"}, e.lines...)
	if property != "" {
		lines = append(lines, property)
	}
	return fmt.Sprintf(`example.org:%d {
    bind 127.0.0.1
    errors
    multivalue {
        %s
    }
    file %s
}
`, port, strings.Join(lines, "\n        "), e.zonePath())
}

// withPort returns a Corefile that works if it is copied: with the port that the system chose, if it has port 0.
func withPort(corefile, dns string) string {
	return strings.Replace(corefile, "example.org:0 ", "example.org:"+dns[strings.LastIndexByte(dns, ':')+1:]+" ", 1)
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
