package corefile

import (
	"runtime"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// parseProtocol parses the one stanza of a server block, which has a check on one line or on several.
func parseProtocol(check string) (*Config, error) {
	text := "example.org {\n multivalue {\n" + check + "\n }\n}"
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(text), nil)
	if err != nil {
		return nil, err
	}
	tokens := caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens["multivalue"])
	configs, err := Parse(&caddy.Controller{Dispenser: tokens, ServerBlockKeys: blocks[0].Keys})
	if err != nil {
		return nil, err
	}
	return configs[0], nil
}

// A Corefile can use every protocol, with options on the line and in a block.
func TestParseProtocols(t *testing.T) {
	for corefile, want := range map[string]string{
		"check dns://:53/example.org?type=SOA authoritative":                         "dns://:53/example.org?type=SOA authoritative",
		"check dns:///example.org rcode NOERROR,NXDOMAIN answer ^192\\.0\\.2\\. tcp": `dns://:53/example.org rcode NOERROR,NXDOMAIN answer ^192\.0\.2\. tcp`,
		"check dot://ns1.example.org/example.org":                                    "dot://ns1.example.org/example.org",
		"check icmp:":                                      "icmp://",
		"check grpc://:50051/my.Service":                   "grpc://:50051/my.Service",
		"check grpcs://:50051 server_name api.example.org": "grpcs://:50051 server_name api.example.org",
		"check redis:// role master":                       "redis://:6379 role master",
		"check rediss://cache.example.org":                 "rediss://cache.example.org",
		"check postgres://db.example.org starttls":         "postgres://db.example.org starttls",
		"check mysql:// {\n starttls\n insecure\n}":        "mysql://:3306 starttls insecure",
		"check exec://:5432 {\n command /bin/sh -c \"exec true $1 $2\" sh # all of it\n}": `exec://:5432 command /bin/sh -c "exec true $1 $2" sh`,
		"check exec://:5432 {\n command /bin/true invert\n invert\n}":                     "exec://:5432 invert command /bin/true invert",
		"check exec://:5432 {\n invert\n command /bin/true command /bin/true insecure\n}": "exec://:5432 invert command /bin/true command /bin/true insecure",
	} {
		if strings.Contains(corefile, "exec") && runtime.GOOS != "linux" {
			continue
		}
		config, err := parseProtocol(corefile)
		if err != nil {
			t.Errorf("%s: %v", corefile, err)
		} else if got := config.Checks[0].String(); got != want {
			t.Errorf("%s: %s, want %s", corefile, got, want)
		}
	}
	for corefile, want := range map[string]string{
		"check exec://:5432 command /bin/true":          "Corefile:3 - Error during parsing: check: option command takes all values that follow: put it in a block, on a line of its own",
		"check exec://:5432":                            "Corefile:3 - Error during parsing: check: exec needs a program",
		"check exec://:5432 {\n\n command /bin/none\n}": "Corefile:5 - Error during parsing: check: option command: stat /bin/none: no such file or directory",
		"check exec:// {\n command /bin/true\n}":        "Corefile:3 - Error during parsing: check exec:// command /bin/true names no port, and only SRV records do: add one, as in exec://:80, or",
		"check grpc://":                                 "names no port",
		"check dns://:53":                               "Corefile:3 - Error during parsing: check: url of scheme dns has no name to query",
		"check dns:///a rcod NOERROR":                   `unknown option "rcod"`,
		"check icmp://:80":                              "icmp has no ports",
	} {
		if _, err := parseProtocol(corefile); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant\n%s", corefile, err, want)
		}
	}
}
