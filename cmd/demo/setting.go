package main

import (
	"fmt"
	"strings"
)

// setting is what the scene is about: one name, and a record for each web server.
type setting struct {
	remark string // why it is not the usual one
	name   string // to ask for
	qtype  string
	check  string   // the properties of the stanza that say what to ask whom
	data   []string // of each web server's record, as dig +short prints it
	hosts  string   // records of the web servers' names
}

// byAddress has an A record for each web server. All have one port, which the check names.
func byAddress(webs []*web) *setting {
	s := &setting{name: "www.example.org.", qtype: "A", check: fmt.Sprintf("check http://:%d/", webs[0].at.Port())}
	for _, w := range webs {
		s.data = append(s.data, w.at.Addr().String())
	}
	return s
}

// byPort has an SRV record for each web server. A check that names no port asks the one in the record.
func byPort(webs []*web) *setting {
	s := &setting{name: "_http._tcp.example.org.", qtype: "SRV", check: "check http://\n        types SRV"}
	for i, w := range webs {
		host := fmt.Sprintf("web%d.example.org.", i+1)
		s.data = append(s.data, fmt.Sprintf("1 1 %d %s", w.at.Port(), host))
		s.hosts += fmt.Sprintf("%s 300 IN A %s\n", host, w.at.Addr())
	}
	return s
}

// zone is the zone file.
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
