package main

import (
	"fmt"
	"strings"
)

// setting is what the demo queries: one name, with a record for each web server. byAddress makes the usual one, and
// byPort the one for a machine with a single loopback address.
type setting struct {
	remark string   // why SRV records are used; empty for A records
	name   string   // to query, fully qualified
	qtype  string   // A or SRV
	check  string   // the property check of the stanza
	lines  []string // other properties that it needs
	data   []string // of each web server's record, as dig +short prints it; in the order of the web servers
	hosts  string   // zone-file lines for the names that the SRV records point to
}

// byAddress has an A record for each web server. All of them use the same port, because the check names one.
func byAddress(webs []*web) *setting {
	s := &setting{name: "www.example.org.", qtype: "A", check: fmt.Sprintf("check http://:%d/", webs[0].at.Port())}
	for _, w := range webs {
		s.data = append(s.data, w.at.Addr().String())
	}
	return s
}

// byPort has an SRV record for each web server. A check without a port probes the port of the record.
func byPort(webs []*web) *setting {
	s := &setting{name: "_http._tcp.example.org.", qtype: "SRV", check: "check http://", lines: []string{"types SRV"}}
	for i, w := range webs {
		host := fmt.Sprintf("web%d.example.org.", i+1)
		s.data = append(s.data, fmt.Sprintf("1 1 %d %s", w.at.Port(), host))
		s.hosts += fmt.Sprintf("%s 300 IN A %s\n", host, w.at.Addr())
	}
	return s
}

// zone returns the zone file. It stays the same during the demo: only the verdicts change the answers.
func (s *setting) zone() string {
	var b strings.Builder
	b.WriteString("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60\n")
	b.WriteString("example.org. 300 IN NS ns.example.org.\n")
	for _, data := range s.data {
		fmt.Fprintf(&b, "%s 300 IN %s %s\n", s.name, s.qtype, data)
	}
	b.WriteString(s.hosts)
	return b.String()
}
