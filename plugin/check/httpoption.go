package check

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// httpOptions are the options of http and https alone.
var httpOptions = []string{
	"method", "header", "basic_auth", "bearer", "status", "expect_header", "no_header", "weight_header",
	"body", "body_regex", "no_body", "no_body_regex",
}

// httpSettings are the values of the options of http and https. Their zero value asks with GET, and
// leaves the good statuses to buildHTTP.
type httpSettings struct {
	method   string        // "" for GET
	header   http.Header   // what the operator wrote, by canonical name
	auth     *credential   // nil without basic_auth and bearer
	statuses statuses      // the good ones
	matches  []headerMatch // demands on headers
	wanted   bodyPattern   // what the body must have
	unwanted bodyPattern   // what the body must not have

	weightHeader string // the header with the weight that the backend wants; "" if it says none
}

// setMethod parses the option method. Methods are case-sensitive (RFC 9110, 9.1), and no registered
// one has lower case letters.
func setMethod(s *settings, v []string) (shown []string, hidden []byte, err error) {
	switch method := v[0]; {
	case !isToken(method):
		return nil, nil, fmt.Errorf("invalid method %s: use one such as GET or HEAD", quote(method))
	case method != strings.ToUpper(method):
		return nil, nil, fmt.Errorf("method %s is not in upper case: write %s", quote(method), strings.ToUpper(method))
	// After a CONNECT the peer would take what follows for the tunnel.
	case method == http.MethodConnect:
		return nil, nil, errors.New("CONNECT opens a tunnel and has no answer to judge: use one such as GET or HEAD")
	}
	s.http.method = v[0]
	return v, nil, nil
}

// reservedHeaders are set by the check itself, or decide where the request ends for the peer.
var reservedHeaders = []string{"Connection", "Content-Length", "Trailer", "Transfer-Encoding"}

// setHeader parses the option header. Its errors never quote the value, which may be a token.
func setHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if !isToken(v[0]) {
		return nil, nil, fmt.Errorf("invalid header name %s: use one such as X-Probe", quote(v[0]))
	}
	name := http.CanonicalHeaderKey(v[0])
	switch {
	// net/http sends Request.Host and ignores a header of that name.
	case name == "Host":
		return nil, nil, errors.New("header Host cannot be set here: put the host in the URL")
	case slices.Contains(reservedHeaders, name):
		return nil, nil, fmt.Errorf("header %s is set by the check itself: remove it", name)
	// A line break in a value would let it add headers of its own.
	case strings.ContainsFunc(v[1], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return nil, nil, fmt.Errorf("the value of header %s has a control character: remove it", name)
	}
	if s.http.header == nil {
		s.http.header = http.Header{}
	}
	s.http.header.Add(name, v[1])
	return []string{name, "…"}, []byte(v[1]), nil
}

// setStatus parses the option status. Lists of the same codes are the same check, in whatever order
// they are written.
func setStatus(s *settings, v []string) (shown []string, hidden []byte, err error) {
	s.http.statuses, err = parseStatuses(v[0])
	return []string{s.http.statuses.String()}, nil, err
}

// statuses is a set of status codes: ranges in ascending order that neither overlap nor touch.
type statuses []struct{ low, high int }

// contain reports whether code is in the set.
func (s statuses) contain(code int) bool {
	for _, r := range s {
		if code >= r.low && code <= r.high {
			return true
		}
	}
	return false
}

// String is the list in the format of the option.
func (s statuses) String() string {
	var list []string
	for _, r := range s {
		text := strconv.Itoa(r.low)
		if r.high > r.low {
			text += "-" + strconv.Itoa(r.high)
		}
		list = append(list, text)
	}
	return strings.Join(list, ",")
}

// parseStatuses parses a list such as 200-299,404. Lists of the same codes give the same value,
// however they are written.
func parseStatuses(list string) (statuses, error) {
	// A table of all codes makes sorting, overlaps and duplicates trivial.
	var codes [600]bool
	for item := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		low, lowOK := parseStatus(from)
		high, highOK := parseStatus(to)
		if !lowOK || !highOK || low > high || low < 200 && low != high {
			return nil, fmt.Errorf("invalid status %s: use 101, or codes and ranges from 200 to 599, such as 200-299,404", quote(item))
		}
		for code := low; code <= high; code++ {
			codes[code] = true
		}
	}
	return toRanges(codes[:]), nil
}

// parseStatus parses a final status. Below 200 that is 101 alone (RFC 9110, 15.2): the others
// announce another response, and that one is judged.
func parseStatus(text string) (code int, ok bool) {
	code, err := strconv.Atoi(text)
	final := code == http.StatusSwitchingProtocols || code >= 200 && code <= 599
	return code, err == nil && len(text) == 3 && final
}

// toRanges turns a table of marked codes into ranges.
func toRanges(codes []bool) statuses {
	var s statuses
	for code, in := range codes {
		switch last := len(s) - 1; {
		case !in:
		case last >= 0 && s[last].high == code-1:
			s[last].high = code
		default:
			s = append(s, struct{ low, high int }{code, code})
		}
	}
	return s
}

// isToken is the syntax of method and header names (RFC 9110, 5.6.2).
func isToken(s string) bool {
	const marks = "!#$%&'*+-.^_`|~"
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(marks, r)
	})
}
