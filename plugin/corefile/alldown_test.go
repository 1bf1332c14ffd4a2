package corefile

import (
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
)

// One name with a dot in it, alone, is the name that takes over (B102).
func TestParseAnother(t *testing.T) {
	for text, want := range map[string]string{
		"sorry.example.org": "sorry.example.org.", "Sorry.Example.ORG.": "sorry.example.org.", "a.b": "a.b.", "_x.example.org": "_x.example.org.",
		"bücher.example.org": "xn--bcher-kva.example.org.", "serve.example.org": "serve.example.org.", "nodata.example.org": "nodata.example.org.",
		"10.example.org": "10.example.org.",
	} {
		configs, err := parseCorefile("example.org a.b {\nmultivalue {\ncheck tcp://:80\nall_down " + text + "\n}\n}")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if p := configs[0].Policy; p.AllDown != answer.Named || p.Another != want || p.Instead != nil {
			t.Errorf("%s: %+v", text, p)
		}
	}
}

// What may be a mistyped word or address is no name, and a name stands alone. One outside the server block needs within, because
// its owner would choose what is probed (B78, B102).
func TestParseAnotherErrors(t *testing.T) {
	const (
		use   = ": use serve, nodata, servfail or addresses, or one domain name with a dot in it"
		alone = " cannot be combined with other values: use one name alone, or addresses"
	)
	for text, want := range map[string]string{
		"nodata.":                             `invalid all_down "nodata."` + use + `: did you mean "nodata"?`,
		"NODATA":                              `invalid all_down "NODATA"` + use + `: did you mean "nodata"?`,
		"serv.fail":                           `invalid all_down "serv.fail"` + use + `: did you mean "servfail"?`,
		"serve.":                              `invalid all_down "serve."` + use + `: did you mean "serve"?`,
		"sorry":                               `invalid all_down "sorry"` + use,
		"192.0.2":                             `invalid all_down "192.0.2"` + use,
		"192.0.2.300":                         `invalid all_down "192.0.2.300"` + use,
		"192.0.2.1/32":                        `invalid all_down "192.0.2.1/32"` + use,
		"192.0.2.1:80":                        `invalid all_down "192.0.2.1:80"` + use,
		"*.example.org":                       `invalid all_down "*.example.org"` + use,
		"http://sorry.example.org":            `invalid all_down "http://sorry.example.org"` + use,
		"sorry.example.org:53":                `invalid all_down "sorry.example.org:53"` + use,
		".":                                   `invalid all_down "."` + use,
		"sorry.example.org 192.0.2.1":         "all_down sorry.example.org" + alone,
		"192.0.2.1 sorry.example.org":         "all_down sorry.example.org" + alone,
		"sorry.example.org sorry.example.org": "all_down sorry.example.org" + alone,
		"sorry.example.net":                   "all_down sorry.example.net. is outside this server block, and needs within: without it, the owner of that name chooses what is probed; use a name in example.org., or name the networks of your servers, such as within 192.0.2.0/24",
	} {
		_, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\nall_down " + text + "\n}\n}")
		if err == nil || !strings.HasPrefix(err.Error(), "Corefile:4 - ") || !strings.HasSuffix(err.Error(), want) && !strings.Contains(err.Error(), want+": ") {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
	for _, before := range []string{"within 192.0.2.0/24\nall_down sorry.example.net", "all_down sorry.example.net\nwithin 192.0.2.0/24"} {
		if _, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\n" + before + "\n}\n}"); err != nil {
			t.Errorf("with within: %v", err)
		}
	}
}
