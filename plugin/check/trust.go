package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

const (
	// pemLimit is the longest file of certificates, or with a key, in bytes. All public authorities
	// together have a tenth of it.
	pemLimit = 4 << 20
	// trustWait is how long a probe waits for a look at the files, but not for more than a quarter of its time. If
	// they do not answer, it uses what they said before.
	trustWait = 100 * time.Millisecond
	// trustStuck is how long files may take before that is a fault.
	trustStuck = 10 * time.Second
)

// A trust is what the files of ca, cert and key say: whom a check believes, and who it is itself.
type trust struct {
	ca    *x509.CertPool    // nil for the roots of the system
	certs []tls.Certificate // of ours; at most one
}

// trustFiles are the files of ca, cert and key. They are followed, since tools that renew
// certificates exchange them at any time. While the new ones cannot be used, the ones before stay
// in use: a certificate and its key are two files, which are not exchanged in one moment.
type trustFiles struct {
	followed[trust]
	ca, cert, key string // paths; empty for none

	used  atomic.Pointer[trust]  // the latest that can be used
	fault atomic.Pointer[string] // why that is not what the files said at the last look; nil if it is
}

// newTrustFiles makes the files that options name, which is those that are not empty, and reads
// them. An error names the option that is wrong.
func newTrustFiles(ca, cert, key string) (t *trustFiles, option string, err error) {
	t = &trustFiles{ca: ca, cert: cert, key: key}
	for _, path := range []string{ca, cert, key} {
		if path != "" {
			t.paths = append(t.paths, path)
		}
	}
	t.load = func() (trust, error) {
		v, option, err := t.read()
		if err != nil {
			err = fmt.Errorf("%s: %w", option, err)
		}
		return v, err
	}
	t.seen = t.found
	first, option, err := t.read()
	if err != nil {
		return nil, option, err
	}
	t.used.Store(&first)
	return t, "", nil
}

// read reads all of the files. Without an error they belong together.
func (t *trustFiles) read() (v trust, option string, err error) {
	if t.ca != "" {
		bundle, _, err := watchfile.Read(t.ca, pemLimit)
		if err != nil {
			return v, "ca", err
		}
		if v.ca = x509.NewCertPool(); !v.ca.AppendCertsFromPEM(bundle) {
			return v, "ca", fmt.Errorf("no certificate in %s: use a file of certificates in pem format", quote(t.ca))
		}
	}
	if t.cert == "" {
		return v, "", nil
	}
	cert, _, err := watchfile.Read(t.cert, pemLimit)
	if err != nil {
		return v, "cert", err
	}
	key, _, err := watchfile.Read(t.key, pemLimit)
	if err != nil {
		return v, "key", err
	}
	pair, err := tls.X509KeyPair(cert, key) // which also checks that the two belong together
	if err != nil {
		return v, "cert", err
	}
	v.certs = []tls.Certificate{pair}
	return v, "", nil
}

// found takes over what a look has found, however long that took.
func (t *trustFiles) found(v trust, err error) {
	if err != nil {
		text := err.Error()
		t.fault.Store(&text)
		return
	}
	t.used.Store(&v)
	t.fault.Store(nil)
}

// now is what the files say, or what they said before. It waits for a look at them, but not for
// long, and no probe waits for one that hangs.
func (t *trustFiles) now(ctx context.Context) *trust {
	l := t.join()
	wait := trustWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/4)
	}
	late := time.NewTimer(wait - time.Since(l.began))
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
	case <-ctx.Done():
	}
	return t.used.Load()
}

// Fault says why the files are not used as they are now; empty if they are.
func (t *trustFiles) Fault() string {
	if t == nil {
		return ""
	}
	if t.hangs(trustStuck) {
		return t.stuck().Error()
	}
	if fault := t.fault.Load(); fault != nil {
		return *fault
	}
	return ""
}

// A tlsClient is the configuration of TLS of a check, with the files that it follows.
type tlsClient struct {
	config *tls.Config // without what the files say
	files  *trustFiles // nil if there are none
}

// now is the configuration for one handshake, which must not be changed.
func (c *tlsClient) now(ctx context.Context) *tls.Config { return c.with(c.trust(ctx)) }

// trust is what the files say; nil if there are none.
func (c *tlsClient) trust(ctx context.Context) *trust {
	if c == nil || c.files == nil {
		return nil
	}
	return c.files.now(ctx)
}

// with is the configuration with what the files say, which must not be changed.
func (c *tlsClient) with(v *trust) *tls.Config {
	if v == nil {
		return c.config
	}
	config := c.config.Clone()
	config.RootCAs, config.Certificates = v.ca, v.certs
	return config
}

// sameTrust reports whether the files said the same both times.
func sameTrust(a, b *trust) bool {
	if a == nil || b == nil {
		return a == b
	}
	sameCert := func(a, b tls.Certificate) bool { return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal) }
	return (a.ca == b.ca || a.ca != nil && a.ca.Equal(b.ca)) && slices.EqualFunc(a.certs, b.certs, sameCert)
}

// setCA parses the option ca. What is in the file is no part of the identity of the check, nor is
// that of cert and key: a renewed certificate must not reset the state of every target.
func setCA(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.ca = v[0]
	return v, nil, nil
}

// setCert parses the option cert, the certificate of the client with its chain.
func setCert(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.cert = v[0]
	return v, nil, nil
}

// setKey parses the option key.
func setKey(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.tls.key = v[0]
	return v, nil, nil
}

// trustFiles reads the files of ca, cert and key, once for the check and all that are made from it;
// see [Check.ForOwner].
func (s *spec) trustFiles() (*trustFiles, error) {
	switch hasCert, hasKey := s.has("cert"), s.has("key"); {
	case hasCert && !hasKey:
		return nil, s.optionError("cert", errors.New("needs the option key FILE"))
	case hasKey && !hasCert:
		return nil, s.optionError("key", errors.New("needs the option cert FILE"))
	case !hasCert && !s.has("ca"):
		return nil, nil
	}
	if s.tls.files == nil {
		files, option, err := newTrustFiles(s.tls.ca, s.tls.cert, s.tls.key)
		if err != nil {
			return nil, s.optionError(option, err)
		}
		s.tls.files = files
	}
	return s.tls.files, nil
}
