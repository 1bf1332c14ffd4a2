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

// stage is what the scene is played on.
type stage struct {
	*setting
	webs     []*web
	instance *caddy.Instance
	dns      string // address of the DNS server
	corefile string
	dir      string
}

// build starts the web servers and CoreDNS. On an error nothing is left running.
func build(wish wishes) (s *stage, err error) {
	s = new(stage)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.startWebs(wish.hosts); err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "multivalue-demo-"); err != nil {
		return s, err
	}
	zone := filepath.Join(s.dir, "db.example.org")
	if err := os.WriteFile(zone, []byte(s.zone()), 0o600); err != nil {
		return s, err
	}
	return s, s.startDNS(wish.port, zone)
}

// startWebs starts two web servers: on an address each, with an A record each, or else on a port each of 127.0.0.1, with an
// SRV record each. All of 127.0.0.0/8 is the machine's own on Linux and Windows, and 127.0.0.1 alone on macOS and the BSDs.
func (s *stage) startWebs(hosts []string) error {
	webs, err := onOnePort(hosts...)
	if err == nil {
		s.webs, s.setting = webs, byAddress(webs)
		return nil
	}
	return s.shareAddress(err)
}

// shareAddress starts the web servers on one address, since they cannot have one each.
func (s *stage) shareAddress(because error) (err error) {
	if s.webs, err = startAll(0, "127.0.0.1", "127.0.0.1"); err != nil {
		return err
	}
	slices.SortFunc(s.webs, func(a, b *web) int { return a.at.Compare(b.at) }) // as their records are shown
	s.setting = byPort(s.webs)
	s.remark = fmt.Sprintf("This machine has no second loopback address (%v),\n"+
		"as is usual on macOS and the BSDs. So both web servers are on 127.0.0.1, and SRV records name their ports.\n", because)
	return nil
}

func (s *stage) startDNS(port int, zone string) error {
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives([]string{"bind", "errors", "multivalue", "file"}); err != nil {
		return err
	}
	s.corefile = fmt.Sprintf(`example.org:%d {
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
`, port, s.check, pace.Interval, pace.Fast, pace.Timeout, zone)
	var err error
	s.instance, err = caddy.Start(caddy.CaddyfileInput{
		Filepath: "Corefile", Contents: []byte(s.corefile), ServerTypeName: "dns",
	})
	if err != nil {
		return fmt.Errorf("CoreDNS does not start (is port %d in use?): %w", port, err)
	}
	s.dns = s.instance.Servers()[0].LocalAddr().String()
	s.corefile = strings.Replace(s.corefile, "example.org:0", "example.org:"+s.dns[strings.LastIndexByte(s.dns, ':')+1:], 1)
	return nil
}

// close ends everything that build started.
func (s *stage) close() {
	if s.instance != nil && s.dns != "" {
		s.instance.ShutdownCallbacks()
		_ = s.instance.Stop()
	}
	stopAll(s.webs)
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}
