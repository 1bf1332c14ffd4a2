package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// haproxy runs HAProxy with the same addresses at the same pace, as the servers of unused backends: it probes them
// all the same. One thread is the cheapest way to run so many checks, because none has to be handed over.
//
// A check over TLS resumes the handshake of the one before, unless the option no-ssl-reuse is given: HAProxy keeps the last
// ticket of each server. It does not ask on a connection that it keeps; check-reuse-pool came with HAProxy 3.2.
func (w workload) haproxy(dir string, backend int) (*server, error) {
	path, err := program(haproxy)
	if err != nil {
		return nil, err
	}
	port, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, fmt.Sprintf("haproxy.%d", port))
	if err := os.WriteFile(file, []byte(w.haproxyConfig(port, backend)), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: haproxy, port: port, process: exec.Command(path, "-db", "-f", file)} // -db: in the foreground
	return s, s.begin()
}

// haproxyConfig returns the configuration: a backend for each name of the workload, with a server for each address. fall and
// rise are those of multivalue, and so is fastinter, the pace of a server in doubt. A request of HTTP/1.0 is what HAProxy
// sends unless it is told otherwise: the connection ends with the answer, as with the check http.
func (w workload) haproxyConfig(port, backend int) string {
	line := fmt.Sprintf("check inter %ds fastinter 2s downinter %ds fall 3 rise 2 %s", w.interval, w.interval, w.options)
	checked := ""
	if w.protocol != "tcp" {
		checked = " option httpchk GET /\n"
	}
	if w.protocol == "https" {
		line += " check-ssl verify none"
	}
	var b strings.Builder
	// maxconn would otherwise follow from the descriptors, with memory for each. A check needs none of it. Without strict-limits
	// it also starts where its checks could take more descriptors than there are.
	b.WriteString("global\n nbthread 1\n maxconn 100\n no strict-limits\n")
	b.WriteString("defaults\n mode http\n timeout connect 1s\n timeout check 1s\n timeout client 1s\n timeout server 1s\n")
	fmt.Fprintf(&b, "frontend ready\n bind 127.0.0.1:%d\n default_backend www0\n", port)
	for i := range w.targets {
		if i%perName == 0 {
			fmt.Fprintf(&b, "backend www%d\n%s", i/perName, checked)
		}
		fmt.Fprintf(&b, " server a%d %s:%d %s\n", i%perName, address(i), backend, line)
	}
	return b.String()
}
