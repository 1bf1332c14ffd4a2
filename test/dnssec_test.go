package test

import (
	"crypto"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const signing = `
example.org:0 {
    bind 127.0.0.1
    dnssec {
        key file DIR/Kexample.org.+013+00001
    }
    file DIR/example.org
    CACHE
    multivalue {
        CALM
    }
}`

// newKey makes a key and writes the two files that the dnssec and sign plugins read.
func (s *scene) newKey() *dns.DNSKEY {
	s.Helper()
	key := &dns.DNSKEY{
		Hdr:       dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags:     257,
		Protocol:  3,
		Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		s.Fatal(err)
	}
	s.verbatim("Kexample.org.+013+00001.key", key.String()+"\n")
	s.verbatim("Kexample.org.+013+00001.private", key.PrivateKeyString(private))
	return key
}

// signZone rewrites the zone file with a signature for one set.
func (s *scene) signZone(records string, set []dns.RR) *dns.DNSKEY {
	s.Helper()
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 300},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		s.Fatal(err)
	}
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: set[0].Header().Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 300},
		Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: "example.org.",
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(time.Hour).Unix()),
	}
	if err := sig.Sign(private.(crypto.Signer), set); err != nil {
		s.Fatal(err)
	}
	s.verbatim("example.org", zoneText("example.org", records+"\n"+sig.String()))
	return key
}

// mustValidate checks that the answer has a signature that is valid for its addresses.
func mustValidate(t *testing.T, m *dns.Msg, key *dns.DNSKEY) {
	t.Helper()
	var set []dns.RR
	var sig *dns.RRSIG
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			set = append(set, rr)
		case *dns.RRSIG:
			if rr.TypeCovered == dns.TypeA {
				sig = rr
			}
		}
	}
	if sig == nil {
		t.Fatalf("no signature in %v", m.Answer)
	}
	if err := sig.Verify(key, set); err != nil {
		t.Errorf("the signature does not hold: %v", err)
	}
}

// A set that dnssec signs on the fly stays complete for clients that ask for signatures, and it validates. Other
// clients get it thinned, without AD (B24, T23, T24).
func TestSetSignedOnTheFlyStaysWhole(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11, 13)
			key := s.newKey()
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
			v := s.serve(replace(signing, "CACHE", cache))
			plain := v.comesTo("www.example.org A", "11 13", func(m *dns.Msg) { m.AuthenticatedData = true })
			if plain.AuthenticatedData {
				t.Error("AD is set on a thinned answer")
			}
			for range 3 {
				signed := v.ask("www.example.org A", do)
				if got := members(signed); got != "11 12 13" {
					t.Errorf("the signed answer has %q, want all", got)
				}
				mustValidate(t, signed, key)
			}
		})
	}
}

// A set that is signed in the zone file stays complete too, and is thinned for clients that do not ask for signatures
// (B24).
func TestPresignedSetStaysWhole(t *testing.T) {
	s := newScene(t, 11, 13)
	var set []dns.RR
	var records []string
	for _, n := range []int{11, 12, 13} {
		rr, err := dns.NewRR(fmt.Sprintf("www.example.org. 300 IN A 127.0.0.%d", n))
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, rr)
		records = append(records, rr.String())
	}
	key := s.signZone(strings.Join(records, "\n"), set)
	v := s.serve(classic)
	v.comesTo("www.example.org A", "11 13")
	signed := v.ask("www.example.org A", do)
	if got := members(signed); got != "11 12 13" {
		t.Errorf("the signed answer has %q, want all", got)
	}
	mustValidate(t, signed, key)
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 1 {
		t.Errorf("the scene has more files than its zone: %v", left)
	}
}

// An answer from a validating upstream has AD. It loses AD when records are removed (T24).
func TestValidatedAnswerLosesADWhenCut(t *testing.T) {
	s := newScene(t, 11)
	upstream := s.upstream(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.AuthenticatedData = true
		for _, n := range []string{"11", "12"} {
			rr, _ := dns.NewRR(r.Question[0].Name + " 300 IN A 127.0.0." + n)
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	v := s.serve(".:0 {\n bind 127.0.0.1\n forward . " + upstream + "\n multivalue {\n CALM\n }\n}")
	ad := func(m *dns.Msg) { m.AuthenticatedData = true }
	if first := v.ask("www.example.org A", ad); !first.AuthenticatedData {
		t.Error("a whole answer lost AD")
	}
	if cut := v.comesTo("www.example.org A", "11", ad); cut.AuthenticatedData {
		t.Error("a cut answer kept AD")
	}
}

// upstream starts a DNS server outside CoreDNS and returns its address.
func (s *scene) upstream(handle dns.HandlerFunc) string {
	s.Helper()
	ready := make(chan struct{})
	server := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", Handler: handle, NotifyStartedFunc: func() { close(ready) }}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	<-ready
	s.Cleanup(func() {
		_ = server.Shutdown()
		<-ended
	})
	return server.PacketConn.LocalAddr().String()
}
