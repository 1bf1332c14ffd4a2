//go:build linux

package kube

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// question is how a query is sent. The zero value is a query over UDP, for an answer of any size, from any address.
type question struct {
	tcp    bool
	size   uint16 // the size that the client accepts, in EDNS; without EDNS it is 512
	plain  bool   // without EDNS
	from   string // the client's address
	server string
}

// ask sends one query.
func (q question) ask(name, kind string) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, dns.StringToType[kind])
	if q.size == 0 {
		q.size = dns.MaxMsgSize - 1
	}
	if !q.plain {
		m.SetEdns0(q.size, false)
	}
	if q.server == "" {
		q.server = "127.0.0.1:53"
	}
	client := dns.Client{Timeout: 10 * time.Second}
	dialer := &net.Dialer{Timeout: client.Timeout}
	if client.Dialer = dialer; q.tcp {
		client.Net = "tcp"
	} else if q.from != "" {
		dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(q.from)}
	}
	reply, _, err := client.Exchange(m, q.server)
	return reply, err
}

// ask sends a simple query, for a test that must not lose one.
func (s *scene) ask(name, kind string) *dns.Msg {
	s.Helper()
	return s.askBy(question{}, name, kind)
}

func (s *scene) askBy(q question, name, kind string) *dns.Msg {
	s.Helper()
	reply, err := q.ask(s.full(name), kind)
	if err != nil {
		s.Fatalf("%s %s: %v", name, kind, err)
	}
	return reply
}

// data returns the data of an answer, sorted, or why it has none.
func (s *scene) data(name, kind string) []string {
	s.Helper()
	reply := s.ask(name, kind)
	if reply.Rcode != dns.RcodeSuccess || reply.Truncated {
		return []string{fmt.Sprintf("%s, truncated %t", dns.RcodeToString[reply.Rcode], reply.Truncated)}
	}
	all := data(reply.Answer)
	slices.Sort(all)
	return all
}

// data returns the data of records: addresses, hosts and ports of SRV records, targets of aliases. Names are
// shortened to the part that the test gave them.
func data(records []dns.RR) (all []string) {
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			all = append(all, rr.A.String())
		case *dns.AAAA:
			all = append(all, rr.AAAA.String())
		case *dns.SRV:
			host, _, _ := strings.Cut(rr.Target, ".")
			all = append(all, fmt.Sprintf("%s:%d", host, rr.Port))
		case *dns.CNAME:
			all = append(all, rr.Target)
		case *dns.PTR:
			all = append(all, rr.Ptr)
		}
	}
	return all
}
