package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// newTLS builds the check that performs a TLS handshake (B34).
func newTLS(s *spec) (prober, error) {
	if s.path != "" || s.query != "" {
		return nil, errors.New("tls takes no path and no query: write " + s.scheme.example)
	}
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	return proberFunc(func(ctx context.Context, addr netip.AddrPort) error { return s.probeHandshake(ctx, addr, config) }), nil
}

// probeHandshake succeeds if the peer has also accepted our side of the handshake. In TLS 1.3 that
// shows only afterwards: a server that rejects the certificate of the client says so when the
// handshake is over for the client (RFC 8446, 4.4.2.4). Therefore the probe sends close_notify and
// reads what the peer answers. In TLS 1.2 the last message of the handshake comes from the peer.
func (s *spec) probeHandshake(ctx context.Context, addr netip.AddrPort, own *tlsClient) error {
	conn, closeConn, err := s.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	var asked bool
	config := own.now(ctx)
	client, err := handshake(ctx, conn, recordRequest(config, &asked), s.tls.handshakeTimeout)
	if err != nil {
		return err
	}
	defer client.Close()
	if client.ConnectionState().Version < tls.VersionTLS13 {
		return nil
	}
	// A healthy peer answers with data, with close_notify, or not at all; a rejecting one with an
	// alert.
	if err = client.CloseWrite(); err == nil {
		_, err = client.Read(make([]byte, 1))
	}
	if rejected(err, asked) {
		return tlsFailure(err, config.ServerName)
	}
	return nil
}

// recordRequest returns a configuration for one handshake, in which asked is set if the peer
// requests a client certificate. The certificate is chosen as crypto/tls would choose it.
func recordRequest(config *tls.Config, asked *bool) *tls.Config {
	own := config.Clone()
	own.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		*asked = true
		for i := range own.Certificates {
			if request.SupportsCertificate(&own.Certificates[i]) == nil {
				return &own.Certificates[i], nil
			}
		}
		// An empty certificate means that we send none (see GetClientCertificate in crypto/tls); an
		// error would end the handshake.
		return new(tls.Certificate), nil
	}
	return own
}

// rejected reports whether the peer closed the connection because it rejects us: by an alert. The
// alert may be lost to a reset, but a reset from a peer that requested no certificate is only its
// way to close. A peer that closes in another way, or says something, or nothing, has no objection.
func rejected(err error, asked bool) bool {
	var op *net.OpError
	alert := errors.As(err, &op) && op.Op == "remote error"
	return alert || asked && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// verifyConnection makes the demands that go beyond those of TLS. crypto/tls calls it at the end of
// the handshake, so every scheme that speaks TLS has them.
func (s *tlsSettings) verifyConnection(state tls.ConnectionState) error {
	// A server that knows ALPN, but none of our protocols, ends the handshake with an alert (RFC
	// 7301, 3.2). This is for one that does not know ALPN.
	if s.alpn != nil && !s.withoutALPN && state.NegotiatedProtocol == "" {
		return phrase("peer accepts none of the protocols of alpn")
	}
	if s.expires > 0 {
		return s.checkExpiry(state)
	}
	return nil
}

// checkExpiry fails if a certificate expires too soon: that of the peer, or one above it. If there
// are several verified chains, the one that lasts longest counts.
func (s *tlsSettings) checkExpiry(state tls.ConnectionState) error {
	// With insecure nothing was verified, and only the certificate of the peer itself is known.
	first, own := firstToExpire(state), state.PeerCertificates[0]
	if first == nil {
		first = own
	}
	if time.Until(first.NotAfter) < s.expires {
		return phrase(certificateLabel(first, own) + expiresSoon(first.NotAfter, s.expires))
	}
	return nil
}

// expiresSoon says when a certificate expires, and how long it should be valid.
func expiresSoon(end time.Time, wanted time.Duration) string {
	return fmt.Sprintf(" expires on %s, within %s", end.UTC().Format(time.DateOnly), formatDuration(wanted))
}

// firstToExpire is the certificate that limits the verified chain: the first of a chain to expire,
// in the chain that lasts longest. It is nil if nothing was verified, as with insecure.
func firstToExpire(state tls.ConnectionState) (last *x509.Certificate) {
	// A chain is as good as its first certificate to expire, and one good chain is enough.
	for _, chain := range state.VerifiedChains {
		first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if last == nil || first.NotAfter.After(last.NotAfter) {
			last = first
		}
	}
	return last
}

const (
	day = 24 * time.Hour
	// maxExpires is the longest validity that can be demanded. No public authority issues
	// certificates for that long, so a longer time is a mistake.
	maxExpires = 3650 * day
)

// setExpires parses the option expires: how long the certificate must still be valid. The canonical
// form is in days if possible, so 14d and 336h are one check.
func setExpires(s *settings, v []string) (shown []string, hidden []byte, err error) {
	d, err := parseDuration(v[0])
	if err != nil {
		return nil, nil, err
	}
	if d < time.Second || d > maxExpires {
		return nil, nil, fmt.Errorf("invalid duration %s: use 1s to %s, such as 14d", quote(v[0]), formatDuration(maxExpires))
	}
	s.tls.expires = d
	return []string{formatDuration(d)}, nil, nil
}

// parseDuration parses a duration that may be in days, such as 14d, which [time.ParseDuration] does
// not know.
func parseDuration(text string) (time.Duration, error) {
	// 16 bits of days are more than maxExpires, and cannot overflow a duration.
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("invalid duration %s: use a number with a unit, such as 14d or 336h", quote(text))
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("invalid duration %s: use a number with a unit, such as 14d or 336h", quote(text))
	}
	return d, nil
}

// formatDuration is the text that parseDuration reads: in days, if the duration is a whole number
// of them.
func formatDuration(d time.Duration) string {
	if d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return d.String()
}

// setALPN parses the option alpn: names as in the registry of ALPN (RFC 7301, 6), of which the peer
// must choose one. A name has 1 to 255 bytes (RFC 7301, 3.1).
func setALPN(s *settings, v []string) (shown []string, hidden []byte, err error) {
	for name := range strings.SplitSeq(v[0], ",") {
		if !isToken(strings.ReplaceAll(name, "/", "")) || len(name) > 255 {
			return nil, nil, fmt.Errorf("invalid protocol name %s: use names such as h2,http/1.1", quote(name))
		}
		// The order is a preference, so the list is not sorted.
		if slices.Contains(s.tls.alpn, name) {
			return nil, nil, fmt.Errorf("duplicate protocol %s: keep one", quote(name))
		}
		s.tls.alpn = append(s.tls.alpn, name)
	}
	return v, nil, nil
}
