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

// A reason is the text of a failure and nothing more. The error that caused it is dropped, for its text repeats the
// address, and peers can write into it what they like: only words of ours and quoted ones of theirs come through.

// A phrase is an error in words of ours, fit for a reason as it is.
type phrase string

// Error is the text.
func (p phrase) Error() string { return string(p) }

// quoteLimit bounds text that is not ours, in bytes with its quotes.
const quoteLimit = 64

// quote makes text of any origin safe to stand in a message: quoted, without control characters, and cut.
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

// couldNotAsk are the errors of connecting that are about us and not about the peer (B49).
var localErrors = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.EADDRNOTAVAIL, syscall.EAGAIN, // no local port is free
	syscall.EPERM, syscall.EACCES, // a filter of this host; see remote for the second
	syscall.ENOSPC, // what a user may watch by epoll is used up
}

// causes are the words for what ends a conversation. The first that fits is taken.
var causes = []struct {
	err   error
	words string
}{
	{net.ErrClosed, "timed out"}, // only the end of the context closes a connection under our hands
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

// words says in short what ended a conversation.
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
		return "malformed trailer" // whose text the error repeats, and that may be our secret
	}
	return describeOther(err)
}

// otherWords is for errors that have no words of ours. The text of a net.OpError begins with the addresses, so only
// its cause is used, without the call that met it; what the peer objected to in TLS is such a cause.
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

// remote reports whether err may come from a firewall before the peer. ICMPv6 can say "administratively prohibited"
// (RFC 4443, 3.1), which the kernel hands on as the error that a prohibition of this host has. Nothing tells the two
// apart, so over IPv6 it counts against the peer, or one that is dead would stay up behind its firewall. Nothing that
// comes over IPv4 is handed on so.
func mayBeRemote(peer netip.Addr, err error) bool {
	return !peer.Unmap().Is4() && errors.Is(err, syscall.EACCES)
}

// ourFailure is an error that abstains if err is about us and not about the peer, else nil.
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

// unsent is for a packet that goes out without a connection.
func datagramFailure(peer netip.Addr, err error) error {
	if ours := localFailure(peer, err); ours != nil {
		return ours
	}
	return requestFailure(err)
}

func connectFailure(peer netip.Addr, err error) error {
	if ours := localFailure(peer, err); ours != nil {
		return ours
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("connection refused")
	}
	return errors.New("connect: " + describe(err))
}

func tlsFailure(err error, name string) error {
	var record tls.RecordHeaderError
	fault := certificateFault(err, name)
	switch {
	case fault != "":
	case errors.As(err, &record):
		fault = "peer does not speak tls"
	default:
		fault = describe(err)
	}
	return errors.New("tls handshake: " + fault)
}

// validity says which end of its time a certificate is beyond.
func validityFault(cert, peers *x509.Certificate) string {
	if time.Now().Before(cert.NotBefore) {
		return certificateLabel(cert, peers) + " is not valid before " + cert.NotBefore.UTC().Format(time.DateOnly)
	}
	return certificateLabel(cert, peers) + " expired on " + cert.NotAfter.UTC().Format(time.DateOnly)
}

// whose calls the peer's own certificate that, and one above it by its subject.
func certificateLabel(cert, peers *x509.Certificate) string {
	if peers == nil || cert.Equal(peers) {
		return "certificate"
	}
	return "certificate of the issuer " + quote(cmp.Or(cert.Subject.CommonName, cert.Subject.String()))
}

// names says whom a certificate is for: the first name, and how many more.
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

func requestFailure(err error) error {
	return errors.New("request not sent: " + describe(err))
}

// responseFailure is for a peer that has not sent a byte.
func responseFailure(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return errors.New("connection reset while waiting for the response")
	}
	return errors.New("no response: " + describe(err))
}

// malformed shows the first line of what the peer sent instead of what it should have.
func malformed(start []byte) error {
	line, _, _ := strings.Cut(string(start), "\n")
	return errors.New("malformed response " + quote(strings.TrimRight(line, "\r")))
}

func bodyFailure(err error) error {
	return errors.New("reading the body: " + describe(err))
}
