package check

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A connection is asked while it has probes left, its time has not passed, and a handshake would still
// accept its certificates. The time that reuse_for gives is never exceeded, and differs.
func TestKeptLasts(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		kept Kept
		want bool
	}{
		"fresh":            {Kept{lease: Lease{now.Add(1), 1}}, true},
		"used up":          {Kept{lease: Lease{now.Add(1), 0}}, false},
		"old":              {Kept{lease: Lease{now, 1}}, false},
		"certificate":      {Kept{lease: Lease{now.Add(1), 1}, refused: now.Add(1)}, true},
		"certificate ends": {Kept{lease: Lease{now.Add(1), 1}, refused: now}, false},
	} {
		if got := tt.kept.lasts(now); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	lives := make(map[time.Time]bool)
	for range 100 {
		for wait, s := range map[time.Duration]*spec{10 * time.Minute: {}, time.Hour: {settings: settings{reuseFor: time.Hour}}} {
			before := time.Now()
			k := newKept(nil, s)
			lives[k.lease.until] = true
			if k.lease.until.Before(before.Add(wait-wait/10)) || k.lease.until.After(time.Now().Add(wait)) {
				t.Fatalf("kept for %s, want %s less up to a tenth", k.lease.until.Sub(before), wait)
			}
		}
	}
	if len(lives) < 100 {
		t.Error("connections that begin together end together")
	}
}

// The end of a certificate is that of the chain that lasts longest; without verification only expires
// asks for it.
func TestKeptUntilTheCertificateEnds(t *testing.T) {
	ends := func(hours int) *x509.Certificate {
		return &x509.Certificate{NotAfter: time.Unix(0, 0).Add(time.Duration(hours) * time.Hour)}
	}
	verified := tls.ConnectionState{PeerCertificates: []*x509.Certificate{ends(9)}, VerifiedChains: [][]*x509.Certificate{{ends(9), ends(5)}, {ends(9), ends(3)}}}
	unverified := tls.ConnectionState{PeerCertificates: []*x509.Certificate{ends(9)}}
	for _, tt := range []struct {
		state   tls.ConnectionState
		expires time.Duration
		want    time.Time
	}{
		{verified, 0, ends(5).NotAfter}, {verified, time.Hour, ends(4).NotAfter},
		{unverified, 0, time.Time{}}, {unverified, time.Hour, ends(8).NotAfter},
	} {
		if got := (&tlsSettings{expires: tt.expires}).refusedFrom(tt.state); !got.Equal(tt.want) {
			t.Errorf("expires %s: %s, want %s", tt.expires, got, tt.want)
		}
	}
}

// Between two probes a connection in the clear has no buffer, whatever was read of the answer.
func TestKeptHasNoBuffer(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nneedle\r\n0\r\n\r\n"
	role := "+PONG\r\n*3\r\n$6\r\nmaster\r\n:100\r\n*1\r\n*3\r\n$9\r\n192.0.2.1\r\n$4\r\n6379\r\n$3\r\n100\r\n"
	for _, tt := range []struct {
		url, answer string
		options     []Option
	}{
		{"http://", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nneedle", nil},
		{"http://", chunked, nil},
		{"http://", chunked, []Option{{Name: "no_body", Values: []string{"thistle"}}}},
		{"http://", chunked, []Option{{Name: "body", Values: []string{"needle"}}}},
		{"redis://", "+PONG\r\n", nil},
		{"redis://", role, []Option{{Name: "role", Values: []string{"master"}}}},
	} {
		c, err := New(tt.url, append(tt.options, Option{Name: "reuse"})...)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			for buf := make([]byte, 4096); ; {
				if _, err := conn.Read(buf); err != nil {
					return
				}
				io.WriteString(conn, tt.answer) // in one piece, which loopback keeps
			}
		})
		var kept *Kept
		for range 3 {
			if kept, err = c.ProbeReusing(t.Context(), l.Addr().(*net.TCPAddr).AddrPort(), kept); err != nil || kept == nil || kept.in != nil || kept.finish != nil {
				t.Errorf("%s: %v, %+v", c, err, kept)
			}
		}
		kept.Close()
		l.Close()
		served.Wait()
	}
}
