package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// dnsOptions are those of dns and dot.
var dnsOptions = []string{"rcode", "answer", "authoritative"}

// dnsSettings is what they come to.
type dnsSettings struct {
	rcodes        []int // in ascending order; nil: NOERROR
	answer        *regexp.Regexp
	authoritative bool
	tcp           bool // not over UDP first
}

// setRcode takes those that a header has room for: the others need EDNS, which is not spoken.
func setRcode(s *settings, v []string) (shown []string, hidden []byte, err error) {
	var names []string
	for item := range strings.SplitSeq(v[0], ",") {
		code, ok := dns.StringToRcode[strings.ToUpper(item)]
		if !ok || code > 0xf {
			return nil, nil, fmt.Errorf("invalid response code %s: use names such as NOERROR,NXDOMAIN", quote(item))
		}
		s.dns.rcodes = append(s.dns.rcodes, code)
	}
	slices.Sort(s.dns.rcodes)
	s.dns.rcodes = slices.Compact(s.dns.rcodes)
	for _, code := range s.dns.rcodes {
		names = append(names, dns.RcodeToString[code])
	}
	return []string{strings.Join(names, ",")}, nil, nil
}

func setAnswer(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] == "" {
		return nil, nil, errors.New("empty expression would match every record: write one, or remove the option")
	}
	s.dns.answer, err = regexp.Compile(v[0])
	return v, nil, err
}

func setAuthoritative(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.dns.authoritative = true
	return nil, nil, nil
}

func setTCP(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.dns.tcp = true
	return nil, nil, nil
}

// A dnsCheck puts one question (B42).
type dnsCheck struct {
	dnsSettings
	dialer     *dialer
	query      []byte // with an ID of 0
	overStream prober // the same question over TCP or TLS
}

func newDNS(s *spec) (prober, error) {
	if err := s.refuseHost(); err != nil {
		return nil, err
	}
	d, err := buildDNS(s)
	if err != nil {
		return nil, err
	}
	d.overStream = s.overSession(nil, d)
	if d.tcp {
		return d.overStream, nil
	}
	return d, nil
}

// newDOT builds newDNS over TLS (RFC 7858).
func newDOT(s *spec) (prober, error) {
	d, err := buildDNS(s)
	if err != nil {
		return nil, err
	}
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	return s.overSession(config, d), nil
}

func buildDNS(s *spec) (*dnsCheck, error) {
	name, err := s.questionName()
	if err != nil {
		return nil, err
	}
	rrtype, err := s.questionType()
	if err != nil {
		return nil, err
	}
	d := &dnsCheck{dnsSettings: s.dns, dialer: &s.dialer}
	if d.rcodes == nil {
		d.rcodes = []int{dns.RcodeSuccess}
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), rrtype)
	m.Id, m.RecursionDesired = 0, !d.authoritative
	d.query, err = m.Pack()
	return d, err
}

// questionName reads the path, which is a name, and makes it canonical.
func (s *spec) questionName() (string, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(s.path, "/"))
	if err != nil || name == "" {
		return "", fmt.Errorf("url of scheme %s has no name to query: write %s", s.scheme.name, s.scheme.example)
	}
	if name != "." {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		for label := range strings.SplitSeq(name, ".") {
			if !validLabel(label) || len(name) > 253 {
				return "", fmt.Errorf("invalid domain name %s: write one as in %s", quote(name), s.scheme.example)
			}
		}
	}
	s.path = "/" + name
	return name, nil
}

// questionType reads the query, and makes it canonical. The types that RFC 6895, 3.1, calls meta are no question.
func (s *spec) questionType() (uint16, error) {
	if s.query == "" {
		return dns.TypeA, nil
	}
	name, ok := strings.CutPrefix(s.query, "type=")
	name = strings.ToUpper(name)
	rrtype := dns.StringToType[name]
	if !ok || rrtype == 0 || rrtype == dns.TypeOPT || rrtype >= 128 && rrtype <= 255 {
		return 0, fmt.Errorf("invalid query %s: name a record type, as in %s?type=SOA", quote(s.query), s.scheme.example)
	}
	s.query = "type=" + name
	if rrtype == dns.TypeA {
		s.query = ""
	}
	return rrtype, nil
}

// numbered is the query with an ID of its own.
func (d *dnsCheck) queryWithID() []byte {
	query := slices.Clone(d.query)
	binary.BigEndian.PutUint16(query, uint16(rand.Uint32()))
	return query
}

// strayLimit is how many datagrams that answer nothing of ours are looked at.
const strayLimit = 64

var (
	errStray         = fmt.Errorf("more than %d replies to other questions", strayLimit)
	errOtherQuestion = errors.New("reply to another question")
)

// probe asks over UDP, and over TCP if the answer has no room there.
func (d *dnsCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	conn, hangUp, err := d.dialer.dialOver(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer hangUp()
	query := d.queryWithID()
	if _, err := conn.Write(query); err != nil {
		return datagramFailure(addr.Addr(), err)
	}
	buf := make([]byte, 4096)
	for range strayLimit {
		n, err := conn.Read(buf)
		switch {
		case err != nil:
			return responseFailure(err)
		case !isReply(buf[:n], query):
			continue // late, or somebody's guess: what we wait for may yet come
		case truncated(buf[:n]):
			return d.overStream.probe(ctx, addr)
		}
		return d.judgeReply(buf[:n])
	}
	return errStray
}

// ask asks over a stream, on which nobody else can answer (RFC 1035, 4.2.2).
func (d *dnsCheck) ask(_ context.Context, x *session) error {
	query := d.queryWithID()
	size := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	if err := x.send(append(size, query...)); err != nil {
		return err
	}
	if err := x.fill(size); err != nil {
		return err
	}
	reply := make([]byte, binary.BigEndian.Uint16(size))
	if err := x.fill(reply); err != nil {
		return err
	}
	if !isReply(reply, query) {
		return errOtherQuestion
	}
	return d.judgeReply(reply)
}

const dnsHeader = 12 // bytes, of which two are the ID and two the flags

// answers reports whether a message is the reply to a query: by its ID, its flags and its question, which only an
// error may leave out.
func isReply(reply, query []byte) bool {
	const qr, opcode = 0x80, 0x78
	if len(reply) < dnsHeader || string(reply[:2]) != string(query[:2]) || reply[2]&(qr|opcode) != qr {
		return false
	}
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 0:
		return reply[3]&0xf != dns.RcodeSuccess
	case 1:
		return sameQuestion(reply[dnsHeader:], query[dnsHeader:])
	}
	return false
}

// sameQuestion disregards the case of letters. No length of a label looks like one.
func sameQuestion(reply, query []byte) bool {
	lower := func(b byte) byte {
		if b >= 'A' && b <= 'Z' {
			return b + 'a' - 'A'
		}
		return b
	}
	if len(reply) < len(query) {
		return false
	}
	for i, b := range query {
		if lower(reply[i]) != lower(b) {
			return false
		}
	}
	return true
}

func truncated(reply []byte) bool { return reply[2]&0x02 != 0 }

// judge looks at a reply to our question.
func (d *dnsCheck) judgeReply(reply []byte) error {
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return errors.New("malformed response: " + quote(strings.TrimPrefix(err.Error(), "dns: ")))
	}
	switch {
	case !slices.Contains(d.rcodes, m.Rcode):
		return fmt.Errorf("rcode %s", rcodeName(m.Rcode))
	case d.authoritative && !m.Authoritative:
		return errors.New("answer is not authoritative")
	case d.answer != nil && !slices.ContainsFunc(m.Answer, d.matches):
		return fmt.Errorf("no record in the answer matches %s (of %d)", quote(d.answer.String()), len(m.Answer))
	}
	return nil
}

// matches looks at the data of a record as a zone file writes it: behind name, TTL, class and type, in which no tab stands.
func (d *dnsCheck) matches(rr dns.RR) bool {
	data := rr.String()
	for range 4 {
		_, data, _ = strings.Cut(data, "\t")
	}
	return d.answer.MatchString(data)
}

func rcodeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprint(code)
}
