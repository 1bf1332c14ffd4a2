package web

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// curlCommand is a check as it is asked of one address: an order to a shell that asks it, and its options. Without an order,
// the options are all of the check.
type curlCommand struct{ Command, Options string }

// curlFor is what a check over HTTP asks of an address, as an order to curl. Others are as in the Corefile. The values of
// headers and credentials are shown nowhere, and so they are not in it.
func curlFor(check string, at netip.AddrPort, name string) curlCommand {
	raw, options, _ := strings.Cut(check, " ")
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return curlCommand{Options: check}
	}
	c := curlBuilder{at: at, url: *u}
	c.parseOptions(options, name)
	text := c.command()
	if len(c.omitted) > 0 {
		options += "; the command does without " + strings.Join(c.omitted, ", ")
	}
	return curlCommand{text, options}
}

// curlBuilder is what goes into the order.
type curlBuilder struct {
	at      netip.AddrPort
	url     url.URL
	sni     string
	flags   []string
	omitted []string
}

// valueCount is how many values the options of a check over HTTP have, where that is not one.
var valueCount = map[string]int{"header": 2, "expect_header": 2, "no_header": 2, "hold": 0, "insecure": 0, "invert": 0}

// curlFlags are curl's words for options, with their one value behind them if they have one.
var curlFlags = map[string]string{"method": "-X", "insecure": "-k", "ca": "--cacert", "cert": "--cert", "key": "--key"}

// parseOptions takes in the options of a canonical check.
func (c *curlBuilder) parseOptions(options, owner string) {
	for rest := options; rest != ""; {
		var option string
		option, rest = cutWord(rest)
		n, special := valueCount[option]
		if !special {
			n = 1
		}
		value := ""
		for i := range n {
			var v string
			if v, rest = cutWord(rest); i == 0 {
				value = v
			}
		}
		c.addOption(option, value, owner)
	}
}

func (c *curlBuilder) addOption(option, value, owner string) {
	switch option {
	case "host":
		c.url.Host = net.JoinHostPort(strings.TrimSuffix(owner, "."), c.url.Port())
	case "server_name":
		c.sni = value
	case "header", "basic_auth", "bearer":
		c.omitted = append(c.omitted, option+" "+value)
	case "alpn":
		if flag, ok := map[string]string{"http/1.1": "--http1.1", "h2": "--http2"}[value]; ok {
			c.flags = append(c.flags, flag)
		}
	case "from":
		if addr, err := netip.ParseAddr(value); err == nil && addr.Is4() == c.at.Addr().Is4() {
			c.flags = append(c.flags, "--interface "+value)
		}
	case "method":
		if value == "HEAD" {
			c.flags = append(c.flags, "-I") // which does not wait for a body
			return
		}
		fallthrough
	default:
		if option == "cert" {
			value = strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(value) // a password would follow a colon
		}
		if flag := curlFlags[option]; flag != "" {
			c.flags = append(c.flags, strings.TrimSpace(flag+" "+quoteOptional(value)))
		}
	}
}

// command puts it together. The host is whom to ask for, and the address is what to connect to.
func (c *curlBuilder) command() string {
	words := append([]string{"curl -i"}, c.flags...)
	host := c.url.Hostname()
	if host == "" {
		host = c.at.Addr().WithZone("").String()
	}
	asked := c.authority(host)
	if c.sni != "" && c.sni != host {
		words = append(words, "-H "+shellQuote("Host: "+asked))
		host = c.sni
	}
	c.url.Host = c.authority(host)
	if addr, err := netip.ParseAddr(host); err != nil || addr != c.at.Addr().WithZone("") {
		words = append(words, "--connect-to "+shellQuote("::"+c.at.String()))
	}
	if strings.ContainsAny(c.url.RequestURI(), "[]{}") {
		words = append(words, "-g") // or curl takes them for several questions
	}
	return strings.Join(append(words, shellQuote(c.url.String())), " ")
}

// authority is a host with the port that is dialled, which need not be said where it is the scheme's.
func (c *curlBuilder) authority(host string) string {
	usual := map[string]uint16{"http": 80, "https": 443}[c.url.Scheme]
	if c.at.Port() != usual {
		return net.JoinHostPort(host, strconv.Itoa(int(c.at.Port())))
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// cutWord cuts a word off, which may be quoted as Go quotes.
func cutWord(text string) (word, rest string) {
	if quoted, err := strconv.QuotedPrefix(text); err == nil && text[0] == '"' {
		word, _ = strconv.Unquote(quoted)
		return word, strings.TrimPrefix(text[len(quoted):], " ")
	}
	word, rest, _ = strings.Cut(text, " ")
	return word, rest
}

func quoteOptional(word string) string {
	if word == "" {
		return ""
	}
	return shellQuote(word)
}

var safeWord = regexp.MustCompile(`^[A-Za-z0-9:/._%@+,-][A-Za-z0-9:/._%=@+,~-]*$`)

// shellQuote quotes a word where a shell would make something else of it: not only whoever runs the server says what to ask.
func shellQuote(word string) string {
	if safeWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
