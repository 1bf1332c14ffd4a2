package web

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// question is a check as it is asked of one address: an order to a shell that asks it, and its options. Without an order,
// the options are all of the check.
type question struct{ Text, Options string }

// questionTo is what a check over HTTP asks of an address, as an order to curl. Others are as in the Corefile. The values of
// headers and credentials are shown nowhere, and so they are not in it.
func questionTo(check string, at netip.AddrPort, name string) question {
	raw, options, _ := strings.Cut(check, " ")
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return question{Options: check}
	}
	c := curl{at: at, ask: *u}
	c.read(options, name)
	text := c.order()
	if len(c.without) > 0 {
		options += "; the command does without " + strings.Join(c.without, ", ")
	}
	return question{text, options}
}

// curl is what goes into the order.
type curl struct {
	at      netip.AddrPort
	ask     url.URL
	sni     string
	flags   []string
	without []string
}

// arity is how many values the options of a check over HTTP have, where that is not one.
var arity = map[string]int{"header": 2, "expect_header": 2, "no_header": 2, "hold": 0, "insecure": 0, "invert": 0}

// flagsOf are curl's words for options, with their one value behind them if they have one.
var flagsOf = map[string]string{"method": "-X", "insecure": "-k", "ca": "--cacert", "cert": "--cert", "key": "--key"}

// read takes in the options of a canonical check.
func (c *curl) read(options, owner string) {
	for rest := options; rest != ""; {
		var option string
		option, rest = firstWord(rest)
		n, special := arity[option]
		if !special {
			n = 1
		}
		value := ""
		for i := range n {
			var v string
			if v, rest = firstWord(rest); i == 0 {
				value = v
			}
		}
		c.take(option, value, owner)
	}
}

func (c *curl) take(option, value, owner string) {
	switch option {
	case "host":
		c.ask.Host = net.JoinHostPort(strings.TrimSuffix(owner, "."), c.ask.Port())
	case "server_name":
		c.sni = value
	case "header", "basic_auth", "bearer":
		c.without = append(c.without, option+" "+value)
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
		if flag := flagsOf[option]; flag != "" {
			c.flags = append(c.flags, strings.TrimSpace(flag+" "+shellValue(value)))
		}
	}
}

// order puts it together. The host is whom to ask for, and the address is what to connect to.
func (c *curl) order() string {
	words := append([]string{"curl -i"}, c.flags...)
	host := c.ask.Hostname()
	if host == "" {
		host = c.at.Addr().WithZone("").String()
	}
	asked := c.authority(host)
	if c.sni != "" && c.sni != host {
		words = append(words, "-H "+shell("Host: "+asked))
		host = c.sni
	}
	c.ask.Host = c.authority(host)
	if addr, err := netip.ParseAddr(host); err != nil || addr != c.at.Addr().WithZone("") {
		words = append(words, "--connect-to "+shell("::"+c.at.String()))
	}
	if strings.ContainsAny(c.ask.RequestURI(), "[]{}") {
		words = append(words, "-g") // or curl takes them for several questions
	}
	return strings.Join(append(words, shell(c.ask.String())), " ")
}

// authority is a host with the port that is dialled, which need not be said where it is the scheme's.
func (c *curl) authority(host string) string {
	usual := map[string]uint16{"http": 80, "https": 443}[c.ask.Scheme]
	if c.at.Port() != usual {
		return net.JoinHostPort(host, strconv.Itoa(int(c.at.Port())))
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// firstWord cuts a word off, which may be quoted as Go quotes.
func firstWord(text string) (word, rest string) {
	if quoted, err := strconv.QuotedPrefix(text); err == nil && text[0] == '"' {
		word, _ = strconv.Unquote(quoted)
		return word, strings.TrimPrefix(text[len(quoted):], " ")
	}
	word, rest, _ = strings.Cut(text, " ")
	return word, rest
}

func shellValue(word string) string {
	if word == "" {
		return ""
	}
	return shell(word)
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9:/._%@+,-][A-Za-z0-9:/._%=@+,~-]*$`)

// shell quotes a word where a shell would make something else of it: not only whoever runs the server says what to ask.
func shell(word string) string {
	if harmless.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
