package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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
	webs     []*web
	instance *caddy.Instance
	dns      string // address of the DNS server
	corefile string
	dir      string
}

// build starts the web servers and CoreDNS. On an error nothing is left running.
func build(port int) (s *stage, err error) {
	s = new(stage)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.startWebs(); err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "multivalue-demo-"); err != nil {
		return s, err
	}
	zone := filepath.Join(s.dir, "db.example.org")
	if err := os.WriteFile(zone, []byte(zoneText()), 0o600); err != nil {
		return s, err
	}
	return s, s.startDNS(port, zone)
}

// startWebs starts a web server on each host, all on one port that is free there, for a check asks one port.
func (s *stage) startWebs() error {
	for range 20 {
		probe, err := net.Listen("tcp", net.JoinHostPort(hosts[0].String(), "0"))
		if err != nil {
			return fmt.Errorf("no web server can listen on %s: %w", hosts[0], err)
		}
		port := uint16(probe.Addr().(*net.TCPAddr).Port)
		probe.Close()
		if s.listenAll(port) == nil {
			return nil
		}
		s.stopWebs()
	}
	return errNoPort
}

func (s *stage) listenAll(port uint16) error {
	for _, host := range hosts {
		w := &web{at: netip.AddrPortFrom(host, port)}
		if err := w.start(); err != nil {
			return err
		}
		s.webs = append(s.webs, w)
	}
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
        check http://:%d/
        interval %s %s
        timeout %s
        within 127.0.0.0/8
    }
    file %s
}
`, port, s.webs[0].at.Port(), pace.Interval, pace.Fast, pace.Timeout, zone)
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

func (s *stage) stopWebs() {
	for _, w := range s.webs {
		w.stop()
	}
	s.webs = nil
}

// close ends everything that build started.
func (s *stage) close() {
	if s.instance != nil && s.dns != "" {
		s.instance.ShutdownCallbacks()
		_ = s.instance.Stop()
	}
	s.stopWebs()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

func zoneText() string {
	var b strings.Builder
	b.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\n")
	b.WriteString("example.org. 300 IN NS ns.example.org.\n")
	for _, host := range hosts {
		fmt.Fprintf(&b, "%s 300 IN A %s\n", name, host)
	}
	return b.String()
}
