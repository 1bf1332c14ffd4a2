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

// content is what a body has.
type bodyPattern struct {
	text  string         // "": not asked for
	regex *regexp.Regexp // nil: not asked for
}

func (c *bodyPattern) asked() bool { return c.text != "" || c.regex != nil }

func (h *httpSettings) wantsBody() bool { return h.wanted.asked() || h.unwanted.asked() }

func setBody(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.wanted.setText(v[0])
}

func setBodyRegex(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.wanted.setRegex(v[0])
}

func setNoBody(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.unwanted.setText(v[0])
}

func setNoBodyRegex(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return v, nil, s.http.unwanted.setRegex(v[0])
}

func (c *bodyPattern) setText(text string) error {
	if text == "" || len(text) > bodyLimit {
		return fmt.Errorf("the text has %d bytes: write 1 to %d", len(text), bodyLimit)
	}
	c.text = text
	return nil
}

func (c *bodyPattern) setRegex(text string) (err error) {
	if text == "" {
		return errors.New("empty expression would match every body: write one, or remove the option")
	}
	c.regex, err = regexp.Compile(text)
	return err
}

// judgeBody searches the first bodyLimit bytes. A text is good as soon as it is there, even if the peer then fails;
// a regular expression may have something to say about the end, and what must not be there may come at the end, so
// both wait for one.
func (h *httpCheck) judgeBody(response *http.Response) error {
	body, err := h.decoded(response)
	if err != nil && err != io.EOF { // which is that of an empty body
		return bodyFailure(h.redacted(err)) // else an expression that matches nothing at all would be content
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

// demand says what of the content a body lacks; ended is the failure that cut it short, if one did.
func (c *bodyPattern) judgeWanted(body []byte, ended error) error {
	switch {
	case c.textIn(body) && (c.regex == nil || c.regex.Match(body)):
		return nil
	case ended != nil:
		return bodyFailure(ended)
	case !c.textIn(body):
		return fmt.Errorf("body does not contain %s", quote(c.text))
	}
	return fmt.Errorf("body does not match %s", quote(c.regex.String()))
}

// refuse says what of the content a body has. Of a body that was cut short nobody knows what else it has.
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

// discreet is a failure without words that may be the peer's, where we may have told it a secret.
func (h *httpCheck) redacted(err error) error {
	if err != nil && h.sendsSecret() && strings.Contains(describe(err), `"`) {
		return phrase("malformed")
	}
	return err
}

func (c *bodyPattern) textIn(body []byte) bool { return bytes.Contains(body, []byte(c.text)) }

// decoded undoes compression. In a coding that was not asked for nothing can be found, nor be missed.
func (h *httpCheck) decoded(response *http.Response) (io.Reader, error) {
	var codings []string
	for coding := range strings.SplitSeq(strings.Join(response.Header["Content-Encoding"], ","), ",") {
		if coding = strings.ToLower(strings.TrimSpace(coding)); coding != "" && coding != "identity" {
			codings = append(codings, coding)
		}
	}
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

// A match is what a header must, or must not, be like.
type headerMatch struct {
	name   string
	regex  *regexp.Regexp
	wanted bool
}

// framing are headers that [http.ReadResponse] takes for itself, so that they are not there to be judged.
var connectionHeaders = []string{"Connection", "Trailer", "Transfer-Encoding"}

func setExpectHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.addMatch(v, true)
}

func setNoHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return s.http.addMatch(v, false)
}

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

// judge says what is wrong with the headers. One of the values that a header has is enough.
func (m *headerMatch) judgeHeader(header http.Header) error {
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
