package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/idn"
)

// tlsOptions are the options of every scheme that speaks TLS.
var tlsOptions = []string{"server_name", "insecure", "ca", "cert", "key", "expires", "tls_timeout"}

// tlsSettings are the values of the options of TLS.
type tlsSettings struct {
	serverName       string
	insecure         bool
	ca, cert, key    string        // paths; empty for none
	files            *trustFiles   // those of the three; nil before they are read, or if there are none
	expires          time.Duration // how long the certificate must stay valid; 0 for no demand
	alpn             []string      // nil for what the scheme speaks
	handshakeTimeout time.Duration // 0 for no bound of its own
	withoutALPN      bool          // a peer that negotiates nothing speaks one of alpn
}

// setServerName parses the option server_name, for a certificate that is for another name than the
// host to ask for.
func setServerName(s *settings, v []string) (shown []string, hidden []byte, err error) {
	name, err := idn.ToASCII(v[0])
	if err != nil {
		return nil, nil, err
	}
	s.tls.serverName, err = parseHost(name)
	return []string{s.tls.serverName}, nil, err
}

// setInsecure parses the option insecure: the certificate is not verified. What is checked beyond
// that, such as expires, still is.
func setInsecure(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.tls.insecure = true
	return nil, nil, nil
}

// tlsConfig validates the options of TLS together. The name in the certificate is server_name, else
// the host of the URL. Without either, the check must say insecure, so that it cannot be forgotten
// verification by accident.
//
// protocols are what to offer by ALPN, unless the option alpn names others; none to offer nothing.
func (s *spec) tlsConfig(protocols ...string) (*tlsClient, error) {
	name := s.tls.serverName
	if name == "" {
		name = s.host
	}
	if name == "" && !s.askOwner && !s.tls.insecure {
		return nil, fmt.Errorf("%s has no name to verify the certificate against: name a host, as in %s://%s, "+
			"or add server_name NAME or insecure", s.scheme.name, s.scheme.name, s.authority("www.example.org", s.port))
	}
	// Naming an authority and ignoring it is a contradiction, and it is not clear which of the two
	// was meant.
	if s.has("ca") && s.tls.insecure {
		return nil, s.optionError("ca", errors.New("cannot be used together with insecure, which verifies nothing: remove one of the two"))
	}
	files, err := s.trustFiles()
	if err != nil {
		return nil, err
	}
	if s.tls.alpn != nil {
		protocols = s.tls.alpn
	}
	return &tlsClient{files: files, config: &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: s.tls.insecure,
		// TLS 1.0 and 1.1 must not be used any more (RFC 8996).
		MinVersion: tls.VersionTLS12,

		NextProtos:       protocols,
		VerifyConnection: s.tls.verifyConnection,
		// No ClientSessionCache: a resumed session would leave the certificate unseen.
	}}, nil
}

// handshake performs a TLS handshake over conn, for no longer than limit, unless limit is 0.
// Sessions are never resumed, so each handshake shows the certificate.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config, limit time.Duration) (*tls.Conn, error) {
	// The handshake is bounded by ctx as well, whichever ends first.
	if limit > 0 {
		bounded, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx = bounded
	}
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, tlsFailure(err, config.ServerName)
	}
	return client, nil
}

// leafOf is the certificate of the peer itself in a failed verification, nil if it is not known.
func leafOf(err error) *x509.Certificate {
	var failed *tls.CertificateVerificationError
	if errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0 {
		return failed.UnverifiedCertificates[0]
	}
	return nil
}

// certificateFault says what is wrong with the certificate of the peer, in words for an operator.
// It is "" if err is about something else.
func certificateFault(err error, name string) string {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		other   *tls.CertificateVerificationError
		ours    phrase
	)
	switch {
	// Errors of our own verifyConnection come first: crypto/tls wraps them in an error of its own.
	case errors.As(err, &ours):
		return string(ours)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return validityFault(invalid.Cert, leafOf(err))
	case errors.As(err, &host):
		return fmt.Sprintf("certificate is for %s, not %s", certificateNames(host.Certificate), quote(name))
	case errors.As(err, &unknown):
		return "certificate signed by an unknown authority"
	case errors.As(err, &other):
		return "certificate not accepted: " + quote(other.Err.Error())
	}
	return ""
}
