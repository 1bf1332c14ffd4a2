package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// tlsOptions are the options of every scheme that speaks TLS.
var tlsOptions = []string{"server_name", "insecure", "ca", "cert", "key", "expires", "tls_timeout"}

// tlsSettings is what they come to.
type tlsSettings struct {
	serverName       string
	insecure         bool
	ca               *x509.CertPool // nil: the system's
	cert, key        []byte         // PEM, both or neither
	expires          time.Duration  // how long the certificate must be good for
	alpn             []string       // nil: what the scheme speaks
	handshakeTimeout time.Duration  // of the handshake; 0 for none of its own
	withoutALPN      bool           // what a peer speaks that does not negotiate is among alpn
}

func setServerName(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.serverName, err = parseHost(v[0])
	return []string{s.tls.serverName}, nil, err
}

func setInsecure(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.tls.insecure = true
	return nil, nil, nil
}

func setCA(s *settings, v []string) (shown []string, hidden []byte, err error) {
	bundle, err := os.ReadFile(v[0])
	if err != nil {
		return nil, nil, err
	}
	s.tls.ca = x509.NewCertPool()
	if !s.tls.ca.AppendCertsFromPEM(bundle) {
		return nil, nil, fmt.Errorf("no certificate in %s: use a file of certificates in pem format", quote(v[0]))
	}
	return v, bundle, nil
}

func setCert(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.cert, err = os.ReadFile(v[0])
	return v, s.tls.cert, err
}

func setKey(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.key, err = os.ReadFile(v[0])
	return v, s.tls.key, err
}

// tlsConfig judges the TLS options together. The name in the certificate is server_name, else the URL's host; where
// there is neither, the check must say that it does not care.
//
// The protocols are those to offer, unless the option alpn names others; none to offer none.
func (s *spec) tlsConfig(protocols ...string) (*tls.Config, error) {
	name := s.tls.serverName
	if name == "" {
		name = s.host
	}
	if name == "" && !s.askOwner && !s.tls.insecure {
		return nil, fmt.Errorf("%s has no name to verify the certificate against: name a host, as in %s://%s, "+
			"or add server_name NAME or insecure", s.scheme.name, s.scheme.name, s.authority("www.example.org", s.port))
	}
	if s.tls.ca != nil && s.tls.insecure {
		return nil, s.optionError("ca", errors.New("cannot be used together with insecure, which verifies nothing: remove one of the two"))
	}
	certs, err := s.clientCertificate()
	if err != nil {
		return nil, err
	}
	if s.tls.alpn != nil {
		protocols = s.tls.alpn
	}
	return &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: s.tls.insecure,
		RootCAs:            s.tls.ca,
		Certificates:       certs,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         protocols,
		VerifyConnection:   s.tls.verifyConnection,
		// No ClientSessionCache: a resumed session would leave the certificate unseen.
	}, nil
}

// clientCertificate pairs cert and key.
func (s *spec) clientCertificate() ([]tls.Certificate, error) {
	switch hasCert, hasKey := s.has("cert"), s.has("key"); {
	case !hasCert && !hasKey:
		return nil, nil
	case !hasKey:
		return nil, s.optionError("cert", errors.New("needs the option key FILE"))
	case !hasCert:
		return nil, s.optionError("key", errors.New("needs the option cert FILE"))
	}
	pair, err := tls.X509KeyPair(s.tls.cert, s.tls.key)
	if err != nil {
		return nil, s.optionError("cert", err)
	}
	return []tls.Certificate{pair}, nil
}

// secure speaks TLS over conn. The handshake may take as long as limit, if that is not 0.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config, limit time.Duration) (*tls.Conn, error) {
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

// peers is the certificate of the peer itself that could not be verified, nil if that is not known.
func leafOf(err error) *x509.Certificate {
	var failed *tls.CertificateVerificationError
	if errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0 {
		return failed.UnverifiedCertificates[0]
	}
	return nil
}

// certificateFault names what is wrong with the certificate of the peer, in words for an operator; "" if err is
// about something else.
func certificateFault(err error, name string) string {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		other   *tls.CertificateVerificationError
		ours    phrase
	)
	switch {
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
