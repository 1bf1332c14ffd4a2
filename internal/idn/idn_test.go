package idn

import "testing"

func TestToASCII(t *testing.T) {
	for name, want := range map[string]string{
		"www.example.org":          "www.example.org",
		"_http._tcp.example.org.":  "_http._tcp.example.org.",
		"WWW.Bücher.example.":      "WWW.xn--bcher-kva.example.",
		"_http._TCP.BÜCHER.例え.テスト": "_http._TCP.xn--bcher-kva.xn--r8jz45g.xn--zckzah",
		"straße.example":           "xn--strae-oqa.example", // IDNA2008 keeps the letter
		"xn--bcher-kva.example":    "xn--bcher-kva.example",
		"":                         "",
	} {
		if got, err := ToASCII(name); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"-ü.example", "a\u200db.example", "\u0301a.example", "a\xff.example"} {
		if got, err := ToASCII(name); err == nil {
			t.Errorf("%q: %q, want an error", name, got)
		}
	}
}
