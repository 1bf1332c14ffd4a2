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

// dnsOptions are the options of dns and dot alone.
var dnsOptions = []string{"rcode", "answer", "authoritative"}

// dnsSettings are the values of the options of dns and dot.
type dnsSettings struct {
	rcodes        []int          // the good ones, in ascending order; nil for NOERROR alone
	answer        *regexp.Regexp // what one record must match; nil for no demand
	authoritative bool           // the AA bit is demanded, and recursion is not
	tcp           bool           // ask over TCP at once, not over UDP first
}

// setRcode parses the option rcode. It accepts codes of four bits: longer ones need EDNS (RFC 6891,
// 6.1.3), and the query has none.
func setRcode(s *settings, v []string) (shown []string, hidden []byte, err error) {
	var names []string
	for item := range strings.SplitSeq(v[0], ",") {
		code, ok := dns.StringToRcode[strings.ToUpper(item)]
		// BADVERS and the codes above it have their upper bits in the OPT record.
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

// setAnswer parses the option answer.
func setAnswer(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] == "" {
		return nil, nil, errors.New("empty expression would match every record: write one, or remove the option")
	}
	s.dns.answer, err = regexp.Compile(v[0])
	return v, nil, err
}

// setAuthoritative parses the option authoritative.
func setAuthoritative(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.dns.authoritative = true
	return nil, nil, nil
}

// setTCP parses the option tcp.
func setTCP(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.dns.tcp = true
	return nil, nil, nil
}

// A dnsCheck sends one query (B42). It is a prober over UDP, and a protocol over TCP or TLS.
type dnsCheck struct {
	dnsSettings
	dialer     *dialer
	query      []byte // packed, with ID 0
	overStream prober // the same query over TCP or TLS
}

// newDNS builds a check over UDP, which continues over TCP if the reply is truncated, or over TCP
// from the start.
func newDNS(s *spec) (prober, error) {
	if err := s.refuseHost(); err != nil {
		return nil, err
	}
	if s.dialer.proxyProtocol && !s.dns.tcp {
		return nil, s.optionError("proxy_protocol", errOverUDP)
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

// newDOT builds a check over TLS (RFC 7858).
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

// buildDNS builds the query. It asks for recursion (RD) unless an authoritative answer is demanded.
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
	// Without RD a server answers from what it has itself, which shows whether it holds the zone.
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), rrtype)
	m.Id, m.RecursionDesired = 0, !d.authoritative
	d.query, err = m.Pack()
	return d, err
}

// questionName takes the name to query from the path, and makes the path canonical: decoded, lower
// case, no final dot.
func (s *spec) questionName() (string, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(s.path, "/"))
	if err != nil || name == "" {
		return "", fmt.Errorf("url of scheme %s has no name to query: write %s", s.scheme.name, s.scheme.example)
	}
	if name != "." {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		// Labels are those of host names, with the underscore. A name with other bytes is not what
		// a health check asks for.
		for label := range strings.SplitSeq(name, ".") {
			if !validLabel(label) || len(name) > 253 {
				return "", fmt.Errorf("invalid domain name %s: write one as in %s", quote(name), s.scheme.example)
			}
		}
	}
	s.path = "/" + name
	return name, nil
}

// questionType takes the type to query from the query of the URL, A if there is none, and makes
// that canonical. Meta types (RFC 6895, 3.1) such as AXFR and ANY are refused: they are not
// ordinary questions.
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

// queryWithID is a copy of the query with a random ID, so that replies to other probes, and
// guesses, do not match.
func (d *dnsCheck) queryWithID() []byte {
	query := slices.Clone(d.query)
	binary.BigEndian.PutUint16(query, uint16(rand.Uint32()))
	return query
}

// strayLimit is how many datagrams that are not the reply are skipped before the probe fails.
const strayLimit = 64

var (
	errStray         = fmt.Errorf("more than %d replies to other questions", strayLimit)
	errOtherQuestion = errors.New("reply to another question")
)

// probe asks over UDP, and over TCP if the reply is truncated. Datagrams that are not the reply are
// skipped, because they may be late replies to earlier probes, or forged.
func (d *dnsCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	conn, closeConn, err := d.dialer.dialOver(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer closeConn()
	query := d.queryWithID()
	if _, err := conn.Write(query); err != nil {
		return datagramFailure(addr.Addr(), err)
	}
	// Without EDNS a reply over UDP has at most 512 bytes (RFC 1035, 4.2.1). A larger buffer also
	// reads the replies of servers that break that rule.
	buf := make([]byte, 4096)
	for range strayLimit {
		n, err := conn.Read(buf)
		switch {
		case err != nil:
			return responseFailure(err)
		case !isReply(buf[:n], query):
			continue // late or forged; the reply may still come
		case truncated(buf[:n]):
			return d.overStream.probe(ctx, addr)
		}
		return d.judgeReply(buf[:n])
	}
	return errStray
}

// ask asks over a stream, where each message follows its length in two bytes (RFC 1035, 4.2.2). The
// first message must be the reply: on a stream only the server can have sent it.
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

// dnsHeader is the size of the header: two bytes ID, two bytes flags, and four counters (RFC 1035,
// 4.1.1).
const dnsHeader = 12

// isReply reports whether reply answers query: same ID, the QR bit, opcode QUERY, and the same
// question. Only an error may omit the question, as servers do that could not parse it.
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

// sameQuestion compares questions and ignores the case of letters (RFC 1035, 2.3.3). It may compare
// byte by byte: a label has at most 63 bytes, and no letter is that small, so a length is never
// taken for one.
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

// truncated reports the TC bit: the reply did not fit into a datagram.
func truncated(reply []byte) bool { return reply[2]&0x02 != 0 }

// judgeReply judges the reply to our query: first the code, then who answers, then the records.
func (d *dnsCheck) judgeReply(reply []byte) error {
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return errors.New("malformed response: " + quote(strings.TrimPrefix(err.Error(), "dns: ")))
	}
	switch {
	// A name server that serves, but not this zone, answers REFUSED or SERVFAIL.
	case !slices.Contains(d.rcodes, m.Rcode):
		return fmt.Errorf("rcode %s", rcodeName(m.Rcode))
	case d.authoritative && !m.Authoritative:
		return errors.New("answer is not authoritative")
	case d.answer != nil && !slices.ContainsFunc(m.Answer, d.matches):
		return fmt.Errorf("no record in the answer matches %s (of %d)", quote(d.answer.String()), len(m.Answer))
	}
	return nil
}

// matches applies the option answer to the data of a record, in the format of a zone file. Name,
// TTL, class and type come before the data, separated by tabs; none of them contains a tab.
func (d *dnsCheck) matches(rr dns.RR) bool {
	data := rr.String()
	for range 4 {
		_, data, _ = strings.Cut(data, "\t")
	}
	return d.answer.MatchString(data)
}

// rcodeName is the mnemonic of a code, or its number.
func rcodeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprint(code)
}
