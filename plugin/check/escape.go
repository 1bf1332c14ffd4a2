package check

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escapes are the letters behind a backslash, and what they stand for. The lexer of a Corefile leaves them as they are.
var escapes = map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', '\\': '\\'}

// unescape reads a text in which \r, \n, \t, \\ and \xHH stand for bytes. An error shows nothing of it, for it may be secret.
func unescape(text string) ([]byte, error) {
	raw := make([]byte, 0, len(text))
	for whole := len(text); ; {
		before, rest, found := strings.Cut(text, `\`)
		raw = append(raw, before...)
		if !found {
			return raw, nil
		}
		b, n, ok := escaped(rest)
		if !ok {
			return nil, fmt.Errorf(`invalid escape at byte %d of the text: write \r, \n, \t, \xHH, or \\ for a backslash`, whole-len(rest))
		}
		raw = append(raw, b)
		text = rest[n:]
	}
}

// escaped reads what follows a backslash, of which it takes n bytes.
func escaped(rest string) (b byte, n int, ok bool) {
	if rest == "" {
		return 0, 0, false
	}
	if rest[0] == 'x' && len(rest) >= 3 {
		code, err := strconv.ParseUint(rest[1:3], 16, 8)
		return byte(code), 3, err == nil
	}
	b, ok = escapes[rest[0]]
	return b, 1, ok
}

// escape is the canonical text that unescape reads as raw.
func escape(raw []byte) string {
	var text strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		switch plain := strconv.IsPrint(r) && (r != utf8.RuneError || size > 1); {
		case r == '\\':
			text.WriteString(`\\`)
		case r == '\r' || r == '\n' || r == '\t':
			text.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		case plain:
			text.Write(raw[:size])
		default:
			for _, b := range raw[:size] {
				fmt.Fprintf(&text, `\x%02x`, b)
			}
		}
		raw = raw[size:]
	}
	return text.String()
}
