package check

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escapes are the letters that may follow a backslash, and the bytes they stand for. The Corefile
// lexer leaves these sequences alone.
var escapes = map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', '\\': '\\'}

// unescape decodes a text in which \r, \n, \t, \\ and \xHH stand for bytes. Its errors do not quote
// the text, because it may be a secret.
func unescape(text string) ([]byte, error) {
	raw := make([]byte, 0, len(text))
	for whole := len(text); ; {
		before, rest, found := strings.Cut(text, `\`)
		raw = append(raw, before...)
		if !found {
			return raw, nil
		}
		// The position in the error is that of the backslash, counted from 1.
		b, n, ok := escaped(rest)
		if !ok {
			return nil, fmt.Errorf(`invalid escape at byte %d of the text: write \r, \n, \t, \xHH, or \\ for a backslash`, whole-len(rest))
		}
		raw = append(raw, b)
		text = rest[n:]
	}
}

// escaped decodes what follows a backslash, and reports how many bytes of rest belong to it.
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

// escape encodes raw so that unescape restores it: printable characters as they are, everything
// else escaped. There is only one spelling for each text, so the canonical texts of two checks can
// be compared.
func escape(raw []byte) string {
	var text strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		// A byte that is not valid UTF-8 decodes as RuneError with size 1. U+FFFD itself has size 3
		// and is printable.
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
