package check

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// A reason is the text of a failure and nothing more. The error that caused it is dropped, because
// its text repeats the address, and a peer can put anything into it. Only words of ours, and quoted
// words of the peer, may reach a log or the status page.

// A phrase is an error in words of ours, fit for a reason as it is.
type phrase string

// Error is the text.
func (p phrase) Error() string { return string(p) }

// quoteLimit bounds quoted text that is not ours, in bytes, with its quotes.
const quoteLimit = 64

// quote makes text of any origin safe to show: quoted, without control characters, at most
// quoteLimit bytes.
func quote(text string) string {
	if len(text) <= quoteLimit {
		if q := strconv.Quote(text); len(q) <= quoteLimit {
			return q
		}
	}
	text = text[:min(len(text), quoteLimit)]
	for {
		if q := strconv.Quote(text) + "…"; len(q) <= quoteLimit {
			return q
		}
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
}

// localErrors are the errors of connecting that are about this host and not about the peer (B49).
// They abstain.
var localErrors = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.EADDRNOTAVAIL, syscall.EAGAIN, // no free local port
	syscall.EPERM, syscall.EACCES, // a filtered datagram, and a route that prohibits; but see mayBeRemote for EACCES
	syscall.ENOSPC, // the limit of epoll watches of the user is reached
}

// causes are the words for what ends a connection. The first entry that fits is used.
var causes = []struct {
	err   error
	words string
}{
	{net.ErrClosed, "timed out"}, // only the end of the context closes a connection that is in use
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset"},
	{syscall.EPIPE, "connection reset"},
	{syscall.EHOSTUNREACH, "host unreachable"},
	{syscall.ENETUNREACH, "network unreachable"},
	{syscall.EACCES, "administratively prohibited"},
	{io.EOF, "connection closed"},
	{io.ErrUnexpectedEOF, "connection closed"},
	{errTooLong, errTooLong.Error()},
	{gzip.ErrHeader, "not gzip"},
	{gzip.ErrChecksum, "broken gzip"},
}

// describe says in a few words what ended a connection.
func describe(err error) string {
	var timer interface{ Timeout() bool }
	if errors.As(err, &timer) && timer.Timeout() {
		return "timed out"
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.words
		}
	}
	var ours phrase
	if errors.As(err, &ours) {
		return string(ours)
	}
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) {
		return "broken gzip"
	}
	var line textproto.ProtocolError
	if errors.As(err, &line) {
		return "malformed trailer" // the error quotes the trailer, which may repeat our secret
	}
	return describeOther(err)
}

// describeOther is for errors that have no words of ours. The text of a [net.OpError] starts with
// the addresses, so only its cause is shown, without the name of the system call. An alert of the
// peer in TLS is such a cause.
func describeOther(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	text := strings.TrimPrefix(err.Error(), "tls: ")
	if op != nil && op.Op == "remote error" {
		return "peer sent the tls alert " + quote(text)
	}
	return quote(text)
}

// mayBeRemote reports whether err may come from a firewall in front of the peer. ICMPv6 has
// "administratively prohibited" (RFC 4443, 3.1), and Linux reports it as EACCES, the same error as
// for a filter of this host. Because nothing tells the two apart, EACCES counts against the peer
// over IPv6; otherwise a dead peer behind a firewall would stay up. Over IPv4 nothing from the
// network becomes EACCES.
func mayBeRemote(peer netip.Addr, err error) bool {
	return !peer.Unmap().Is4() && errors.Is(err, syscall.EACCES)
}

// localFailure is an error that abstains if err is about this host, else nil.
func localFailure(peer netip.Addr, err error) error {
	if mayBeRemote(peer, err) {
		return nil
	}
	for _, errno := range localErrors {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %s", ErrAbstain, errno.Error())
		}
	}
	return nil
}

// datagramFailure is the reason why a packet could not be sent without a connection.
func datagramFailure(peer netip.Addr, err error) error {
	if ours := localFailure(peer, err); ours != nil {
		return ours
	}
	return requestFailure(err)
}

// connectFailure is the reason why a TCP connection could not be opened.
func connectFailure(peer netip.Addr, err error) error {
	if ours := localFailure(peer, err); ours != nil {
		return ours
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("connection refused")
	}
	return errors.New("connect: " + describe(err))
}

// tlsFailure is the reason why a handshake failed. name is whom the certificate was expected for.
func tlsFailure(err error, name string) error {
	var record tls.RecordHeaderError
	fault := certificateFault(err, name)
	switch {
	case fault != "":
	// The first bytes of the peer are no TLS record.
	case errors.As(err, &record):
		fault = "peer does not speak tls"
	default:
		fault = describe(err)
	}
	return errors.New("tls handshake: " + fault)
}

// validityFault tells whether a certificate has expired or is not valid yet.
func validityFault(cert, peers *x509.Certificate) string {
	if time.Now().Before(cert.NotBefore) {
		return certificateLabel(cert, peers) + " is not valid before " + cert.NotBefore.UTC().Format(time.DateOnly)
	}
	return certificateLabel(cert, peers) + " expired on " + cert.NotAfter.UTC().Format(time.DateOnly)
}

// certificateLabel names a certificate in a reason: "certificate" for that of the peer, else by its
// subject, so that the operator knows which one of the chain to renew.
func certificateLabel(cert, peers *x509.Certificate) string {
	if peers == nil || cert.Equal(peers) {
		return "certificate"
	}
	return "certificate of the issuer " + quote(cmp.Or(cert.Subject.CommonName, cert.Subject.String()))
}

// certificateNames are the names a certificate is valid for: the first, and how many more. The
// common name is not among them, because crypto/x509 ignores it.
func certificateNames(cert *x509.Certificate) string {
	all := slices.Clone(cert.DNSNames) // crypto/tls shares certificates between connections
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	switch len(all) {
	case 0:
		return "no name"
	case 1:
		return quote(all[0])
	}
	return fmt.Sprintf("%s and %d more", quote(all[0]), len(all)-1)
}

// requestFailure is the reason for a request that could not be sent.
func requestFailure(err error) error {
	return errors.New("request not sent: " + describe(err))
}

// responseFailure is the reason for a peer that has not sent a byte of the answer.
func responseFailure(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return errors.New("connection reset while waiting for the response")
	}
	return errors.New("no response: " + describe(err))
}

// malformed is the reason for an answer in another protocol. It shows the first line. Never use it
// if the peer was told a secret.
func malformed(start []byte) error {
	line, _, _ := strings.Cut(string(start), "\n")
	return errors.New("malformed response " + quote(strings.TrimRight(line, "\r")))
}

// bodyFailure is the reason for a body that could not be read to the end.
func bodyFailure(err error) error {
	return errors.New("reading the body: " + describe(err))
}
