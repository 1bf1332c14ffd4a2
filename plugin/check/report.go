package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// Some checks learn from an answer what the backend says of itself. Few do, so that is not a result of [Check.Probe]: who
// wants to know listens, as with net/http/httptrace.

// reportKey is the key of the report that a probe writes to.
type reportKey struct{}

// Listen returns a context for a probe that writes to the report what the backend says of itself. The report must not be
// touched before the probe has returned.
func Listen(ctx context.Context, to *report.Report) context.Context {
	return context.WithValue(ctx, reportKey{}, to)
}

// Reported is where a probe with that context has to write what the backend says of itself; nil if it need not.
func Reported(ctx context.Context) *report.Report {
	to, _ := ctx.Value(reportKey{}).(*report.Report)
	return to
}

// Reports reports whether answers may say something of the backend, so that a probe is worth listening to.
func (c *Check) Reports() bool { return c.reports }

// setWeightHeader parses the option weight_header.
func setWeightHeader(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if !isToken(v[0]) {
		return nil, nil, fmt.Errorf("invalid header name %s: use one such as X-Weight", quote(v[0]))
	}
	name := http.CanonicalHeaderKey(v[0])
	if slices.Contains(connectionHeaders, name) {
		return nil, nil, fmt.Errorf("header %s is about the connection and has no weight: use one such as X-Weight", name)
	}
	s.http.weightHeader = name
	return []string{name}, nil, nil
}

// checkWeightHeader refuses weight_header where a good answer is one that fails.
func (s *spec) checkWeightHeader() error {
	if s.http.weightHeader != "" && s.invert {
		return s.optionError("weight_header", errors.New("cannot be used together with invert: remove one of the two"))
	}
	s.reports = s.reports || s.http.weightHeader != ""
	return nil
}

// listening is the check for one probe, which notes what the answer says. It is the check itself if nothing is to be noted.
func (h *httpCheck) listening(ctx context.Context) *httpCheck {
	to := Reported(ctx)
	if h.weightHeader == "" || to == nil {
		return h
	}
	probe := *h
	probe.report = to
	return &probe
}

// noteWeight notes the weight in the header of a good answer. Without that header the backend wants all of its weight. Of
// several values the last counts, as the last word of an agent does.
func (h *httpCheck) noteWeight(header http.Header) {
	if h.report == nil {
		return
	}
	values := header[h.weightHeader]
	if len(values) == 0 {
		h.report.HasWeight, h.report.Weight = true, 100
		return
	}
	text := strings.Trim(values[len(values)-1], " \t")
	digits := strings.TrimRight(strings.TrimSuffix(text, "%"), " \t")
	weight, _ := parseWeight(digits)
	if weight < 0 {
		noteInvalidWeight(h.report, text, !h.sendsSecret())
		return
	}
	h.report.HasWeight, h.report.Weight = true, uint8(weight)
}
