package answer

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"
)

// world has the health of addresses and the rules of a test.
type world struct {
	rule    Rule
	health  map[netip.Addr]verdict.Verdict
	drained map[netip.Addr]bool
	exempt  map[string]bool
	soas    map[string]*dns.SOA
	hosts   map[string][]netip.Addr // by name and type, the addresses that the server knows
	looked  map[netip.Addr]uint32   // the TTL of each address in its last look-up
	unknown verdict.Verdict
	ports   map[netip.AddrPort]verdict.Verdict // TTLs that differ from the address's
	draw    Draw
	another []dns.RR // of the name in all_down; nil if it is not known
	its     *Rule    // of that name; nil if it has none
}

func (w *world) Rule(owner string) *Rule {
	if w.exempt[owner] {
		return nil
	}
	w.rule.Health = w
	return &w.rule
}

func (w *world) Absent(string, uint16) {}

func (w *world) SOA(owner string) *dns.SOA {
	for zone, soa := range w.soas {
		if dns.IsSubDomain(zone, owner) {
			return soa
		}
	}
	return nil
}

func (w *world) Follow(_, host string) bool { return !w.exempt[strings.ToLower(host)] }

func (w *world) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	if host == "" || host == "." {
		panic("no host has the root name")
	}
	addrs, known := w.hosts[strings.ToLower(host)+" "+dns.TypeToString[rrtype]]
	return addrs, known
}

func (w *world) Fallback(_, _ string, rrtype uint16) Fallback {
	f := Fallback{Known: w.another != nil, TTL: 1 << 31, Rule: w.its}
	for _, rr := range w.another {
		addr, ok := Address(rr)
		f.TTL = min(f.TTL, rr.Header().Ttl)
		switch {
		case rr.Header().Rrtype == rrtype:
			f.Owner, f.Addresses = rr.Header().Name, append(f.Addresses, addr)
		case ok:
			f.Elsewhere = true
		}
	}
	if w.its != nil {
		w.its.Health = w
	}
	return f
}

// Open implements Health.
func (w *world) Open(owner string, _ uint16) verdict.RecordSet {
	return verdict.RecordSet{Owner: owner}
}

func (w *world) Look(_ verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	if w.looked == nil {
		w.looked = make(map[netip.Addr]uint32)
	}
	w.looked[addr] = ttl
	if w.drained[addr] {
		return w.measured(addr, port).Drain()
	}
	return w.measured(addr, port)
}

func (w *world) measured(addr netip.Addr, port uint16) verdict.Brief {
	if v, ok := w.ports[netip.AddrPortFrom(addr, port)]; ok {
		return v.Brief()
	}
	if v, ok := w.health[addr]; ok {
		return v.Brief()
	}
	return w.unknown.Brief()
}

// TestThin runs the cases in testdata. Each is a text archive: what it shows, the policy, the query, the health of the
// addresses, the answer of another plugin, and what should be returned.
func TestThin(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]string)
	for _, f := range archive.Files {
		sections[f.Name] = string(f.Data)
	}
	m := message(t, sections)
	w := parseWorld(t, sections)
	before := snap(m)
	w.draw.IntN = rand.IntN
	out, report := Thin(m, w, &w.draw)
	if after := snap(m); !before.equal(after) {
		t.Errorf("the message it was given changed:\n%s\nwas\n%s", after.text, before.text)
	}
	if out != nil && out != m {
		extend(out)
		if after := snap(m); !before.equal(after) {
			t.Error("appending to the result writes behind the ends of the input")
		}
		shrink(out)
	}
	got := describe(out, report, sections)
	if want := sections["want"]; got != want {
		t.Errorf("%s\ngot\n%swant\n%s", archive.Comment, got, want)
	}
	if strings.HasPrefix(sections["want"], "untouched") != (out == m) {
		t.Errorf("the same message came out: %t", out == m)
	}
	if looked, ok := sections["looked up"]; ok && strings.TrimSpace(looked) != fmt.Sprint(len(w.looked)) {
		t.Errorf("%d addresses were looked up, want %s", len(w.looked), looked)
	}
}

// roomy gives a section spare capacity, as a section of a zone or cache may have, where other plugins append.
func roomy(section []dns.RR) []dns.RR { return append(make([]dns.RR, 0, len(section)+2), section...) }

// extend appends to each section of a message, as later plugins do.
func extend(m *dns.Msg) {
	m.Answer, m.Ns, m.Extra = append(m.Answer, new(dns.NULL)), append(m.Ns, new(dns.NULL)), append(m.Extra, new(dns.NULL))
}

// shrink undoes extend.
func shrink(m *dns.Msg) {
	m.Answer, m.Ns, m.Extra = m.Answer[:len(m.Answer)-1], m.Ns[:len(m.Ns)-1], m.Extra[:len(m.Extra)-1]
}

// A NODATA answer keeps only the OPT record of the additional section. An append to it must not overwrite what followed that
// record in the original (T2).
func TestNodataHasNoSpareCapacity(t *testing.T) {
	m, w := addresses(2, 30), healthy(8)
	w.rule.Policy.AllDown = NoData
	w.fell("10.0.0.0", time.Hour)
	w.fell("10.0.0.1", time.Hour)
	m.Extra = []dns.RR{&dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}, new(dns.TSIG)}
	before := snap(m)
	out, report := Thin(m, w, chance(1))
	if report.Outcome != Closed || len(out.Extra) != 1 {
		t.Fatalf("%+v, with %d additional records", report, len(out.Extra))
	}
	if extend(out); !before.equal(snap(m)) {
		t.Error("appending to the result overwrites a record of the input")
	}
}

// snapshot keeps the state of a message: its text, and the records in its sections, including the spare capacity.
type snapshot struct {
	text    string
	records []dns.RR
}

func snap(m *dns.Msg) snapshot {
	s := snapshot{text: m.String()}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		s.records = append(s.records, section[:cap(section)]...)
	}
	return s
}

func (s snapshot) equal(o snapshot) bool {
	return s.text == o.text && slices.Equal(s.records, o.records)
}

func message(t *testing.T, sections map[string]string) *dns.Msg {
	t.Helper()
	question := strings.Fields(sections["query"])
	m := new(dns.Msg)
	m.SetQuestion(question[0], dns.StringToType[question[1]])
	m.Response = true
	for _, flag := range question[2:] {
		switch flag {
		case "tc":
			m.Truncated = true
		case "ad":
			m.AuthenticatedData = true
		case "nxdomain":
			m.Rcode = dns.RcodeNameError
		default:
			t.Fatalf("unknown flag %q", flag)
		}
	}
	m.Answer, m.Ns, m.Extra = roomy(records(t, sections["answer"])), roomy(records(t, sections["authority"])), roomy(records(t, sections["additional"]))
	return m
}

func records(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	parser := dns.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		rrs = append(rrs, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	return rrs
}

var now = time.Unix(1e9, 0)

// parseWorld reads the policy, in the words of the Corefile, the health, one address a line, and the SOA records of the zones.
func parseWorld(t *testing.T, sections map[string]string) *world {
	t.Helper()
	w := &world{health: make(map[netip.Addr]verdict.Verdict), drained: make(map[netip.Addr]bool), exempt: make(map[string]bool), soas: make(map[string]*dns.SOA),
		hosts: make(map[string][]netip.Addr), ports: make(map[netip.AddrPort]verdict.Verdict)}
	w.rule.Types = DefaultTypes
	w.rule.Policy = Policy{Limit: 8, MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}
	for line := range strings.Lines(sections["policy"]) {
		readPolicy(t, w, strings.Fields(line))
	}
	if text, ok := sections["another"]; ok {
		w.another = append([]dns.RR{}, records(t, text)...)
	}
	if text, ok := sections["its policy"]; ok {
		its := world{rule: Rule{Types: DefaultTypes, Policy: Policy{Limit: 8, MinUp: Quorum{Count: 1}, TTL: TTL{Min: 30}}}}
		for line := range strings.Lines(text) {
			readPolicy(t, &its, strings.Fields(line))
		}
		w.its = &its.rule
	}
	for line := range strings.Lines(sections["health"]) {
		words := strings.Fields(line)
		if at, err := netip.ParseAddrPort(words[0]); err == nil {
			w.ports[at] = readVerdict(t, words[1:])
			continue
		}
		a := netip.MustParseAddr(words[0])
		if last := len(words) - 1; words[last] == "drained" {
			w.drained[a], words = true, words[:last]
		}
		w.health[a] = readVerdict(t, words[1:])
	}
	for line := range strings.Lines(sections["hosts"]) {
		words := strings.Fields(line)
		w.hosts[words[0]+" "+words[1]] = parseAddrs(words[2:])
	}
	for _, rr := range records(t, sections["soa"]) {
		w.soas[rr.Header().Name] = rr.(*dns.SOA)
	}
	return w
}

func parseAddrs(words []string) []netip.Addr {
	addrs := make([]netip.Addr, len(words))
	for i, word := range words {
		addrs[i] = netip.MustParseAddr(word)
	}
	return addrs
}

func readPolicy(t *testing.T, w *world, words []string) {
	t.Helper()
	number := func(i int) int {
		n, err := strconv.Atoi(strings.TrimSuffix(words[i], "%"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p := &w.rule.Policy
	switch strings.Join(words[:1], "") {
	case "limit":
		p.Limit = number(1)
	case "min_up":
		p.MinUp = Quorum{Count: number(1)}
		if strings.HasSuffix(words[1], "%") {
			p.MinUp = Quorum{Percent: number(1)}
		}
	case "all_down":
		switch {
		case p.AllDown.Set(words[1]):
		case strings.HasSuffix(words[1], "."):
			p.AllDown, p.Another = Named, words[1]
		default:
			p.AllDown, p.Instead = Fixed, parseAddrs(words[1:])
		}
	case "types":
		w.rule.Types = 0
		for _, word := range words[1:] {
			w.rule.Types |= TypesOf(dns.StringToType[word])
		}
	case "backup":
		for _, word := range words[1:] {
			p.Backup = append(p.Backup, Rank{netip.MustParsePrefix(word), 1})
		}
	case "weight":
		p.Weights = append(p.Weights, Weight{netip.MustParsePrefix(words[2]), number(1)})
	case "client":
		p.Client, w.draw.Client = true, netip.MustParsePrefix(words[1])
	case "ttl":
		p.TTL = TTL{Off: words[1] == "off"}
		if !p.TTL.Off {
			p.TTL = TTL{Max: uint32(number(1)), Min: uint32(number(2))}
		}
	case "except":
		w.exempt[words[1]] = true
	case "dry_run":
		p.DryRun = true
	default:
		t.Fatalf("unknown policy %q", words)
	}
}

// readVerdict reads a state, how long it has lasted, and how long it holds.
func readVerdict(t *testing.T, words []string) verdict.Verdict {
	t.Helper()
	states := map[string]verdict.State{"up": verdict.Up, "down": verdict.Down, "unknown": verdict.Unknown, "unchecked": verdict.Unchecked}
	v := verdict.Verdict{State: states[words[0]]}
	for words = words[1:]; len(words) > 0; words = words[2:] {
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		switch words[0] {
		case "for":
			v.Since = now.Add(-d)
		case "holds":
			v.Holds = d
		}
	}
	return v
}

// describe writes a result as the cases have it: the outcome, then each section that is not empty.
func describe(m *dns.Msg, report Report, sections map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d/%d", report.Outcome, report.Kept, report.Total)
	if report.Signed {
		b.WriteString(" signed")
	}
	if m == nil {
		return b.String() + " servfail\n"
	}
	if m.AuthenticatedData {
		b.WriteString(" ad")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	b.WriteString("\n")
	if strings.HasPrefix(sections["want"], "untouched") {
		return "untouched " + b.String()
	}
	for _, rr := range m.Answer {
		fmt.Fprintln(&b, fields(rr))
	}
	for _, rr := range m.Ns {
		fmt.Fprintln(&b, "authority", fields(rr))
	}
	for _, rr := range m.Extra {
		fmt.Fprintln(&b, "additional", fields(rr))
	}
	return b.String()
}

// fields is the text of a record with single spaces.
func fields(rr dns.RR) string {
	scanner := bufio.NewScanner(bytes.NewBufferString(rr.String()))
	scanner.Split(bufio.ScanWords)
	var words []string
	for scanner.Scan() {
		words = append(words, scanner.Text())
	}
	return strings.Join(words, " ")
}
