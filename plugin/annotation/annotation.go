// Package annotation knows what may stand in the annotation by which the owner of a Service names its check.
//
// The text is taken apart, and the check made anew of the parts that an owner may choose: scheme, port, path and
// statuses. What cannot be said in these parts cannot come through, whatever else package check learns to do.
package annotation

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// Key is the annotation.
const Key = "coredns-multivalue.github.io/check"

// MaxText is the length of an annotation, in bytes, at most: it stands in logs, and an annotation may have 256 KiB.
const MaxText = 512

// schemes are those that an owner may choose, as far as package check knows them.
var schemes = []string{"grpc", "http", "https", "tcp"}

// usage is what an error holds up as right.
const usage = "want SCHEME://:PORT[/PATH] [status LIST], such as http://:8080/healthz status 200-299"

// Parse makes the check that an annotation asks for. An https check does not verify the certificate, as Kubernetes's own
// probes do not: an owner can name neither the host nor the authority that it would be verified by.
//
// An error repeats no more of the text than a character or a status that is wrong: it may hold a password where none belongs.
func Parse(text string) (*check.Check, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("it has more than %d bytes: %s", MaxText, usage)
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, fmt.Errorf("it is empty: %s", usage)
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
		return nil, fmt.Errorf("nothing but status and a list without spaces may follow the URL: %s", usage)
	}
	if scheme == "https" {
		options = append(options, check.Option{Name: "insecure"})
	}
	return check.New(url, options...)
}

// parseURL takes a URL apart, and puts together one of the parts that are allowed.
func parseURL(text string) (url, scheme string, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if scheme = strings.ToLower(scheme); !found || !slices.Contains(schemes, scheme) {
		return "", "", fmt.Errorf("it begins with none of the schemes %s: %s", strings.Join(schemes, ", "), usage)
	}
	if strings.ContainsAny(rest, "?#") {
		return "", "", fmt.Errorf("it has a query or a fragment: %s", usage)
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

// parsePort reads the port behind a host that is left out.
func parsePort(authority string) (uint64, error) {
	text, found := strings.CutPrefix(authority, ":")
	if !found && authority != "" {
		return 0, fmt.Errorf("it names a host, and only the Service's own addresses are asked: %s", usage)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '0' {
		return 0, errors.New("it names no port from 1 to 65535: " + usage)
	}
	return port, nil
}
