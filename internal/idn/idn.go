// Package idn turns names with letters beyond ASCII into the form that DNS has.
//
// Corefiles may hold such names, in zones and in URLs. Queries and certificates never do.
package idn

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ToASCII converts the labels of a domain name that have letters beyond ASCII to A-labels (RFC 5890, section 2.3.2.1), with
// the mappings for look-ups of UTS #46, such as lower case. The other labels stay as they are: "_", for one, is valid in DNS
// and not in IDNA.
func ToASCII(name string) (string, error) {
	if isASCII(name) {
		return name, nil
	}
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("name %q is not UTF-8", name)
	}
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if isASCII(label) {
			continue
		}
		var err error
		if labels[i], err = idna.Lookup.ToASCII(label); err != nil {
			return "", fmt.Errorf("label %q is not valid in an international domain name: %w", label, err)
		}
	}
	return strings.Join(labels, "."), nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
