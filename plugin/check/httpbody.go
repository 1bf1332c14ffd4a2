package check

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A bodyPattern is what a body must have, or must not have: a text, a match of an expression, or
// both.
type bodyPattern struct {
	text  string         // "" if not asked for
	regex *regexp.Regexp // nil if not asked for
}

// asked reports whether the pattern demands anything.
func (c *bodyPattern) asked() bool { return c.text != "" || c.regex != nil }

// wantsBody reports whether the body must be read at all.
func (h *httpSettings) wantsBody() bool { return h.wanted.asked() || h.unwanted.asked() }

// setBody parses the option body.
func setBody(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.wanted.setText(v[0])
}

// setBodyRegex parses the option body_regex.
func setBodyRegex(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.wanted.setRegex(v[0])
}

// setNoBody parses the option no_body.
func setNoBody(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.unwanted.setText(v[0])
}

// setNoBodyRegex parses the option no_body_regex.
func setNoBodyRegex(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.unwanted.setRegex(v[0])
}

// setText stores a text. One longer than bodyLimit could never be found.
func (c *bodyPattern) setText(text string) error {
	if text == "" || len(text) > bodyLimit {
		return fmt.Errorf("the text has %d bytes: write 1 to %d", len(text), bodyLimit)
	}
	c.text = text
	return nil
}

// setRegex compiles an expression. An empty one is refused, because it would match every body and
// test nothing.
func (c *bodyPattern) setRegex(text string) (err error) {
	if text == "" {
		return errors.New("empty expression would match every body: write one, or remove the option")
	}
	c.regex, err = regexp.Compile(text)
	return err
}

// judgeBody searches the first bodyLimit bytes. A wanted text counts as soon as it is there, even
// if the peer fails later. An expression may refer to the end, and what must not occur may come
// last, so both wait for the end or the limit.
func (h *httpCheck) judgeBody(response *http.Response) error {
	body, err := h.decoded(response)
	if err != nil && err != io.EOF { // EOF is an empty body
		return bodyFailure(h.redacted(err)) // otherwise an unwanted pattern would pass on a body that was not read
	}
	atOnce := h.wanted.regex == nil && !h.unwanted.asked()
	buf := make([]byte, 0, bodyLimit)

	for err == nil && len(buf) < cap(buf) {
		var n int
		n, err = body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if atOnce && h.wanted.textIn(buf) {
			return nil
		}
	}
	if err == io.EOF {
		err = nil
	}
	err = h.redacted(err)
	if err := h.unwanted.judgeUnwanted(buf, err); err != nil {
		return err
	}
	return h.wanted.judgeWanted(buf, err)
}

// judgeWanted returns what the body lacks of the pattern. ended is the failure that cut the body
// short, nil for none: a pattern that was not found in half a body is no proof, so the failure is
// the reason.
func (c *bodyPattern) judgeWanted(body []byte, ended error) error {
	switch {
	case c.textIn(body) && (c.regex == nil || c.regex.Match(body)):
		return nil
	// What is missing may have been in the part that did not come.
	case ended != nil:
		return bodyFailure(ended)
	case !c.textIn(body):
		return fmt.Errorf("body does not contain %s", quote(c.text))
	}
	return fmt.Errorf("body does not match %s", quote(c.regex.String()))
}

// judgeUnwanted returns what the body has of the pattern. The rest of a body that was cut short is
// unknown, so then the failure is the reason.
func (c *bodyPattern) judgeUnwanted(body []byte, ended error) error {
	switch {
	case c.text != "" && c.textIn(body):
		return fmt.Errorf("body contains %s", quote(c.text))
	case c.regex != nil && c.regex.Match(body):
		return fmt.Errorf("body matches %s", quote(c.regex.String()))
	case c.asked() && ended != nil:
		return bodyFailure(ended)
	}
	return nil
}

// redacted removes quoted text of the peer from an error, if the peer was told a secret that it may
// repeat.
func (h *httpCheck) redacted(err error) error {
	if err != nil && h.sendsSecret() && strings.Contains(describe(err), `"`) {
		return phrase("malformed")
	}
	return err
}

// textIn reports whether the body contains the text, which "" always does.
func (c *bodyPattern) textIn(body []byte) bool { return bytes.Contains(body, []byte(c.text)) }

// decoded undoes compression. A coding that we did not ask for is an error: in such a body nothing
// can be found, nor be missed.
func (h *httpCheck) decoded(response *http.Response) (io.Reader, error) {
	var codings []string
	for coding := range strings.SplitSeq(strings.Join(response.Header["Content-Encoding"], ","), ",") {
		if coding = strings.ToLower(strings.TrimSpace(coding)); coding != "" && coding != "identity" {
			codings = append(codings, coding)
		}
	}
	// The codings are in the order in which they were applied, so more than one is never just gzip.
	switch all := strings.Join(codings, ", "); all {
	case "":
		return response.Body, nil
	case "gzip", "x-gzip": // RFC 9110, 8.4.1.3
		return gzip.NewReader(response.Body)
	default:
		if h.sendsSecret() {
			return nil, phrase("unknown content coding")
		}
		return nil, phrase("unknown content coding " + quote(all))
	}
}

// A headerMatch is one demand on a header of the response.
type headerMatch struct {
	name   string // in canonical form
	regex  *regexp.Regexp
	wanted bool // a value must match; otherwise none may
}

// connectionHeaders are removed by [http.ReadResponse], so a check can never see them.
var connectionHeaders = []string{"Connection", "Trailer", "Transfer-Encoding"}

// setExpectHeader parses the option expect_header: a header that must be there, with a value that
// matches.
func setExpectHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.addMatch(v, true)
}

// setNoHeader parses the option no_header: a header with a matching value fails the check, a
// missing one does not.
func setNoHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.addMatch(v, false)
}

// addMatch validates and adds a demand on a header.
func (h *httpSettings) addMatch(v []string, wanted bool) (shown []string, hidden []byte, err error) {
	if !isToken(v[0]) {
		return nil, nil, fmt.Errorf("invalid header name %s: use one such as X-Probe", quote(v[0]))
	}
	name := http.CanonicalHeaderKey(v[0])
	if slices.Contains(connectionHeaders, name) {
		return nil, nil, fmt.Errorf("header %s is about the connection and is not tested: remove the option", name)
	}
	regex, err := regexp.Compile(v[1])
	if err != nil {
		return nil, nil, err
	}
	h.matches = append(h.matches, headerMatch{name, regex, wanted})
	return []string{name, v[1]}, nil, nil
}

// judgeHeader applies the demand. If a header has several values, one that matches is enough, to
// pass as well as to fail.
func (m *headerMatch) judgeHeader(header http.Header) error {
	// Header fields may be repeated (RFC 9110, 5.3); each value is matched on its own.
	values := header[m.name]
	for _, v := range values {
		if m.regex.MatchString(v) {
			if m.wanted {
				return nil
			}
			return fmt.Errorf("header %s matches %s", quote(m.name), quote(m.regex.String()))
		}
	}
	switch {
	case !m.wanted:
		return nil
	case len(values) == 0:
		return fmt.Errorf("no header %s", quote(m.name))
	}
	return fmt.Errorf("header %s does not match %s", quote(m.name), quote(m.regex.String()))
}
