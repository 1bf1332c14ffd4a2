package web

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// curlCommand shows a check as asked of one address: a shell command that asks the same, and the options of the check. If
// Command is empty, Options is the whole check.
type curlCommand struct{ Command, Options string }

// commandWord is a word of a command, with the space behind it.
type commandWord string

// Words returns the words of the command. Together they are the command.
func (c curlCommand) Words() (words []commandWord) {
	for word := range strings.SplitAfterSeq(c.Command, " ") {
		words = append(words, commandWord(word))
	}
	return words
}

// IsFlag reports whether a browser must not break the line inside the word, which it would do after the hyphen.
func (w commandWord) IsFlag() bool { return strings.HasPrefix(string(w), "-") && len(w) < 24 }

// curlFor returns the curl command for a check over HTTP, so that an operator can repeat a failing probe by hand. Other checks
// are shown as they stand in the Corefile. check is the canonical text, and name the owner for checks with "host owner".
//
// The page never shows the values of headers or credentials, so the command is without them, and says so.
func curlFor(check string, at netip.AddrPort, name string) curlCommand {
	raw, options, _ := strings.Cut(check, " ") // a canonical URL contains no space
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return curlCommand{Options: check}
	}
	c := curlBuilder{at: at, url: *u}
	c.parseOptions(options, name)
	text := c.command()
	if len(c.omitted) > 0 {
		options += "; the command leaves out " + strings.Join(c.omitted, ", ")
	}
	return curlCommand{text, options}
}

// curlBuilder collects the parts of a command.
type curlBuilder struct {
	at      netip.AddrPort // where to connect to
	url     url.URL        // what to ask for
	sni     string         // the TLS server name, if it is not the host of the URL
	flags   []string       // of curl, quoted
	omitted []string       // options that the command does not have
}

// valueCount is how many values an option of a check has. An option that is not listed has one. Keep it in step with the
// options of package check.
var valueCount = map[string]int{"header": 2, "expect_header": 2, "no_header": 2, "hold": 0, "reuse": 0, "insecure": 0, "invert": 0, "proxy_protocol": 0}

// curlFlags are the flags of curl for options that mean the same. The value of the option, if any, follows the flag.
var curlFlags = map[string]string{"method": "-X", "insecure": "-k", "ca": "--cacert", "cert": "--cert", "key": "--key",
	"proxy_protocol": "--haproxy-protocol"}

// parseOptions reads the options from the canonical text of a check.
func (c *curlBuilder) parseOptions(options, owner string) {
	for rest := options; rest != ""; { // each turn cuts off one option with its values
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

// addOption adds what an option changes in the command. Options that only judge the response, such as status, change nothing.
func (c *curlBuilder) addOption(option, value, owner string) {
	switch option {
	case "host": // host owner: each name is asked for by its own name
		c.url.Host = net.JoinHostPort(strings.TrimSuffix(owner, "."), c.url.Port())
	case "server_name":
		c.sni = value
	case "header", "basic_auth", "bearer": // the page does not know their values
		c.omitted = append(c.omitted, option+" "+value)
	case "alpn":
		if flag, ok := map[string]string{"http/1.1": "--http1.1", "h2": "--http2"}[value]; ok {
			c.flags = append(c.flags, flag)
		}
	case "from": // one option for each family; the other does not matter here
		if addr, err := netip.ParseAddr(value); err == nil && addr.Is4() == c.at.Addr().Is4() {
			c.flags = append(c.flags, "--interface "+value)
		}
	case "method":
		if value == "HEAD" {
			c.flags = append(c.flags, "-I") // -X HEAD would wait for a body that never comes
			return
		}
		fallthrough
	default:
		if option == "cert" {
			value = strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(value) // curl takes what follows a colon for a password
		}
		if flag := curlFlags[option]; flag != "" {
			c.flags = append(c.flags, strings.TrimSpace(flag+" "+quoteOptional(value)))
		}
	}
}

// command builds the command. The URL has the host to ask for, and --connect-to has the address to connect to, if that differs.
// curl takes the TLS server name from the URL; if the check has another one, the URL gets that and a Host header the host.
func (c *curlBuilder) command() string {
	words := append([]string{"curl -i"}, c.flags...)
	host := c.url.Hostname()
	if host == "" { // a URL without a host, such as http://:8080/, asks for the address itself
		host = c.at.Addr().WithZone("").String()
	}
	asked := c.authority(host) // what the Host header must say
	if c.sni != "" && c.sni != host {
		words = append(words, "-H "+shellQuote("Host: "+asked))
		host = c.sni
	}
	c.url.Host = c.authority(host)
	// The host in the URL may be a name that resolves elsewhere, or not at all: connect to the address of the target.
	if addr, err := netip.ParseAddr(host); err != nil || addr != c.at.Addr().WithZone("") {
		words = append(words, "--connect-to "+shellQuote("::"+c.at.String()))
	}
	if strings.ContainsAny(c.url.RequestURI(), "[]{}") {
		words = append(words, "-g") // otherwise curl expands brackets to several requests
	}
	return strings.Join(append(words, shellQuote(c.url.String())), " ")
}

// authority returns a host with the dialled port, which is left out if it is the default of the scheme.
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

// cutWord cuts off the first word, which may be quoted as in Go.
func cutWord(text string) (word, rest string) {
	if quoted, err := strconv.QuotedPrefix(text); err == nil && text[0] == '"' {
		word, _ = strconv.Unquote(quoted)
		return word, strings.TrimPrefix(text[len(quoted):], " ")
	}
	word, rest, _ = strings.Cut(text, " ")
	return word, rest
}

// quoteOptional quotes the value of a flag, and leaves out an empty one.
func quoteOptional(word string) string {
	if word == "" {
		return ""
	}
	return shellQuote(word)
}

// safeWord matches words that no shell changes. A word must not begin with a tilde or an equals sign, which some shells expand.
var safeWord = regexp.MustCompile(`^[A-Za-z0-9:/._%@+,-][A-Za-z0-9:/._%=@+,~-]*$`)

// shellQuote quotes a word for a POSIX shell, unless it is safe. This is a matter of security: the text of a check may come from
// the owner of a Service, and an operator pastes the command into a shell.
func shellQuote(word string) string {
	if safeWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
