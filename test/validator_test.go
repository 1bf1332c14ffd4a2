package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// These tests query through delv, BIND's validator, which trusts only the key of the zone. dnssec_test.go checks
// single signatures; here the whole chain must validate, denials included.

const validated = `
example.org:0 {
    bind 127.0.0.1
    OTHERS
    multivalue {
        QUICK
        OURS
    }
}`

const (
	onTheFly = "dnssec {\n key file DIR/Kexample.org.+013+00001\n }\n file DIR/example.org"
	secured  = "fully validated"
	denied   = "negative response, fully validated"
)

// newSigned is a scene with a zone of three addresses, the key that signs it, and the file that makes delv trust that
// key.
func newSigned(t *testing.T, up ...int) *scene {
	t.Helper()
	needsProgram(t, "delv")
	s := newScene(t, up...)
	s.trust(s.newKey())
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nshop CNAME www")
	return s
}

// trust makes delv trust the key.
func (s *scene) trust(key *dns.DNSKEY) {
	s.Helper()
	s.verbatim("anchor", fmt.Sprintf("trust-anchors { %q static-key %d %d %d %q; };\n",
		key.Hdr.Name, key.Flags, key.Protocol, key.Algorithm, key.PublicKey))
}

// needsProgram skips the test if the program is missing. In CI, where it must be installed, the test fails.
func needsProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	lacking(t, name+" is missing")
}

// lacking skips the test for the lack of something. In CI, which must lack nothing, the test fails.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what + ": skipping")
}

// placeBelow puts multivalue directly below another plugin until the test ends.
func (s *scene) placeBelow(neighbour string) {
	s.Helper()
	usual := dnsserver.Directives
	list := slices.DeleteFunc(slices.Clone(usual), func(d string) bool { return d == "multivalue" })
	if err := dnsserver.SetDirectives(slices.Insert(list, slices.Index(list, neighbour)+1, "multivalue")); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { dnsserver.Directives = usual })
}

// delv returns the validator's verdict on the answer, and the backends in it.
func (v *server) delv(question string) (verdict, backends string) {
	v.Helper()
	host, port, err := net.SplitHostPort(v.addr)
	if err != nil {
		v.Fatal(err)
	}
	args := []string{"@" + host, "-p", port, "-a", filepath.Join(v.dir, "anchor"), "+root=example.org."}
	out, err := exec.Command("delv", append(args, strings.Fields(question)...)...).CombinedOutput()
	if err != nil {
		v.Fatalf("delv: %v\n%s", err, out)
	}
	var answer dns.Msg
	for line := range strings.Lines(string(out)) {
		if comment, ok := strings.CutPrefix(line, "; "); ok && verdict == "" {
			verdict = strings.TrimSpace(comment)
		} else if rr, err := dns.NewRR(line); err == nil && rr != nil {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	if verdict == "" {
		verdict = strings.TrimSpace(string(out))
	}
	return verdict, members(&answer)
}

// validates checks the validator's verdict and the backends in the answer.
func (v *server) validates(question, verdict, backends string) {
	v.Helper()
	if said, got := v.delv(question); said != verdict || got != backends {
		v.Errorf("%s: the verdict is %q with %q; want %q, %q", question, said, got, verdict, backends)
	}
}

// Answers validate, whatever plugin signs them and wherever multivalue is in the chain. A set that is signed below
// multivalue stays complete; a set that dnssec signs above it is signed as thinned (B24, T23, T25).
func TestSignedAnswersValidate(t *testing.T) {
	for _, c := range []struct{ name, below, others, signed string }{
		{"above cache and dnssec", "", "cache\n " + onTheFly, "11 12 13"},
		{"above cache, minimal and dnssec", "", "cache\n minimal\n " + onTheFly, "11 12 13"},
		{"above a signed file", "", "cache\n file DIR/db.example.org.signed", "11 12 13"},
		{"above forward to a signer", "", "cache\n forward . SIGNER", "11 12 13"},
		{"below dnssec", "dnssec", onTheFly, "11 13"},
		{"below dnssec and minimal", "minimal", "minimal\n " + onTheFly, "11 13"},
		{"below dnssec with loadbalance", "minimal", "loadbalance\n " + onTheFly, "11 13"},
		{"below minimal, above a signed file", "minimal", "minimal\n file DIR/db.example.org.signed", "11 12 13"},
		{"below minimal, above forward to a signer", "minimal", "minimal\n forward . SIGNER", "11 12 13"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSigned(t, 11, 13)
			if strings.Contains(c.others, "signed") {
				s.signFile()
			}
			others := c.others
			if strings.Contains(others, "SIGNER") {
				signer := s.serve("example.org:0 {\n bind 127.0.0.1\n " + onTheFly + "\n}")
				others = replace(others, "SIGNER", signer.addr)
			}
			if c.below != "" {
				s.placeBelow(c.below)
			}
			v := s.serve(replace(validated, "OTHERS", others, "OURS", ""))
			v.comesTo("www.example.org A", "11 13") // one is down, as clients without DO see
			v.validates("www.example.org A", secured, c.signed)
			v.validates("shop.example.org A", secured, c.signed)
			v.validates("example.org SOA", secured, "")
			v.validates("www.example.org AAAA", denied, "")
			v.validates("nowhere.example.org TXT", denied, "")
		})
	}
}

// signFile makes CoreDNS's sign plugin write a signed copy of the zone file, which it does in the background. The
// server runs until the test ends, because the plugin panics if it is stopped twice.
func (s *scene) signFile() {
	s.Helper()
	s.serve(`
example.org:0 {
    bind 127.0.0.1
    erratic
    sign DIR/example.org {
        key file DIR/Kexample.org.+013+00001
        directory DIR
    }
}`)
	s.eventually(func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "db.example.org.signed"))
		return err == nil
	}, func() string { return "the zone file is not signed" })
}

// Below dnssec, every change of a verdict makes another set, and each of these sets is signed (B24, T25).
func TestThinnedSetsAreSigned(t *testing.T) {
	s := newSigned(t, 11, 12, 13)
	s.placeBelow("minimal")
	v := s.serve(replace(validated, "OTHERS", onTheFly, "OURS", ""))
	v.comesTo("www.example.org A", "11 12 13", do)
	v.settled(3, 0)
	v.validates("www.example.org A", secured, "11 12 13")
	s.kill(12)
	v.comesTo("www.example.org A", "11 13", do)
	v.validates("www.example.org A", secured, "11 13")
	s.kill(11)
	v.comesTo("www.example.org A", "13", do)
	v.validates("www.example.org A", secured, "13")
	s.start(12)
	v.comesTo("www.example.org A", "12 13", do)
	v.validates("www.example.org A", secured, "12 13")
}

// Every draw of a sample is signed too.
func TestSamplesAreSigned(t *testing.T) {
	s := newSigned(t, 11, 12, 13)
	s.placeBelow("minimal")
	v := s.serve(replace(validated, "OTHERS", onTheFly, "OURS", "limit 2"))
	seen := make(map[string]bool)
	for range 20 {
		said, got := v.delv("www.example.org A")
		if said != secured || len(strings.Fields(got)) != 2 {
			t.Fatalf("the verdict is %q with %q", said, got)
		}
		seen[got] = true
	}
	if len(seen) < 2 {
		t.Errorf("every draw is the same: %v", seen)
	}
}

// If everything is down, a validator gets the reply of all_down, below dnssec: NODATA is proven, and SERVFAIL is
// passed on. Above dnssec, all_down never replaces a signed set (B9, B24, B31, T12).
func TestAllDownValidates(t *testing.T) {
	const failed = ";; resolution failed: failure"
	for _, c := range []struct{ name, below, policy, verdict, backends string }{
		{"below dnssec", "minimal", "serve", secured, "11 12 13"},
		{"below dnssec", "minimal", "nodata", denied, ""},
		{"below dnssec", "minimal", "servfail", failed, ""},
		{"above dnssec", "", "nodata", secured, "11 12 13"},
		{"above dnssec", "", "servfail", secured, "11 12 13"},
	} {
		t.Run(c.name+" "+c.policy, func(t *testing.T) {
			s := newSigned(t)
			if c.below != "" {
				s.placeBelow(c.below)
			}
			v := s.serve(replace(validated, "OTHERS", "minimal\n "+onTheFly, "OURS", "all_down "+c.policy))
			v.ask("www.example.org A")
			v.down(3)
			if c.policy == "nodata" {
				v.eventually(func() bool { return len(v.ask("www.example.org A").Ns) > 0 },
					func() string { return "the SOA record is not looked up" })
			}
			v.validates("www.example.org A", c.verdict, c.backends)
			v.validates("www.example.org AAAA", denied, "")
			v.validates("example.org SOA", secured, "") // the zone's own SOA record, not the one in our denial
		})
	}
}

// The validator detects changes: it refuses a signed set with a record removed, and a set signed with another key.
func TestValidatorRefuses(t *testing.T) {
	s := newSigned(t)
	behind := s.serve("example.org:0 {\n bind 127.0.0.1\n " + onTheFly + "\n}")
	cutting := s.upstream(func(w dns.ResponseWriter, r *dns.Msg) {
		m, err := dns.Exchange(r, behind.addr)
		if err != nil {
			m = new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
		}
		if r.Question[0].Qtype == dns.TypeA {
			m.Answer = m.Answer[1:]
		}
		_ = w.WriteMsg(m)
	})
	v := &server{scene: s, addr: behind.addr}
	v.validates("www.example.org A", secured, "11 12 13")
	cut := &server{scene: s, addr: cutting}
	if said, got := cut.delv("www.example.org A"); !strings.Contains(said, "RRSIG failed to verify") || got != "" {
		t.Errorf("for a thinned set the verdict is %q with %q", said, got)
	}
	s.trust(s.newKey())
	if said, got := v.delv("www.example.org A"); !strings.Contains(said, "resolution failed") || got != "" {
		t.Errorf("for a set signed with another key the verdict is %q with %q", said, got)
	}
}
