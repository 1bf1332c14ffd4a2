package etcd

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// fileLimit is the longest file that is read, in bytes: one with authorities may have hundreds.
const fileLimit = 1 << 20

// secrets are what the files of a store say. They do not change, and no error or line of the log names what is in them.
type secrets struct {
	tls            *tls.Config // nil for none
	user, password string
	hash           [sha256.Size]byte // of all files
	readable       string            // a file with a secret that every user of the machine can read; empty if there is none
}

// readSecrets reads the files of a store.
func readSecrets(s membership.Store) (*secrets, error) {
	sum := sha256.New()
	out := &secrets{}
	// The hash is over all files with their names, so that it is another one if any of them changes.
	read := func(what, path string, secret bool) ([]byte, error) {
		text, info, err := watchfile.Read(path, fileLimit)
		if err != nil {
			return nil, fileError(what, path, err)
		}
		if secret && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
			out.readable = path
		}
		fmt.Fprintf(sum, "%q %d\n", path, len(text))
		sum.Write(text)
		return text, nil
	}
	if err := out.readTLS(s, read); err != nil {
		return nil, err
	}
	if s.Credentials != "" {
		text, err := read("credentials", s.Credentials, true)
		if err != nil {
			return nil, err
		}
		if out.user, out.password, err = parseCredentials(s.Credentials, text); err != nil {
			return nil, err
		}
	}
	sum.Sum(out.hash[:0])
	return out, nil
}

// readTLS reads the certificates and the key.
func (x *secrets) readTLS(s membership.Store, read func(what, path string, secret bool) ([]byte, error)) error {
	if !s.TLS {
		return nil
	}
	// Without a file, the authorities are those of the system. The name that the certificate has to have is that of the endpoint.
	x.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		text, err := read("authorities", s.CA, false)
		if err != nil {
			return err
		}
		x.tls.RootCAs = x509.NewCertPool()
		if !x.tls.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s has no certificate: use a file in PEM with the authorities that etcd's certificate is of", s.CA)
		}
	}
	if s.Cert == "" {
		return nil
	}
	cert, err := read("certificate", s.Cert, false)
	key, errKey := read("key", s.Key, true)
	if err := errors.Join(err, errKey); err != nil {
		return err
	}
	// While one of the two files is replaced and the other is not, they do not fit: that is no fault before it has lasted.
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s are not a certificate and its key: %w", s.Cert, s.Key, err)
	}
	x.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// parseCredentials reads the one line of a file: USER:PASSWORD. Only the password may have a colon.
func parseCredentials(path string, text []byte) (user, password string, err error) {
	// Editors end the line, and may do so in the way of Windows.
	line := strings.TrimRight(string(text), "\r\n")
	user, password, found := strings.Cut(line, ":")
	if !found || user == "" || password == "" || bytes.ContainsAny([]byte(line), "\r\n") {
		return "", "", fmt.Errorf("%s is not one line with USER:PASSWORD: write the name of a user of etcd, a colon, and the password", path)
	}
	return user, password, nil
}

// fileError is why a file cannot be read.
func fileError(what, path string, err error) error {
	switch {
	case errors.Is(err, watchfile.ErrTooLarge):
		return fmt.Errorf("the file with the %s %s is larger than %d bytes: use a smaller one", what, path, fileLimit)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the file with the %s %s does not exist: name one that does", what, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the file with the %s %s cannot be read: let the user of this process read it", what, path)
	case errors.Is(err, watchfile.ErrIrregular):
		return fmt.Errorf("the file with the %s %s is not a regular file: name the file itself, not the directory that it is in", what, path)
	}
	return fmt.Errorf("the file with the %s %s cannot be read: %w; name another file, or mend this one", what, path, err)
}
