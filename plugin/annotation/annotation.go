// Package annotation follows the annotations by which the owners of Kubernetes Services name the checks of their endpoints.
//
// Followers is the main type: the clusters that one Corefile names. The life cycle in the root makes and ends it; a stanza
// subscribes (Subscriber, which package rules implements), and plugin/services is the cluster behind it. Parse reads one
// annotation, and a quota keeps the owners of one namespace from taking all the room.
//
// The text comes from people who may not edit the Corefile, so it must not reach everything that a check can do. Parse takes
// the text apart and builds a new check from the parts that an owner may choose: scheme, port, path and statuses. Nothing
// else can get through, whatever package check learns in the future.
package annotation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// Key is the name of the annotation.
const Key = "coredns-multivalue.github.io/check"

// MaxText is the greatest length of the text, in bytes. Kubernetes allows 256 KiB for all annotations of an object, and this
// one is stored, compared and logged.
const MaxText = 512

// schemes are the schemes that an owner may choose. check.New refuses those that it does not know. Add one only if its check
// asks nothing but the address and port: exec, which runs a program on the DNS server, must never be here.
var schemes = []string{"grpc", "http", "https", "tcp"}

// usage ends each error with what would be right.
const usage = "use SCHEME://:PORT[/PATH] [status LIST], such as http://:8080/healthz status 200-299"

// Parse returns the check that an annotation asks for.
//
// An https check does not verify the certificate, like the probes of Kubernetes: an owner can name neither the host nor the
// authority to verify it by.
//
// Errors are shown in Events and in the log, and the text may hold a password that does not belong there. An error therefore
// quotes no more of it than one wrong character or status.
func Parse(text string) (*check.Check, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("text longer than %d bytes: %s", MaxText, usage)
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, fmt.Errorf("empty text: %s", usage)
	}
	url, scheme, err := parseURL(words[0])
	if err != nil {
		return nil, err
	}
	var options []check.Option
	switch more := words[1:]; {
	case len(more) == 0:
	case len(more) == 2 && more[0] == "status":
		options = append(options, check.Option{Name: "status", Values: more[1:]})
	default:
		return nil, fmt.Errorf("invalid text after the URL, only status and a list without spaces may follow: %s", usage)
	}
	if scheme == "https" {
		options = append(options, check.Option{Name: "insecure"})
	}
	return check.New(url, options...)
}

// parseURL builds a URL from the allowed parts of the one in text. It returns the scheme in lower case, too.
func parseURL(text string) (url, scheme string, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if scheme = strings.ToLower(scheme); !found || !slices.Contains(schemes, scheme) {
		return "", "", fmt.Errorf("unsupported scheme, not one of %s: %s", strings.Join(schemes, ", "), usage)
	}
	if strings.ContainsAny(rest, "?#") {
		return "", "", fmt.Errorf("query or fragment in the URL: %s", usage)
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	port, err := parsePort(authority)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%s://:%d%s", scheme, port, path), scheme, nil
}

// parsePort reads an authority that must be just a colon and a port. A host is refused: an owner must not make the DNS
// server probe anything but the endpoints of its own Service.
func parsePort(authority string) (uint64, error) {
	text, found := strings.CutPrefix(authority, ":")
	if !found && authority != "" {
		return 0, fmt.Errorf("host in the URL, and only the Service's own addresses are probed: %s", usage)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '0' { // ParseUint takes 080 for 80
		return 0, fmt.Errorf("missing or invalid port, not from 1 to 65535: %s", usage)
	}
	return port, nil
}
