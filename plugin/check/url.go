package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/idn"
)

// parseURL parses the URL of a check (RFC 3986) and applies the rules that are the same for every
// scheme.
func parseURL(raw string) (*spec, error) {
	raw, err := asciiHost(raw)
	if err != nil {
		return nil, err
	}
	if i := strings.IndexFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return nil, fmt.Errorf("invalid character %q in url: write it percent-encoded", []rune(raw[i:])[0])
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, urlError(raw, err)
	}
	// Credentials in a URL would end up in canonical texts, metrics and logs.
	if u.User != nil {
		return nil, credentialsError(raw)
	}
	s := &spec{path: u.EscapedPath(), query: u.RawQuery}
	if s.scheme, err = parseScheme(u, raw); err != nil {
		return nil, err
	}
	// url.Parse drops an empty fragment without a trace, so the text is searched.
	if strings.Contains(raw, "#") {
		return nil, errors.New("url has a fragment, which is never sent: remove the # and what follows it")
	}
	if s.port, err = parsePort(u.Port(), s.scheme); err != nil {
		return nil, err
	}
	// Without a port in the URL, the record may name another one than the default.
	s.portNamed = u.Port() != ""
	if u.Hostname() == "" {
		return s, nil
	}
	s.host, err = parseHost(u.Hostname()) // url.Parse has checked that brackets enclose an IPv6 address
	return s, err
}

// asciiHost converts a host with letters beyond ASCII to the form that DNS and certificates have. A
// URL that may hold a password is left as it is, and refused later.
func asciiHost(raw string) (string, error) {
	start := strings.Index(raw, "://") + len("://")
	if start < len("://") || strings.Contains(raw, "@") {
		return raw, nil
	}
	end := start + strings.IndexAny(raw[start:]+"/", "/?#")
	host, port := raw[start:end], ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host, port = host[:i], host[i:]
	}
	ascii, err := idn.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("invalid host in url: %w", err)
	}
	return raw[:start] + ascii + port + raw[end:], nil
}

// credentialsError refuses credentials in a URL, and says where they belong. It must not quote
// them.
func credentialsError(raw string) error {
	// The URL may be so malformed that url.Parse has found no scheme.
	scheme, _, _ := strings.Cut(strings.ToLower(raw), ":")
	advice := "remove them, the check needs none"
	if scheme == "http" || scheme == "https" {
		advice = "put them in a file, and use the option basic_auth or bearer"
	}
	return errors.New("url has credentials, which are not allowed there: " + advice)
}

// urlError keeps only the cause of an error of [url.Parse], because the whole text would quote the
// URL and a password in it. If there may be a password, not even the cause is kept: the password
// may have been taken for a port.
func urlError(raw string, err error) error {
	if strings.Contains(raw, "@") {
		return credentialsError(raw)
	}
	if cause := new(url.Error); errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("invalid url: %w", err)
}

// exampleURL is a correct URL, for errors that do not even know the scheme.
const exampleURL = "http://:8080/healthz"

// parseScheme finds the scheme, and demands two slashes after it. Only icmp may do without, because
// nothing follows.
func parseScheme(u *url.URL, raw string) (*scheme, error) {
	every := schemeNames(func(*scheme) bool { return true })
	if u.Scheme == "" {
		return nil, fmt.Errorf("url has no scheme: start with one of %s, as in %s", every, exampleURL)
	}
	found, ok := findScheme(u.Scheme)
	if !ok {
		return nil, fmt.Errorf("unknown scheme %s: use one of %s", quote(u.Scheme), every)
	}
	if rest := raw[len(u.Scheme):]; !strings.HasPrefix(rest, "://") && (rest != ":" || found.name != "icmp") { // icmp: alone is complete
		return nil, fmt.Errorf("url has no // after %s: write it as in %s", u.Scheme, found.example)
	}
	return found, nil
}

// parsePort parses the port to dial. Without one it is the default of the scheme, which may be 0.
func parsePort(text string, s *scheme) (uint16, error) {
	if text == "" {
		return s.port, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	// Port 0 means "any port" to the kernel, and cannot be connected to.
	if err != nil || port == 0 {
		return 0, fmt.Errorf("invalid port %s: use 1 to 65535", quote(text))
	}
	return uint16(port), nil
}

// parseHost returns a DNS name or an IP address in canonical form: lower case, no final dot, no
// brackets. A name whose last label is a number is refused, because it is a mistyped IPv4 address.
func parseHost(host string) (string, error) {
	// A zone names a network of this host, so it has no meaning for the peer.
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return ip.String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return "", fmt.Errorf("invalid host %s: use a dns name or an ip address", quote(host))
		}
	}
	if len(name) > 253 || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", fmt.Errorf("invalid host %s: use a dns name or an ip address", quote(host))
	}
	return name, nil
}

// validLabel is the rule for host names (RFC 1123, 2.1), extended by the underscore, which is in
// use. The label must be in lower case.
func validLabel(label string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	return len(label) >= 1 && len(label) <= 63 && strings.Trim(label, letters) == "" &&
		label[0] != '-' && label[len(label)-1] != '-'
}

// authority is host and port in the form of a URL and of a Host header. The default port of the
// scheme is left out.
func (s *spec) authority(host string, port uint16) string {
	if port != s.scheme.port {
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// url is the canonical URL.
func (s *spec) url() string {
	authority := s.authority(s.host, s.port)
	if s.host == "" && s.port != 0 {
		authority = ":" + strconv.Itoa(int(s.port)) // without a host, even the default port is written: dns:/// looks like a mistake
	}
	text := s.scheme.name + "://" + authority + s.path
	if s.query != "" {
		text += "?" + s.query
	}
	return text
}
